"""Engines whose share of a card is too small, or may be: the arithmetic, and the utilization that works."""

from __future__ import annotations

import math
from typing import Iterator, List, Sequence, Tuple

from ...settings.model import MODELS_JSON, Mistake, Model, Settings
from ...settings.placement import LIMIT, world_size
from ...settings.sizes import MIB, gib, mib
from ..engine_memory import Demand
from ..gpus import Gpu
from ..slot import MAY_NOT_START, Slot

EPSILON = 1e-9
Pair = Tuple[Gpu, Slot]


def lacking_memory(model: Model, settings: Settings, slots: Sequence[Pair]) -> List[Mistake]:
    """One line for an engine that does not fit: the GPU where it is worst."""
    if not slots or all(slot.fits for _, slot in slots):
        return []
    gpu, slot = max(slots, key=lambda pair: pair[1].lacking.least)
    field = f"models.{model.key}.gpu_memory_utilization"
    if slot.lacking.least:
        return [Mistake(MODELS_JSON, field, arithmetic(model, gpu, slot), _raise(model, settings, gpu, slot))]
    gpu, slot = next(pair for pair in slots if not pair[1].fits)
    what = f"it asks for {mib(slot.share)} of GPU {gpu.id}, of which {mib(max(slot.free or 0, 0))} are free when it starts"
    remedy = "end what uses that GPU (nvidia-smi shows it), or lower the utilization"
    return [Mistake(MODELS_JSON, field, what, remedy)]


def doubtful_memory(model: Model, slots: Sequence[Pair]) -> Iterator[Mistake]:
    """One line for an engine that fits by one bound of the estimates and not by the other."""
    if not slots:
        return
    gpu, slot = max(slots, key=lambda pair: pair[1].lacking.most)
    if slot.outcome == MAY_NOT_START:
        least = least_utilization(slot.need, gpu)
        remedy = f"with {least:.2f} it starts by every bound" if least <= LIMIT else "try it, or give it more room"
        yield Mistake(MODELS_JSON, f"models.{model.key}.gpu_memory_utilization", arithmetic(model, gpu, slot), remedy)


def arithmetic(model: Model, gpu: Gpu, slot: Slot) -> str:
    """Why the share is, or may be, too small: as a sum."""
    need, length = slot.need, model.max_model_len
    parts = f"{gib(need.loaded)} weights"
    if need.kv_fixed is not None:
        args = "kv_cache_memory_bytes" if need.blocks is None else f"{need.blocks} blocks of num_gpu_blocks_override"
        parts += f" + {gib(need.kv_fixed)} KV cache ({args}; {gib(need.kv_least)} for {length} tokens)"
    elif need.pool.groups:
        parts += f" + {gib(need.kv_least)} KV cache of {length} tokens"
    total, least = need.overhead.total, need.least
    parts += f" + {gib(total.least)} to {gib(total.most)} overhead"
    have = f"{model.gpu_memory_utilization:g} of GPU {gpu.id} ({mib(gpu.usable * MIB)} usable) is {gib(slot.share)}"
    return f"{have}, but {parts} = {gib(least.least)} to {gib(least.most)}"


def least_utilization(need: Demand, gpu: Gpu) -> float:
    """The smallest utilization, in hundredths, with which this engine starts on ``gpu`` by every bound; above 1: none."""
    return math.ceil(need.least.most / (gpu.usable * MIB) * 100 - EPSILON) / 100


def _raise(model: Model, settings: Settings, gpu: Gpu, slot: Slot) -> str:
    least = least_utilization(slot.need, gpu)
    if least <= LIMIT:
        return f"raise it to {least:.2f} or more, and lower the others on that GPU if they share it"
    more = f"of the {world_size(model, settings)} GPUs each needs {least:.2f} of itself; "
    return more + "use larger GPUs, more of them (tensor_parallel_size), or a smaller or quantised model"
