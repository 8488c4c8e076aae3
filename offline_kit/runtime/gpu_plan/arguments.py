"""The arguments of one engine that decide how much memory it takes, as vLLM fills them in.

Rules: read once, from models.json and vllm_config.yaml together; what is not given takes vLLM's default for the card and the
version; a value that is of another kind than expected is taken as not given. Defaults (``engine/arg_utils.py``
get_batch_defaults, API server): 2048 batched tokens and 256 sequences; 8192 and 1024 on cards of 70 GiB and more that are no
A100, 16384 from 160 GiB (since 0.28); at least ``max_model_len`` tokens for an encoder; never more than sequences x
``max_model_len``, and never more sequences than tokens. Sizes of CUDA graphs: ``config/vllm.py`` _set_cudagraph_sizes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional, Tuple

from ..serve import merged
from ..settings.model import Model, Settings
from ..settings.sizes import GIB, parse_bytes
from .architecture import Architecture
from .gpus import Gpu
from .vllm_version import Vllm
from .weight_memory import DTYPE_BYTES

FULL_MODES = ("FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
MOST_STAGES, LARGEST_GRAPH = 4096, 1 << 16  # what is above is a slip, and would be counted one by one
MOST_GIB = 1 << 20
_EAGER_LEVELS = ("0", "O0")


@dataclass(frozen=True)
class Arguments:
    """What one engine was given. ``given``: every argument by its name; sizes in bytes."""

    given: Mapping[str, Any]
    vllm: Vllm
    device: str
    pooling: bool
    tp: int
    pp: int
    dp: int
    length: int
    sequences: int
    batched: int
    dtype_bytes: int
    kv_dtype: str
    speculative: int
    graph_mode: str
    graph_sizes: Tuple[int, ...]

    def integer(self, name: str, default: int) -> int:
        """The number given as ``name``."""
        return _integer(self.given, name, default)

    def number(self, name: str) -> float:
        """The number given as ``name``, as one or in words of the command line ("10"); 0 where it is none above 0."""
        value = self.given.get(name)
        try:
            found = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else 0.0
        except ValueError:
            return 0.0
        return found if 0 < found < MOST_GIB else 0.0

    def on(self, name: str, default: bool = False) -> bool:
        """Whether the switch ``name`` is on."""
        value = self.given.get(name, default)
        return value if isinstance(value, bool) else default

    def size(self, name: str) -> Optional[int]:
        """The bytes given as ``name``."""
        try:
            return parse_bytes(self.given[name])
        except (KeyError, ValueError):
            return None

    @property
    def full_graphs(self) -> bool:
        """Whether whole decoding steps are captured."""
        return self.graph_mode in FULL_MODES

    @property
    def graphs(self) -> int:
        """How many CUDA graphs are captured: pieces for every size, and whole steps for the sizes of a decoding batch."""
        decode = sum(1 for size in self.graph_sizes if size <= self.sequences * (1 + self.speculative))
        pieces = len(self.graph_sizes)
        return {"FULL_AND_PIECEWISE": pieces + decode, "FULL_DECODE_ONLY": decode, "NONE": 0}.get(self.graph_mode, pieces)

    @property
    def takes_images(self) -> bool:
        """Whether images or films may be asked about: no limit of 0 on all of them."""
        limits = as_object(self.given.get("limit-mm-per-prompt"))
        asked = [limits.get(kind, 1) for kind in ("image", "video")]
        return not self.on("language-model-only") and any(limit != 0 for limit in asked)


def read(model: Model, settings: Settings, arch: Architecture, gpu: Gpu, vllm: Vllm) -> Arguments:
    """The arguments of ``model`` on ``gpu``."""
    given = merged(settings, model)
    sequences, batched = batch(given, arch, model.max_model_len, gpu, vllm)
    speculation = as_object(given.get("speculative-config"))
    tokens = speculation.get("num_speculative_tokens")
    tokens = tokens if isinstance(tokens, int) else 0
    mode = graph_mode(given, arch)
    return Arguments(
        given=given,
        vllm=vllm,
        device=settings.device,
        pooling=model.type != "chat",
        tp=model.tensor_parallel_size,
        pp=min(_integer(given, "pipeline-parallel-size", 1), MOST_STAGES),
        dp=_integer(given, "data-parallel-size", 1),
        length=model.max_model_len,
        sequences=sequences,
        batched=batched,
        dtype_bytes=dtype_size(model.dtype, arch.dtype),
        kv_dtype=str(given.get("kv-cache-dtype", "auto")),
        speculative=tokens,
        graph_mode=mode,
        graph_sizes=() if mode == "NONE" else graph_sizes(given, sequences * (1 + tokens), batched),
    )


def dtype_size(asked: str, published: str) -> int:
    """Bytes of one weight: of the dtype asked for; ``auto`` is the published one, and 2 for float32 (vLLM lowers that)."""
    name = published if asked == "auto" else asked
    return 2 if asked == "auto" and DTYPE_BYTES.get(name, 2) > 2 else DTYPE_BYTES.get(name, 2)


def batch(given: Mapping[str, Any], arch: Architecture, length: int, gpu: Gpu, vllm: Vllm) -> Tuple[int, int]:
    """max_num_seqs and max_num_batched_tokens as vLLM fills them in."""
    memory = gpu.usable << 20
    largest = memory >= 160 * GIB and vllm.large_batch_from_160_gib
    large = largest or (memory >= 70 * GIB and not gpu.a100)
    sequences = _integer(given, "max-num-seqs", 1024 if large else 256)
    tokens = 16384 if largest else 8192 if large else 2048
    tokens = max(tokens, length) if arch.encoder or given.get("enable-chunked-prefill") is False else tokens
    tokens = _integer(given, "max-num-batched-tokens", min(tokens, sequences * length))
    return sequences if "max-num-seqs" in given else min(sequences, tokens), tokens


def graph_mode(given: Mapping[str, Any], arch: Architecture) -> str:
    """``cudagraph_mode``: whole decoding steps and pieces unless something else is said."""
    config = as_object(given.get("compilation-config"))
    config_or_level = given.get("compilation-config", "")
    level = str(
        config.get(
            "level",
            config.get("mode", given.get("optimization-level", config_or_level if isinstance(config_or_level, int) else "")),
        )
    )
    if given.get("enforce-eager") is True or arch.encoder or level in _EAGER_LEVELS:
        return "NONE"
    return str(config.get("cudagraph_mode") or "FULL_AND_PIECEWISE").rpartition(".")[2].upper()


def graph_sizes(given: Mapping[str, Any], decoding: int, batched: int) -> Tuple[int, ...]:
    """The batch sizes for which graphs are captured."""
    config = as_object(given.get("compilation-config"))
    sizes = config.get("cudagraph_capture_sizes") or given.get("cudagraph-capture-sizes")
    if isinstance(sizes, list) and all(isinstance(size, int) for size in sizes):
        return tuple(sorted(set(sizes)))
    most = config.get("max_cudagraph_capture_size") or given.get("max-cudagraph-capture-size")
    most = min(most if isinstance(most, int) else min(2 * decoding, 512), batched, LARGEST_GRAPH)
    return tuple(size for size in (1, 2, 4, *range(8, 256, 8), *range(256, most + 1, 16)) if size <= most)


def as_object(value: Any) -> Mapping[str, Any]:
    """An argument that is an object, as it is or as JSON in a string; empty where it is neither."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _integer(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default
