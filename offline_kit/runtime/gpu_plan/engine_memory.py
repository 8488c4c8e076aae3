"""What one engine asks of each of its GPUs: weights, KV cache, activations, graphs, libraries.

Rules: every part is a number of bytes for one rank, and the sum is compared with a share of the card as vLLM does:
``gpu_memory_utilization`` x the total that CUDA reports is what this engine may take, counted from when it starts, whatever
others took before (``v1/worker/utils.py`` request_memory); the KV cache gets what weights, the peak of a trial run and graphs
leave of it (``v1/worker/gpu_worker.py`` determine_available_memory). With ``kv_cache_memory_bytes`` it gets exactly that.

Weights and KV cache are exact arithmetic (see ``weight_memory``, ``kv_cache``). The rest are estimates with bounds (see
``overhead``), held against public start logs (docs/gpu-plan.md). Outside of the share: 512 MiB of CUDA context an engine and
GPU, and the graphs where a version does not count them (``Vllm.counts_graphs``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from ..settings.model import Model, Settings
from ..settings.sizes import GIB, MIB
from . import architecture, arguments, kv_cache
from .architecture import MLA, STATE, Architecture
from .arguments import Arguments
from .gpus import Gpu
from .overhead import drafts
from .overhead.activations import activations, runs_on_v2
from .overhead.adapters import adapters, besides
from .overhead.estimate import NOTHING, Estimate
from .overhead.graphs import graphs
from .overhead.libraries import buffers, libraries
from .overhead.not_counted import notes
from .tensor_table import Row
from .vllm_version import Vllm
from .weight_memory import DTYPE_BYTES, Loading, Weights, derived, weights

CONTEXT = 512 * MIB
# Bytes of a value by KV dtype (config/cache.py CacheDType): nvfp4 has a scale for 16 values (``nvfp4_kv_cache_full_dim``).
KV_BYTES = {"nvfp4": 0.5 + 1 / 16, "nvfp4_4over6": 0.5 + 1 / 16, "int4_per_token_head": 0.5}
PER_HEAD = 8  # bytes beside one head's K and V: a float32 each (triton_attn.py, per-token-head scales)
DS_MLA = 656  # one row of fp8_ds_mla: 512 fp8 values, 4 float32 scales, 64 bfloat16 (backends/mla/flashmla_sparse.py)

SHARED = "the GPU shares the system's memory: what is free there when it starts is a guess, 5 GiB each way"


@dataclass(frozen=True)
class Facts:
    """What the plan knows of a model: its architecture, the table of its tensors, and the draft that it is served with."""

    arch: Architecture
    tensors: Sequence[Row]
    draft: Optional["Facts"] = None
    # Suggestions ask for the same sums hundreds of times.
    known: Dict[Any, Weights] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Facts":
        """From ``{"config": ..., "tensors": [...]}`` as lock and bundle.json carry it."""
        rows = [{name: value for name, value in row.items() if value is not None} for row in record.get("tensors") or ()]
        return cls(architecture.read(record.get("config") or {}), tuple(rows))

    def weights(self, how: Loading) -> Weights:
        """As ``weight_memory.weights``."""
        if how not in self.known:
            self.known[how] = weights(self.tensors, self.arch, how)
        return self.known[how]


@dataclass(frozen=True)
class Overhead:
    """What is estimated. ``graphs_outside``: of a version that counts graphs outside of the share."""

    activations: Estimate
    graphs: Estimate
    libraries: Estimate
    buffers: Estimate
    graphs_outside: Estimate = NOTHING

    @property
    def total(self) -> Estimate:
        return self.activations + self.graphs + self.libraries + self.buffers


@dataclass(frozen=True)
class Demand:
    """One engine, one rank, in bytes. ``kv_least``: KV cache for one sequence of ``max_model_len``; ``derived``: what is made
    of the weights as they are loaded; ``blocks``: where their number is told."""

    weights: Weights
    derived: int
    draft: int
    adapters: int
    overhead: Overhead
    pool: kv_cache.Pool
    kv_least: int
    kv_fixed: Optional[int]
    blocks: Optional[int]
    token_bytes: int
    args: Arguments
    longest: int
    notes: Tuple[str, ...] = field(default=())

    @property
    def loaded(self) -> int:
        """What vLLM reports as the memory of the model when it has loaded it."""
        return self.weights.rank + self.derived + self.draft + self.adapters

    @property
    def fixed(self) -> Estimate:
        """Everything but the KV cache."""
        return Estimate.exact(self.loaded) + self.overhead.total

    @property
    def least(self) -> Estimate:
        """The smallest share of a GPU with which this engine starts."""
        return self.fixed + Estimate.exact(self.kv_least if self.kv_fixed is None else self.kv_fixed)


def demand(model: Model, settings: Settings, facts: Facts, gpu: Gpu, vllm: Vllm) -> Demand:
    """What ``model`` asks of ``gpu``."""
    args = arguments.read(model, settings, facts.arch, gpu, vllm)
    draft, options = facts.draft, kv_options(facts.arch, args)
    cached = drafts.cached(facts.arch, args, draft.arch if draft else None)
    how = loading(facts.arch, args, gpu)
    loaded_weights = offloaded(facts.weights(how), args)
    pool = kv_cache.pool(cached, options)
    memory, blocks = args.size("kv-cache-memory-bytes"), args.integer("num-gpu-blocks-override", 0)
    if blocks and args.vllm.checks_given_blocks:
        memory = blocks * max(pool.block_bytes)
    return Demand(
        weights=loaded_weights,
        derived=derived(facts.arch, how, model.max_model_len) if facts.tensors else 0,
        draft=drafts.draft_weights(draft.tensors, draft.arch, args) if draft else 0,
        adapters=adapters(facts.tensors, args),
        overhead=overhead(facts.arch, args, gpu),
        pool=pool,
        kv_least=kv_least(pool, args),
        kv_fixed=memory if pool.groups else None,
        blocks=blocks or None,
        token_bytes=kv_cache.per_token(cached, options),
        args=args,
        longest=facts.arch.rope_scaling.longest(facts.arch.longest, vllm) or model.max_model_len,
        notes=(
            *facts.arch.notes,
            *notes(facts.arch, facts.tensors, args, exact=loaded_weights.exact, draft=draft is not None),
            *((SHARED,) if gpu.unified else ()),
        ),
    )


def kv_least(pool: kv_cache.Pool, args: Arguments) -> int:
    """Bytes that each rank must have for one sequence of full length."""
    if args.vllm.needs_whole_cache_on_a_stage:
        return sum(pool.needed(args.length, stage) for stage in range(args.pp))
    return max(pool.needed(args.length, stage) for stage in range(args.pp))


def overhead(arch: Architecture, args: Arguments, gpu: Gpu) -> Overhead:
    """The estimates for one rank on ``gpu``."""
    captured = graphs(arch, args)
    inside = args.vllm.counts_graphs(second_runner=runs_on_v2(arch, args))
    return Overhead(
        activations=activations(arch, args) + besides(args),
        graphs=captured if inside else NOTHING,
        libraries=libraries(args, unified=gpu.unified),
        buffers=buffers(arch, args),
        graphs_outside=NOTHING if inside else captured,
    )


def loading(arch: Architecture, args: Arguments, gpu: Gpu) -> Loading:
    """How the weights are loaded."""
    online = str(args.given.get("quantization") or "")
    return Loading(
        dtype_bytes=args.dtype_bytes,
        tp=args.tp,
        pp=args.pp,
        dp=args.dp,
        pooling=args.pooling,
        speculative=drafts.has_own_layer(args.given),
        online="" if arch.quantization else online,
        # Triton's kernels serve these only (gpt_oss_triton_kernels_moe.py); with LoRA it is Marlin.
        triton=args.vllm.has_triton_kernels
        and gpu.capability is not None
        and (9, 0) <= gpu.capability < (11, 0)
        and not args.on("enable-lora"),
        expert_parallel=args.on("enable-expert-parallel"),
        blind=args.on("language-model-only"),
        tower_alone=args.given.get("mm-encoder-tp-mode") == "data",
    )


def offloaded(loaded_weights: Weights, args: Arguments) -> Weights:
    """The weights without what ``cpu_offload_gb`` keeps in the host's memory: GiB of each rank (``offloader/uva.py``)."""
    away = int(args.number("cpu-offload-gb") * GIB)
    return (
        replace(loaded_weights, ranks=tuple(max(rank - away, 0) for rank in loaded_weights.ranks))
        if away > 0
        else loaded_weights
    )


def kv_options(arch: Architecture, args: Arguments) -> kv_cache.Options:
    """What of the arguments the KV cache depends on."""
    kinds = {cache.kind for layer in arch.layers for cache in layer}
    on_cpu, dtype = args.device == "cpu", args.kv_dtype
    steps = args.pp + 1 if args.on("async-scheduling", not args.pooling) else args.pp
    hybrid = STATE in kinds and kinds != {STATE}
    prefixes = args.on("enable-prefix-caching", not args.pooling and (args.vllm.caches_prefixes_of_hybrids or not hybrid))
    state = args.given.get("mamba-ssm-cache-dtype", args.given.get("mamba-cache-dtype"))
    return kv_cache.Options(
        tp=args.tp,
        pp=args.pp,
        dcp=args.integer("decode-context-parallel-size", 1),
        block=args.integer("block-size", 16 if not on_cpu or MLA in kinds else 128),
        kv_bytes=kv_size(dtype, args.dtype_bytes),
        kv_scale=PER_HEAD if dtype.endswith("per_token_head") else 0,
        kv_row=DS_MLA if dtype == "fp8_ds_mla" else 0,
        model_bytes=args.dtype_bytes,
        in_flight=args.batched * (steps if args.vllm.counts_steps_in_flight else 1),
        speculative=args.speculative,
        state_blocks=2 if prefixes and hybrid else 1,
        every_state=prefixes and hybrid and _keeps_every_state(arch, args),
        state_bytes=DTYPE_BYTES.get(str(state), 0),
        hybrid=not args.on("disable-hybrid-kv-cache-manager"),
        alignment=32 if on_cpu else 16,
        # platforms/interface.py _align_hybrid_block_size: 128 since 0.27; before, a log of 0.11 says 960, by FlashMLA's 64.
        latent_alignment=128 if args.vllm.version >= (0, 27) else 64,
    )


def _keeps_every_state(arch: Architecture, args: Arguments) -> bool:
    """Whether a state is kept for every block: of Mamba 1 and 2 alone (SupportsMambaPrefixCaching)."""
    families = {cache.state.family for layer in arch.layers for cache in layer if cache.state}
    asked = args.given.get("mamba-cache-mode", "none")
    wanted = (asked == "all" and args.vllm.knows_mode_all) or (asked == "none" and args.vllm.keeps_every_state)
    return wanted and bool(families) and families <= {"mamba1", "mamba2"}


def kv_size(kv_dtype: str, dtype_bytes: int) -> float:
    """Bytes of one cached value."""
    if kv_dtype in KV_BYTES:
        return KV_BYTES[kv_dtype]
    if kv_dtype.startswith(("fp8", "int8")):
        return 1
    return DTYPE_BYTES.get(kv_dtype, dtype_bytes)


def as_json(need: Demand) -> Dict[str, Any]:
    """The parts in bytes, for ``--json``: an estimate is [least, likely, most]."""
    parts: List[str] = ["kv_least", "kv_fixed", "adapters", "draft", "derived", "token_bytes"]
    found: Dict[str, Any] = {name: getattr(need, name) for name in parts}
    for name in ("activations", "graphs", "libraries", "buffers"):
        part: Estimate = getattr(need.overhead, name)
        found[name] = [part.least, part.likely, part.most]
    return {"weights": need.loaded, "weights_stored": need.weights.stored, **found, "notes": list(need.notes)}
