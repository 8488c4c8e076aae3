"""Which KV dtypes a card can hold, by the attention backend that serves them.

Rules: a quantised KV cache is served by FlashAttention on compute capability 9 (version 3), else by FlashInfer from 8.0
(``v1/attention/backends/flashinfer.py`` supports_compute_capability, get_supported_head_sizes), else by Triton, whose fp8
needs 8.9 (``triton_attn.py``: "requires SM89+"). FlashInfer cannot serve attention sinks before compute capability 10
(supports_sink: gpt-oss) nor heads of other sizes than 64, 128, 256 and 512. nvfp4 is served on compute capability 10 alone
(supports_kv_cache_dtype). MLA has its own backends, which are not judged. Read from vLLM 0.29.
"""

from __future__ import annotations

from typing import Iterator, Tuple

from ..architecture import Architecture
from ..arguments import Arguments

HEADS = (64, 128, 256, 512)
SINKS = ("gpt_oss",)
REMEDY = "leave kv_cache_dtype out"


def kv_dtype_limits(arch: Architecture, args: Arguments, capability: Tuple[int, int]) -> Iterator[Tuple[str, str]]:
    """(What is wrong with the KV dtype on such a card, what to do)."""
    if arch.latent or arch.encoder:
        return
    if args.kv_dtype.startswith("nvfp4") and capability[0] != 10:
        yield "an nvfp4 KV cache needs 10.0 (FlashInfer's kernels of TensorRT-LLM)", REMEDY
    if not args.kv_dtype.startswith("fp8") or capability >= (8, 9):
        return
    if capability < (8, 0):
        yield "an fp8 KV cache needs 8.0 (FlashInfer)", REMEDY
    elif reason := _not_for_flashinfer(arch):
        yield f"an fp8 KV cache needs 8.9 with {reason}, which Triton serves", REMEDY


def _not_for_flashinfer(arch: Architecture) -> str:
    sizes = {cache.sizes // 2 for layer in arch.layers for cache in layer if cache.heads}
    if arch.model_type in SINKS:
        return "attention sinks"
    if len(sizes) > 1:
        # Gemma 4: Triton serves all layers of a model whose heads differ (models/config.py Gemma4Config).
        return f"heads of {' and '.join(str(size) for size in sorted(sizes))} values"
    return f"heads of {max(sizes)} values" if sizes and not sizes <= set(HEADS) else ""
