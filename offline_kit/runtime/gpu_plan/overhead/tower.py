"""The eyes of a model: what of ``vision_config`` decides how much memory looking at an image takes.

Rules: ``subset`` keeps numbers only; a tower whose numbers have other names is one of which nothing is known, which is not the
same as none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional

_KEYS = {
    "hidden": ("embed_dim", "hidden_size"),
    "inner": ("intermediate_size",),
    "patch": ("patch_size",),
    "merge": ("spatial_merge_size",),
    "image": ("image_size",),
}
# Towers that take images of any size, up to their preprocessor's limit, and those with gate and up in their MLP.
_ANY_SIZE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe")
_GATED = ("qwen2_5_vl", "pixtral", "glm4v", "glm4v_moe")


@dataclass(frozen=True)
class Tower:
    """Sizes of one tower, 0 for what is not known. ``tokens``: of one image, where the model says it."""

    hidden: int = 0
    inner: int = 0
    patch: int = 0
    merge: int = 1
    image: int = 0
    tokens: int = 0
    any_size: bool = False
    gated: bool = False


def subset(config: Mapping[str, Any]) -> Dict[str, Any]:
    """The part of a ``vision_config`` that ``read`` looks at."""
    names = [name for group in _KEYS.values() for name in group]
    return {
        "model_type": str(config.get("model_type", "")),
        **{name: config[name] for name in names if isinstance(config.get(name), int) and not isinstance(config[name], bool)},
    }


def read(config: Mapping[str, Any]) -> Optional[Tower]:
    """The tower of a model with this config.json, or None where it has none."""
    args = config.get("vision_config")
    if args is None:
        return None
    args = args if isinstance(args, dict) else {}
    kind = str(args.get("model_type") or config.get("model_type", ""))
    sizes = {key: next((args[name] for name in names if isinstance(args.get(name), int)), 0) for key, names in _KEYS.items()}
    tokens = config.get("mm_tokens_per_image")
    return Tower(
        hidden=sizes["hidden"],
        inner=sizes["inner"] or 4 * sizes["hidden"],
        patch=sizes["patch"],
        merge=sizes["merge"] or 1,
        image=sizes["image"],
        tokens=tokens if isinstance(tokens, int) else 0,
        any_size=kind in _ANY_SIZE,
        gated=kind in _GATED,
    )
