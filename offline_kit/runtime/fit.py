"""Does it fit: every engine on every GPU, with the arithmetic.

Rules: pure; an engine fits a GPU when (1) its share, utilization x total, holds its weights, overhead and the KV cache of one
sequence of ``max_model_len``; (2) at the moment of its start that share is free, for vLLM refuses to start otherwise: what
earlier engines took, and half a GiB of CUDA context an engine, is gone by then; (3) nothing in ``limits`` speaks against it. On
a GPU the shares add up to 0.95 at most (``placement``). More memory never turns a fit into no fit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from . import demand as demands
from . import limits
from .demand import CONTEXT, Demand, Facts
from .gpus import Gpu
from .placement import LIMIT, Plan, place, world_size
from .records import DOTENV, MODELS_JSON, Mistake, Model, Settings
from .replicas import spread
from .sizes import MIB, gib, mib

EPSILON = 1e-9


@dataclass(frozen=True)
class Slot:
    """One engine on one GPU, in bytes. ``free``: what is free when it starts, None where that is not known."""

    key: str
    share: int
    need: Demand
    free: Optional[int]

    @property
    def kv(self) -> int:
        """What is left for the KV cache."""
        return self.share - self.need.fixed if self.need.kv_fixed is None else self.need.kv_fixed

    @property
    def fits(self) -> bool:
        return self.short == 0 and (self.free is None or self.share <= self.free)

    @property
    def short(self) -> int:
        """Bytes that the share lacks."""
        lacking = self.need.least - self.share
        if self.need.kv_fixed is not None:
            # vLLM neither profiles nor looks at the share then; the cache itself must hold one sequence.
            lacking = max(lacking, self.need.kv_least - self.need.kv_fixed)
        return max(lacking, 0)


@dataclass(frozen=True)
class Verdict:
    """The plan of a whole host. ``slots``: (key of the model, id of the GPU) -> slot; empty on a CPU."""

    settings: Settings
    placed: Plan
    gpus: Mapping[str, Gpu]
    slots: Mapping[Tuple[str, str], Slot]
    mistakes: Tuple[Mistake, ...]

    @property
    def fits(self) -> bool:
        return not self.mistakes

    def of(self, key: str) -> List[Slot]:
        """The slots of one engine."""
        return [slot for (owner, _), slot in self.slots.items() if owner == key]

    def blocks(self, key: str) -> int:
        """KV blocks of an engine: every rank has as many as the smallest."""
        slots = self.of(key)
        if not slots or not slots[0].need.pool.groups:
            return 0
        stages = slots[0].need.pool.options.pp
        smallest = min(slot.kv for slot in slots)
        return slots[0].need.pool.blocks([max(smallest, 0)] * stages)


def judge(settings: Settings, facts: Mapping[str, Facts], gpus: Mapping[str, Gpu], *, cuda: Optional[int] = None) -> Verdict:
    """The verdict for ``settings`` on ``gpus`` (by id). A model without facts is checked for its share only."""
    settings, mistakes = spread(settings)
    placed, wrong = place(settings)
    mistakes += wrong
    slots: Dict[Tuple[str, str], Slot] = {}
    if settings.device == "cpu":
        return Verdict(settings, placed, gpus, slots, tuple(mistakes))
    taken: Dict[str, int] = {}
    started = [key for group in placed.order for key in group]
    for key in started:
        model = settings.model(key)
        own = [gpus[id] for id in placed.gpus[key] if id in gpus]
        # Only numbers can be compared: nvidia-smi is asked for those, not for the long names that GPUs have too.
        missing = [id for id in placed.gpus[key] if id not in gpus and id.isdigit()]
        if missing:
            there = f"it has GPU {', '.join(gpus)}" if gpus else "it has none"
            what = f"there is no GPU {', '.join(missing)} in this host ({there})"
            if settings.visible:
                what, remedy = f"{key}: {what}", "name GPUs as nvidia-smi shows them"
                mistakes.append(Mistake(DOTENV, "CUDA_VISIBLE_DEVICES", what, remedy))
            else:
                field = f"models.{key}.{'gpus' if model.gpus else 'tensor_parallel_size'}"
                mistakes.append(Mistake(MODELS_JSON, field, what, "change what the model asks for, or take more GPUs"))
            continue
        known = facts.get(key) or facts.get(model.folder) or Facts.of({})
        if own:
            mistakes += limits.refusals(model, settings, known, tuple(own), cuda)
        for gpu in own:
            need = demands.demand(model, settings, known, gpu.usable * MIB, a100=gpu.a100)
            share = math.ceil(gpu.usable * MIB * model.gpu_memory_utilization)
            free = None if gpu.free is None else gpu.free * MIB
            # vLLM looks at what is free after its context was made.
            left = (gpu.usable * MIB if free is None else free) - taken.get(gpu.id, 0) - CONTEXT
            slots[key, gpu.id] = Slot(key, share, need, left if free is not None or taken.get(gpu.id) else None)
            taken[gpu.id] = taken.get(gpu.id, 0) + share + CONTEXT
        mistakes += _short(model, settings, [(gpu, slots[key, gpu.id]) for gpu in own])
    return Verdict(settings, placed, gpus, slots, tuple(mistakes))


def _short(model: Model, settings: Settings, slots: Sequence[Tuple[Gpu, Slot]]) -> List[Mistake]:
    """One line for an engine that does not fit: the GPU where it is worst."""
    if not slots or all(slot.fits for _, slot in slots):
        return []
    gpu, slot = max(slots, key=lambda pair: pair[1].short)
    field = f"models.{model.key}.gpu_memory_utilization"
    if slot.short:
        return [Mistake(MODELS_JSON, field, arithmetic(model, gpu, slot), _raise(model, settings, gpu, slot))]
    gpu, slot = next(pair for pair in slots if not pair[1].fits)
    what = f"it asks for {mib(slot.share)} of GPU {gpu.id}, of which {mib(slot.free or 0)} are free when it starts"
    remedy = "end what uses that GPU (nvidia-smi shows it), or lower the utilization"
    return [Mistake(MODELS_JSON, field, what, remedy)]


def arithmetic(model: Model, gpu: Gpu, slot: Slot) -> str:
    """Why the share is too small, as a sum."""
    need, length = slot.need, model.max_model_len
    parts = f"{gib(need.weights.rank)} weights"
    if need.kv_fixed is not None:
        parts += f" + {gib(need.kv_fixed)} KV cache (kv_cache_memory_bytes; {gib(need.kv_least)} for {length} tokens)"
    elif need.pool.groups:
        parts += f" + {gib(need.kv_least)} KV cache of {length} tokens"
    parts += f" + {gib(need.fixed - need.weights.rank)} overhead"
    have = f"{model.gpu_memory_utilization:g} of GPU {gpu.id} ({mib(gpu.usable * MIB)} usable) is {gib(slot.share)}"
    return f"{have}, but {parts} = {gib(need.least)}"


def least_utilization(need: Demand, gpu: Gpu) -> float:
    """The smallest utilization, in hundredths, with which this engine starts on ``gpu``; above 1: none."""
    return math.ceil(need.least / (gpu.usable * MIB) * 100 - EPSILON) / 100


def _raise(model: Model, settings: Settings, gpu: Gpu, slot: Slot) -> str:
    least = least_utilization(slot.need, gpu)
    if least <= LIMIT:
        return f"raise it to {least:.2f} or more, and lower the others on that GPU if they share it"
    more = f"of the {world_size(model, settings)} GPUs each needs {least:.2f} of itself; "
    return more + "use larger GPUs, more of them (tensor_parallel_size), or a smaller or quantised model"
