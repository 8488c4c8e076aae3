"""The eyes of a model in the trial run: as many images as one batch may hold, each of the largest size.

Rules: one image of the largest size is encoded even where the batch is smaller (``multimodal/encoder_budget.py``); a tower
that takes any size (Qwen) has 16,384 tokens an image at most by its preprocessor's largest size, less with ``max_pixels`` in
``mm_processor_kwargs``; a tower of one size (SigLIP) takes as many images as fit into the batch. Per patch are alive at once:
its MLP (2 or, gated, 3 x inner), 5 x its hidden size, and its share of the output: two logs, of Qwen3.5 at 0.27 and 0.29, say
1.84 and 1.89 GiB where this makes 1.91; 0.85 and 1.35 of it are the bounds. A tower whose numbers are not known takes 0.5 to 3
GiB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Optional

from ...settings.sizes import GIB, MIB
from ..architecture import Architecture
from ..arguments import Arguments, as_object
from .estimate import Estimate
from .tower import Tower

UNKNOWN = Estimate(GIB // 2, 3 * GIB // 2, 3 * GIB)
LARGEST = 16384  # tokens of one image: Qwen's preprocessors


@dataclass(frozen=True)
class Load:
    """What is encoded at once."""

    patches: int
    tokens: int


def encoder(arch: Architecture, args: Arguments) -> Estimate:
    """The peak while images are encoded, on one rank."""
    tower, load = arch.vision, _load(arch, args)
    if tower is None or load is None:
        return UNKNOWN
    alone = args.given.get("mm-encoder-tp-mode") == "data"
    tp = 1 if alone else args.tp
    width = ((3 if tower.gated else 2) * tower.inner + 3 * tower.hidden) // tp + 2 * tower.hidden
    output = load.tokens * arch.hidden
    return Estimate.about((load.patches * width + output) * 2, 0.85, 1.35)


def cache(arch: Architecture, args: Arguments) -> Estimate:
    """What stays of the images while the layers run."""
    load = _load(arch, args)
    return Estimate.about(load.tokens * arch.hidden * 2, 1, 1) if load else Estimate(0, 128 * MIB, 256 * MIB)


def _load(arch: Architecture, args: Arguments) -> Optional[Load]:
    tower = arch.vision
    if tower is None or not tower.hidden or not tower.patch:
        return None
    if tower.image and not tower.any_size:
        patches = (tower.image // tower.patch) ** 2
        tokens = tower.tokens or max(patches // tower.merge**2, 1)
        images = max(args.batched // tokens, 1)
        limit = as_object(args.given.get("limit-mm-per-prompt")).get("image")
        images = min(images, max(limit, 1) * args.sequences) if isinstance(limit, int) else images
        return Load(patches * images, tokens * images)
    tokens = _largest(tower, as_object(args.given.get("mm-processor-kwargs")))
    return Load(tokens * tower.merge**2, tokens)


def _largest(tower: Tower, kwargs: Mapping[str, Any]) -> int:
    """Tokens of the largest image."""
    size = kwargs.get("size")
    pixels = kwargs.get("max_pixels") or (size.get("longest_edge") if isinstance(size, dict) else None)
    if not isinstance(pixels, int):
        return LARGEST
    return min(max(pixels // (tower.patch * tower.merge) ** 2, 1), LARGEST)
