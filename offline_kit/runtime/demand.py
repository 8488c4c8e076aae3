"""What one engine asks of each of its GPUs: weights, KV cache, activations, graphs, libraries.

Rules: every part is a number of bytes for one rank, and the sum is compared with a share of the card as vLLM 0.32 does:
``gpu_memory_utilization`` x the total that CUDA reports is what this engine may take, counted from when it starts, whatever
others took before (``v1/worker/utils.py`` request_memory); the KV cache gets what weights, the peak of a trial run and graphs
leave of it (``v1/worker/gpu_worker.py`` determine_available_memory). With ``kv_cache_memory_bytes`` it gets exactly that.

Weights and KV cache are exact arithmetic (see ``weights``, ``kvcache``). The rest is an estimate of ours, made to be rather
too high, and is not measured on hardware yet (docs/gpu-plan.md):

- activations = batched tokens x 2 bytes x (4 x hidden + (3 x intermediate + query and KV) / TP), the tensors that are alive at
  once in a decoder layer, + the sampler: sequences x vocabulary x 10 bytes (logits, their float32 copy, probabilities);
- graphs = 512 MiB, 0 with ``enforce_eager`` and for encoders;
- libraries = 448 MiB (cuBLAS, attention workspace), + 256 MiB for all-reduce when TP > 1;
- outside of the share: 512 MiB of CUDA context an engine and GPU, which is why shares may add up to 0.95 only.

Defaults that vLLM fills in (``engine/arg_utils.py`` get_batch_defaults, API server): 2048 batched tokens and 256 sequences;
8192 and 1024 on cards of 70 GiB and more that are no A100, 16384 from 160 GiB; at least ``max_model_len`` tokens for an
encoder; never more than sequences x ``max_model_len``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from . import arch as architecture
from . import kvcache
from .arch import MLA, STATE, Architecture
from .records import Model, Settings
from .serve import merged
from .sizes import GIB, MIB, parse_bytes
from .tensors import Row
from .weights import DTYPE_BYTES, Weights, weights

GRAPHS = 512 * MIB
LIBRARIES = 448 * MIB
ALL_REDUCE = 256 * MIB
CONTEXT = 512 * MIB
VISION = 512 * MIB


@dataclass(frozen=True)
class Facts:
    """What the plan knows of a model: its architecture and the table of its tensors."""

    arch: Architecture
    tensors: Sequence[Row]
    # Suggestions ask for the same sums hundreds of times.
    known: Dict[Any, Weights] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Facts":
        """From ``{"config": ..., "tensors": [...]}`` as lock and bundle.json carry it."""
        rows = [{name: value for name, value in row.items() if value is not None} for row in record.get("tensors") or ()]
        return cls(architecture.read(record.get("config") or {}), tuple(rows))

    def weights(self, **how: Any) -> Weights:
        """As ``weights.weights``."""
        key = tuple(sorted(how.items()))
        if key not in self.known:
            self.known[key] = weights(self.tensors, self.arch, **how)
        return self.known[key]


@dataclass(frozen=True)
class Demand:
    """One engine, one rank, in bytes. ``kv_least``: KV cache for one sequence of ``max_model_len``."""

    weights: Weights
    pool: kvcache.Pool
    kv_least: int
    kv_fixed: Optional[int]
    activations: int
    graphs: int
    libraries: int
    adapters: int
    token_bytes: int
    batched: int
    longest: int
    notes: Tuple[str, ...] = field(default=())

    @property
    def fixed(self) -> int:
        """Everything but the KV cache."""
        return self.weights.rank + self.activations + self.graphs + self.libraries + self.adapters

    @property
    def least(self) -> int:
        """The smallest share of a GPU with which this engine starts."""
        return self.fixed + (self.kv_least if self.kv_fixed is None else self.kv_fixed)


def demand(model: Model, settings: Settings, facts: Facts, card_bytes: int, *, a100: bool = False) -> Demand:
    """What ``model`` asks of a card of ``card_bytes``."""
    arguments = merged(settings, model)
    arch, pooling = facts.arch, model.type != "chat"
    tp = model.tensor_parallel_size
    pp = _integer(arguments, "pipeline-parallel-size", 1)
    dtype_bytes = dtype_size(model.dtype, arch.dtype)
    sequences, batched = batch(arguments, arch, model.max_model_len, card_bytes, a100)
    notes = list(arch.notes)
    options = _options(arguments, arch, tp, pp, dtype_bytes, batched, pooling, settings.device)
    pool = kvcache.pool(arch, options)
    held = facts.weights(
        dtype_bytes=dtype_bytes,
        tp=tp,
        pp=pp,
        pooling=pooling,
        speculative=options.speculative > 0,
        online_fp8=arguments.get("quantization") == "fp8" and not arch.quantization,
    )
    if not held.exact:
        notes.append("its weights are no safetensors: their bytes are those of the file")
    if not facts.tensors:
        notes.append("nothing is known of its weights: they are counted as 0")
    if isinstance(arguments.get("speculative-config"), dict) and "model" in arguments["speculative-config"]:
        notes.append("the draft model of speculative_config is not counted: leave room for its weights and KV cache")
    inner = 4 * arch.hidden + (3 * arch.intermediate + (arch.heads + 2 * arch.kv_heads) * arch.head_size) // tp
    sampler = 0 if pooling else sequences * arch.vocab * 10
    activations = batched * inner * max(2, dtype_bytes) + sampler + (VISION if arch.vision and not pooling else 0)
    eager = bool(arguments.get("enforce-eager")) or arch.encoder
    fixed = arguments.get("kv-cache-memory-bytes")
    return Demand(
        weights=held,
        pool=pool,
        kv_least=max([pool.needed(model.max_model_len, stage) for stage in range(pp)]),
        kv_fixed=parse_bytes(fixed) if fixed is not None and pool.groups else None,
        activations=activations,
        graphs=0 if eager else GRAPHS,
        libraries=LIBRARIES + (ALL_REDUCE if tp * pp > 1 else 0),
        adapters=_adapters(arguments, facts, dtype_bytes),
        token_bytes=kvcache.per_token(arch, options),
        batched=batched,
        longest=arch.longest or model.max_model_len,
        notes=tuple(notes),
    )


def dtype_size(asked: str, published: str) -> int:
    """Bytes of one weight: of the dtype asked for; ``auto`` is the published one, and 2 for float32 (vLLM lowers that)."""
    name = published if asked == "auto" else asked
    return 2 if asked == "auto" and DTYPE_BYTES.get(name, 2) > 2 else DTYPE_BYTES.get(name, 2)


def batch(
    arguments: Mapping[str, Any], arch: Architecture, length: int, card_bytes: int, a100: bool = False
) -> Tuple[int, int]:
    """max_num_seqs and max_num_batched_tokens as vLLM fills them in."""
    large = card_bytes >= 70 * GIB and not a100
    sequences = _integer(arguments, "max-num-seqs", 1024 if large else 256)
    tokens = 16384 if card_bytes >= 160 * GIB else 8192 if large else 2048
    tokens = max(tokens, length) if arch.encoder or arguments.get("enable-chunked-prefill") is False else tokens
    return sequences, _integer(arguments, "max-num-batched-tokens", min(tokens, sequences * length))


def _options(
    arguments: Mapping[str, Any],
    arch: Architecture,
    tp: int,
    pp: int,
    dtype_bytes: int,
    batched: int,
    pooling: bool,
    device: str,
) -> kvcache.Options:
    caches = [cache.kind for layer in arch.layers for cache in layer]
    cpu_block = 16 if MLA in caches else 128
    kv_dtype = str(arguments.get("kv-cache-dtype", "auto"))
    speculation = arguments.get("speculative-config")
    tokens = speculation.get("num_speculative_tokens") if isinstance(speculation, dict) else None
    recycling = arguments.get("async-scheduling", not pooling) is not False
    prefixes = arguments.get("enable-prefix-caching", not pooling) is not False
    return kvcache.Options(
        tp=tp,
        pp=pp,
        block=_integer(arguments, "block-size", 16 if device != "cpu" else cpu_block),
        kv_bytes=kv_size(kv_dtype, dtype_bytes),
        model_bytes=dtype_bytes,
        in_flight=batched * (pp + 1 if recycling else pp),
        speculative=tokens if isinstance(tokens, int) else 0,
        state_blocks=2 if prefixes and STATE in caches and set(caches) != {STATE} else 1,
        hybrid=not arguments.get("disable-hybrid-kv-cache-manager"),
        alignment=16 if device != "cpu" else 32,
    )


def kv_size(kv_dtype: str, dtype_bytes: int) -> int:
    """Bytes of one cached value."""
    if kv_dtype.startswith(("fp8", "int8")):
        return 1
    return DTYPE_BYTES.get(kv_dtype, dtype_bytes)


def _adapters(arguments: Mapping[str, Any], facts: Facts, dtype_bytes: int) -> int:
    """LoRA's reserve: for each matrix of a layer, rank x (rows + columns), for as many adapters as may be active at once."""
    if not arguments.get("enable-lora"):
        return 0
    rank, active = _integer(arguments, "max-lora-rank", 16), _integer(arguments, "max-loras", 1)
    matrices = [row for row in facts.tensors if len(row["shape"]) == 2 and "layers" in row]
    values = sum((row["shape"][0] + row["shape"][1]) * row["count"] for row in matrices)
    return int(rank * active * values * dtype_bytes)


def _integer(arguments: Mapping[str, Any], name: str, default: int) -> int:
    value = arguments.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def as_json(need: Demand) -> Dict[str, Any]:
    """The parts in bytes, for ``--json``."""
    parts: List[str] = ["kv_least", "kv_fixed", "activations", "graphs", "libraries", "adapters", "token_bytes"]
    found: Dict[str, Any] = {name: getattr(need, name) for name in parts}
    return {"weights": need.weights.rank, "weights_stored": need.weights.stored, **found, "notes": list(need.notes)}
