"""What drafting tokens takes (``speculative_config``): the draft's weights, and the layers that it caches.

Rules: a draft of its own is loaded and cached beside the model, on as many ranks unless ``draft_tensor_parallel_size`` says
otherwise, and its layers share the model's blocks (``config/speculative.py``; ``v1/worker/gpu_model_runner.py``
get_kv_cache_spec takes all attention layers); a model's own drafting layer (method mtp) is one more layer of attention: a log
of Qwen3.6-27B with it says "Add 3 padding layers, may waste at most 6.25%", which 48 states and 17 layers of attention make. Of
a pipeline only the weights are counted. n-gram and suffix methods have no model. The draft's activations and graphs are not
counted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Mapping, Optional, Sequence

from ..architecture import FULL, MLA, Architecture
from ..arguments import Arguments, as_object
from ..tensor_table import Row
from ..weight_memory import Loading, weights

WITHOUT_MODEL = ("ngram", "ngram_gpu", "[ngram]", "suffix", "custom_class")


def speculation(args: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``speculative_config`` says, empty where no model drafts."""
    found = as_object(args.get("speculative-config"))
    return {} if found.get("method") in WITHOUT_MODEL else found


def draft_folder(args: Mapping[str, Any]) -> str:
    """The folder below models/ of a draft of its own; empty where there is none."""
    named = speculation(args).get("model")
    return named.rstrip("/").rpartition("/models/")[2] if isinstance(named, str) else ""


def has_own_layer(args: Mapping[str, Any]) -> bool:
    """Whether the model's own drafting layer is asked for."""
    found = speculation(args)
    return bool(found) and "model" not in found and str(found.get("method", "mtp")).endswith("mtp")


def cached(arch: Architecture, args: Arguments, draft: Optional[Architecture]) -> Architecture:
    """``arch`` with the layers of its draft, as far as the KV cache is concerned."""
    if args.pp > 1:
        return arch
    own = [layer for layer in arch.layers if any(cache.kind in (FULL, MLA) for cache in layer)][-1:]
    more = draft.layers if draft is not None else tuple(own) if has_own_layer(args.given) else ()
    return replace(arch, layers=(*arch.layers, *more)) if more else arch


def draft_weights(tensors: Sequence[Row], draft: Architecture, args: Arguments) -> int:
    """Bytes of a draft's weights on one rank."""
    ranks = speculation(args.given).get("draft_tensor_parallel_size")
    tp = ranks if isinstance(ranks, int) and not isinstance(ranks, bool) and ranks > 0 else args.tp
    return weights(tensors, draft, Loading(dtype_bytes=args.dtype_bytes, tp=tp)).rank
