"""The peak of the trial run: what torch holds at once beside the weights while a full batch goes through the model.

Rules: parts that are needed one after another count as the largest of them, not as their sum
(``v1/worker/gpu_model_runner.py`` profile_run: the eyes, then the layers, then the sampler). Derivation:

- layers: tokens x values that are alive at once in one layer, per rank: residual and input, 2 x hidden, and the widest of a
  dense MLP (gate, up and their product: 3 x inner / TP), of experts (``layers/fused_moe/fused_moe.py``: per chosen expert
  max(2 x inner / TP, hidden) and inner / TP), of attention (Q, K, V before and after rotation, the output) and of a state
  layer's projections. Inductor reuses some (0.8) and keeps copies elsewhere (1.6);
- sampler: sequences x vocabulary x bytes. V1 since 0.17: logits, their float32, probabilities, random numbers: 2 + 4 + 4 + 4.
  While logits were sorted (0.9 to 0.16) also values (4), indices (8) and as much again for the workspace of the sort, less
  what is free by then: 38.5 and 38.6 in two logs that name their activations (0.10.2), 38 to 39 in two that name
  weights and KV cache (0.10.1, 0.11.0). V2: 2 + 4 and little more; a log says 6.9. Before 0.9 there were only the logits;
- the eyes: see ``vision``; what they made stays in the encoder cache while the layers run.
"""

from __future__ import annotations

from ..architecture import MLA, STATE, Architecture
from ..arguments import Arguments
from . import vision
from .estimate import Estimate, largest

FEW = 128  # sequences below which torch sorts row by row, with less workspace


def activations(arch: Architecture, args: Arguments) -> Estimate:
    """The peak of the trial run on one rank."""
    parts = [layers(arch, args)]
    if not args.pooling:
        parts.append(sampler(arch, args))
    if arch.vision is None or args.pooling or not args.takes_images:
        return largest(*parts)
    return largest(vision.encoder(arch, args), vision.cache(arch, args) + largest(*parts))


def layers(arch: Architecture, args: Arguments) -> Estimate:
    """What is alive at once in the widest layer."""
    width = 2 * arch.hidden + max(
        _mlp(arch, args.tp), _experts(arch, args.tp), _attention(arch, args.tp), _state(arch, args.tp)
    )
    # A pooler reads all hidden states in float32.
    pooled = args.batched * arch.hidden * 4 if args.pooling else 0
    return Estimate.about(args.batched * width * max(2, args.dtype_bytes), 0.8, 1.6) + Estimate(0, pooled // 2, pooled)


def sampler(arch: Architecture, args: Arguments) -> Estimate:
    """Logits and what is made of them, beside the hidden states of the batch."""
    logits = min(args.sequences, args.batched) * arch.vocab
    least, likely, most = _bytes_per_logit(arch, args)
    states = args.batched * arch.hidden * max(2, args.dtype_bytes)
    # Drafted tokens have logits too.
    drafted = 1 + args.speculative
    return Estimate(int(logits * least), int(logits * likely) + states, int(logits * most * drafted) + 2 * states)


def runs_on_v2(arch: Architecture, args: Arguments) -> bool:
    """Whether the second model runner serves this engine."""
    hybrid = any(cache.kind == STATE for layer in arch.layers for cache in layer)
    return not args.pooling and args.vllm.second_runner(arch.model_type, hybrid=hybrid, moe=arch.experts > 0)


def _bytes_per_logit(arch: Architecture, args: Arguments) -> "tuple[float, float, float]":
    if not args.vllm.samples_in_profile:
        return 2, 4, 6
    if args.vllm.sorts_logits:
        return (18, 30, 46) if args.sequences < FEW else (37, 39, 43)
    return (6, 7, 9) if runs_on_v2(arch, args) else (13, 14, 16)


def _mlp(arch: Architecture, tp: int) -> int:
    return 3 * arch.intermediate // tp


def _experts(arch: Architecture, tp: int) -> int:
    inner = arch.expert_width // tp
    shared = 3 * arch.shared_width // tp
    return arch.active_experts * (max(2 * inner, arch.hidden) + inner) + shared if arch.expert_width else 0


def _attention(arch: Architecture, tp: int) -> int:
    if any(cache.kind == MLA for layer in arch.layers for cache in layer):
        # Keys and values are unpacked from the latent row for the trial run (layers/attention/mla_attention.py forward_mha).
        return arch.heads * (2 * arch.query_size + arch.head_size) // tp
    queries, pairs = arch.heads * arch.head_size, 2 * max(arch.kv_heads, tp) * arch.head_size
    return (3 * queries + 2 * pairs) // tp


def _state(arch: Architecture, tp: int) -> int:
    states = [cache.state.inner for layer in arch.layers for cache in layer if cache.state is not None]
    return 3 * max(states, default=0) // tp
