"""Does it fit: every engine on every GPU, with the arithmetic.

Rules: pure; an engine starts on a GPU when (1) its share, utilization x total, holds its weights, overhead and the KV cache of
one sequence of ``max_model_len``; (2) at the moment of its start that share is free, for vLLM refuses to start otherwise: what
earlier engines took, and half a GiB of CUDA context an engine, is gone by then; (3) nothing in ``refusals`` speaks against it.
The overhead is an estimate with bounds: what fits by neither is refused (``mistakes``), what fits by one of them only may not
start (``warnings``). On a GPU the shares of several engines add up to 0.95 at most (``placement``). More memory never turns a
fit into no fit.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from ..serve import merged
from ..settings.model import DOTENV, MODELS_JSON, Mistake, Model, Settings
from ..settings.placement import LIMIT, Placement, place
from ..settings.replicas import expand_replicas
from ..settings.sizes import MIB
from . import engine_memory as demands
from .engine_memory import CONTEXT, Demand, Facts
from .gpus import Gpu
from .overhead.drafts import draft_folder
from .overhead.estimate import Estimate
from .refusals.card_limits import card_limits, driver_limits, is_data_centre, kernel_limits
from .refusals.model_limits import model_limits
from .refusals.quantised_shards import quantised_shards
from .refusals.shares import doubtful_memory, lacking_memory
from .refusals.state_blocks import ARGUMENT, needs_a_block_each, too_many_sequences
from .refusals.unknown_weights import unknown_weights
from .slot import DOES_NOT_START, MAY_NOT_START, OUTCOMES, STARTS, Slot
from .vllm_version import UNKNOWN, Vllm

EPSILON = 1e-9


@dataclass(frozen=True)
class Image:
    """What of the engine image counts: the major version of its CUDA, its vLLM, and the compute capabilities that its kernels
    were built for (empty: not known)."""

    cuda: Optional[int] = None
    vllm: Vllm = UNKNOWN
    kernels: Tuple[str, ...] = ()


NO_IMAGE = Image()


@dataclass(frozen=True)
class Verdict:
    """The plan of a whole host. ``slots``: (key of the model, id of the GPU) -> slot; empty on a CPU."""

    settings: Settings
    placed: Placement
    gpus: Mapping[str, Gpu]
    slots: Mapping[Tuple[str, str], Slot]
    mistakes: Tuple[Mistake, ...]
    warnings: Tuple[Mistake, ...] = ()
    image: Image = NO_IMAGE

    @property
    def fits(self) -> bool:
        """Whether nothing is refused."""
        return not self.mistakes

    @property
    def outcome(self) -> str:
        """What is to be expected of all engines together."""
        return DOES_NOT_START if self.mistakes else MAY_NOT_START if self._doubts() else STARTS

    def outcome_of(self, key: str) -> str:
        """What is to be expected of one engine."""
        field = f"models.{key}."
        if any(f"{mistake.field}.".startswith(field) for mistake in self.mistakes):
            return DOES_NOT_START
        found = [slot.outcome for slot in self.of(key)]
        found += [MAY_NOT_START for mistake in self._doubts() if f"{mistake.field}.".startswith(field)]
        return max(found, key=OUTCOMES.index, default=STARTS)

    def _doubts(self) -> List[Mistake]:
        return [mistake for mistake in self.warnings if mistake.file == MODELS_JSON]

    def of(self, key: str) -> List[Slot]:
        """The slots of one engine."""
        return [slot for (owner, _), slot in self.slots.items() if owner == key]

    def blocks(self, key: str) -> Estimate:
        """KV blocks of an engine: every rank has as many as the smallest."""
        return blocks_of(self.of(key))


def blocks_of(slots: Sequence[Slot]) -> Estimate:
    """KV blocks of the engine that has these slots."""
    if not slots or not slots[0].need.pool.groups:
        return Estimate()
    pool, given = slots[0].need.pool, slots[0].need.blocks
    if given is not None:
        return Estimate.exact(given)
    bounds = ([slot.kv.least for slot in slots], [slot.kv.likely for slot in slots], [slot.kv.most for slot in slots])
    return Estimate(*(pool.blocks([max(min(bound), 0)] * len(pool.block_bytes)) for bound in bounds))


def evaluate(settings: Settings, facts: Mapping[str, Facts], gpus: Mapping[str, Gpu], image: Image = NO_IMAGE) -> Verdict:
    """The verdict for ``settings`` on ``gpus`` (by id). A model without facts is checked for its share only."""
    settings, mistakes = expand_replicas(settings)
    placed, wrong = place(settings)
    verdict = Verdict(settings, placed, gpus, {}, tuple(mistakes + wrong), image=image)
    if settings.device == "cpu":
        return verdict
    taken: Dict[str, int] = {}
    for key in [key for group in placed.order for key in group]:
        verdict = _with_engine(verdict, settings.model(key), facts, taken)
    return dataclasses.replace(verdict, warnings=(*verdict.warnings, *_full_cards(verdict)))


def _with_engine(verdict: Verdict, model: Model, facts: Mapping[str, Facts], taken: Dict[str, int]) -> Verdict:
    """``verdict`` with what one more engine adds to it; ``taken`` is what the engines before it have of each GPU."""
    ids, settings = verdict.placed.gpus[model.key], verdict.settings
    if missing := list(_missing(verdict, model)):
        return dataclasses.replace(verdict, mistakes=(*verdict.mistakes, *missing))
    own = [verdict.gpus[id] for id in ids if id in verdict.gpus]
    known = _facts(model, settings, facts)
    slots = {(model.key, gpu.id): _slot(model, settings, known, gpu, verdict.image.vllm, taken) for gpu in own}
    pairs = [(gpu, slots[model.key, gpu.id]) for gpu in own]
    refused = _refusals(model, known, pairs, verdict.image)
    refused += lacking_memory(model, settings, pairs)
    doubts = [*doubtful_memory(model, pairs), *_unnamed(verdict, model)] if not refused else []
    if pairs and not refused:
        doubts += unknown_weights(model, known, pairs[0][1].need.args)
    if slots and not refused:
        limit, doubt = _state_limit(model, settings, known, pairs)
        refused += [limit] if limit else []
        doubts += [doubt] if doubt else []
    doubts += [warning for gpu in own[:1] if is_data_centre(gpu) for warning in driver_limits(gpu, verdict.image.cuda)]
    return dataclasses.replace(
        verdict,
        slots={**verdict.slots, **slots},
        mistakes=(*verdict.mistakes, *refused),
        warnings=(*verdict.warnings, *doubts),
    )


def _facts(model: Model, settings: Settings, facts: Mapping[str, Facts]) -> Facts:
    """What is known of ``model``, and of the draft that it is served with."""
    known = facts.get(model.key) or facts.get(model.folder) or Facts.of({})
    folder = draft_folder(merged(settings, model))
    return dataclasses.replace(known, draft=facts.get(folder)) if folder else known


def _missing(verdict: Verdict, model: Model) -> Iterator[Mistake]:
    """GPUs that this host does not have. Only numbers can be compared: the long names that GPUs have are not always known."""
    gpus, settings = verdict.gpus, verdict.settings
    missing = [id for id in verdict.placed.gpus[model.key] if id not in gpus and id.isdigit()]
    if not missing:
        return
    there = f"it has GPU {', '.join(gpus)}" if gpus else "it has none"
    what = f"there is no GPU {', '.join(missing)} in this host ({there})"
    if settings.visible:
        yield Mistake(DOTENV, "CUDA_VISIBLE_DEVICES", f"{model.key}: {what}", "name GPUs as nvidia-smi shows them")
    else:
        field = f"models.{model.key}.{'gpus' if model.gpus else 'tensor_parallel_size'}"
        yield Mistake(MODELS_JSON, field, what, "change what the model asks for, or take more GPUs")


def _unnamed(verdict: Verdict, model: Model) -> Iterator[Mistake]:
    """GPUs or slices that are named by UUID and of which nothing is known: nobody has checked them."""
    unknown = [id for id in verdict.placed.gpus[model.key] if id not in verdict.gpus and not id.isdigit()]
    if unknown and verdict.gpus:
        what = f"{model.key}: nothing is known of {', '.join(unknown)}: its memory is not checked"
        yield Mistake(DOTENV, "CUDA_VISIBLE_DEVICES", what, "name what it has: --gpu-memory UUID=MiB")


def _slot(model: Model, settings: Settings, known: Facts, gpu: Gpu, vllm: Vllm, taken: Dict[str, int]) -> Slot:
    need = demands.demand(model, settings, known, gpu, vllm)
    card = gpu.usable * MIB
    share, most = (math.ceil(size * MIB * model.gpu_memory_utilization) for size in (gpu.usable, max(gpu.total, gpu.usable)))
    free = None if gpu.free is None else gpu.free * MIB
    # vLLM looks at what is free after its context was made.
    before = taken.get(gpu.id, 0)
    left = (card if free is None else free) - before - CONTEXT
    taken[gpu.id] = before + share + CONTEXT
    return Slot(model.key, share, most, need, left if free is not None or before else None, card)


def _refusals(model: Model, known: Facts, pairs: Sequence[Tuple[Gpu, Slot]], image: Image) -> List[Mistake]:
    """What speaks against the engine, memory aside: of its GPUs, the first that something is wrong with."""
    if not pairs:
        return []
    args = pairs[0][1].need.args
    found = [*model_limits(model, known.arch, args), *quantised_shards(model, known, args)]
    for gpu, _ in pairs:
        found += [] if found else card_limits(model, known.arch, args, gpu, image.cuda)
        found += [] if found else kernel_limits(model, gpu, image.kernels)
    return found


def _full_cards(verdict: Verdict) -> Iterator[Mistake]:
    """Cards that one engine has nearly all of: vLLM's own rule goes up to 1.0, the CUDA context needs room too."""
    for id, load in verdict.placed.load.items():
        if LIMIT + EPSILON < load <= 1 + EPSILON and id in verdict.gpus:
            keys = [key for key, ids in verdict.placed.gpus.items() if id in ids]
            if len(keys) == 1:
                what = f"it takes {load:.2f} of GPU {id}: vLLM starts only where that is free beside its CUDA context"
                field = f"models.{keys[0]}.gpu_memory_utilization"
                yield Mistake(MODELS_JSON, field, what, f"use {LIMIT} or less")


def _state_limit(
    model: Model, settings: Settings, known: Facts, pairs: Sequence[Tuple[Gpu, Slot]]
) -> Tuple[Optional[Mistake], Optional[Mistake]]:
    """(What is surely, what may be too much) of ``max_num_seqs`` for the blocks of state layers."""
    slots = [slot for _, slot in pairs]
    need, blocks = slots[0].need, blocks_of(slots)
    if not needs_a_block_each(need) or need.args.sequences <= blocks.least:
        return None, None
    found = too_many_sequences(model, need, blocks, most_sequences(model, settings, known, [gpu for gpu, _ in pairs], need))
    return (found, None) if need.args.sequences > blocks.most else (None, found)


def most_sequences(model: Model, settings: Settings, known: Facts, own: Sequence[Gpu], need: Demand) -> int:
    """The highest ``max_num_seqs`` with which an engine with state layers starts by every bound; 0 where there is none."""
    low, high = 0, need.args.sequences
    while low < high:
        middle = (low + high + 1) // 2
        tried = dataclasses.replace(model, engine_args={**model.engine_args, ARGUMENT: middle})
        slots = [_slot(tried, settings, known, gpu, need.args.vllm, {}) for gpu in own]
        enough = not needs_a_block_each(slots[0].need) or blocks_of(slots).least >= middle
        low, high = (middle, high) if enough else (low, middle - 1)
    return low
