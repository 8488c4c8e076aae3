"""Which engine runs on which GPU, whether that fits, and in which order engines start.

Rules: pure; memory in MiB unless a name says otherwise; on each GPU the sum of gpu_memory_utilization is at most 0.95, since
the rest is what the driver and the contexts take; engines that share a GPU start one after another, because two vLLM processes
that profile one GPU at once mis-measure each other's memory; engines on a CPU start side by side (one start takes 25 s there,
three at once 52 s).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from .records import DOTENV, MODELS_JSON, Mistake, Model, Settings

LIMIT = 0.95
# CUDA context, activations and graphs of one engine beside its weights: below this no engine starts. The KV cache comes on top.
OVERHEAD_MIB = 1536
MIB = 1 << 20


@dataclass(frozen=True)
class Plan:
    """GPUs of each model, load of each GPU, and the order of starting: groups of keys, side by side within a group."""

    gpus: Mapping[str, Tuple[str, ...]]
    load: Mapping[str, float]
    order: Tuple[Tuple[str, ...], ...]


def world_size(model: Model, settings: Settings) -> int:
    """The number of GPUs that ``model`` takes."""
    arguments = {**settings.common, **model.engine_args}
    size = model.tensor_parallel_size
    for name in ("pipeline-parallel-size", "data-parallel-size"):
        value = arguments.get(name, 1)
        size *= value if isinstance(value, int) and value > 0 else 1
    return size


def place(settings: Settings) -> Tuple[Plan, List[Mistake]]:
    """Where each model runs, and what is wrong with that."""
    if settings.device == "cpu":
        keys = tuple(model.key for model in settings.models)
        return Plan(dict.fromkeys(keys, ()), {}, (keys,)), []
    mistakes: List[Mistake] = []
    needed = max([world_size(model, settings) for model in settings.models], default=1)
    visible = settings.visible or tuple(str(index) for index in range(needed))
    gpus: Dict[str, Tuple[str, ...]] = {}
    load: Dict[str, float] = {}
    for model in settings.models:
        size = world_size(model, settings)
        gpus[model.key] = model.gpus or visible[:size]
        mistakes += _check_placement(model, size, gpus[model.key], settings)
        for gpu in gpus[model.key]:
            load[gpu] = load.get(gpu, 0.0) + model.gpu_memory_utilization
    for gpu, total in load.items():
        if total > LIMIT + 1e-9:
            sharing = [model for model in settings.models if gpu in gpus[model.key]]
            parts = " + ".join(f"{model.key} {model.gpu_memory_utilization:g}" for model in sharing)
            what = f"{parts} = {total:.2f} of GPU {gpu}, more than {LIMIT}"
            mistakes.append(Mistake(MODELS_JSON, "gpu_memory_utilization", what, "lower one of them, or move one with 'gpus'"))
    return Plan(gpus, load, start_order(gpus)), mistakes


def _check_placement(model: Model, size: int, gpus: Tuple[str, ...], settings: Settings) -> List[Mistake]:
    if model.gpus and len(model.gpus) != size:
        what = f"names {len(model.gpus)} GPUs, but the model takes {size}"
        return [Mistake(MODELS_JSON, f"models.{model.key}.gpus", what, f"name {size}, or change tensor_parallel_size")]
    outside = [gpu for gpu in gpus if settings.visible and gpu not in settings.visible]
    if outside:
        what = f"GPU {', '.join(outside)} is not in CUDA_VISIBLE_DEVICES={','.join(settings.visible)}"
        return [Mistake(MODELS_JSON, f"models.{model.key}.gpus", what, f"add it in {DOTENV}, or name another")]
    if len(gpus) < size:
        what = f"takes {size} GPUs, but CUDA_VISIBLE_DEVICES={','.join(settings.visible)} has {len(gpus)}"
        remedy = f"add GPUs in {DOTENV}, or lower tensor_parallel_size"
        return [Mistake(MODELS_JSON, f"models.{model.key}.tensor_parallel_size", what, remedy)]
    return []


def start_order(gpus: Mapping[str, Tuple[str, ...]]) -> Tuple[Tuple[str, ...], ...]:
    """Groups of keys: a model starts in the first group after every earlier model that shares a GPU with it."""
    level: Dict[str, int] = {}
    last: Dict[str, int] = {}
    for key, places in gpus.items():
        level[key] = max([last.get(gpu, -1) for gpu in places], default=-1) + 1
        last.update(dict.fromkeys(places, level[key]))
    return tuple(tuple(key for key in gpus if level[key] == number) for number in range(max(level.values(), default=-1) + 1))


def waits_for(plan: Plan, key: str) -> Tuple[str, ...]:
    """The models that must be healthy before ``key`` starts: those of earlier groups on the same GPUs."""
    earlier = [other for group in plan.order for other in group][: [k for group in plan.order for k in group].index(key)]
    return tuple(other for other in earlier if set(plan.gpus[other]) & set(plan.gpus[key]))


def check_memory(
    settings: Settings, plan: Plan, total_mib: Mapping[str, int], weights_bytes: Mapping[str, int]
) -> List[Mistake]:
    """What cannot work on GPUs of ``total_mib`` each: GPU -> MiB; ``weights_bytes``: key -> bytes of all weights."""
    mistakes: List[Mistake] = []
    if settings.device == "cpu":
        return mistakes
    for model in settings.models:
        # Only numbers can be compared: nvidia-smi is asked for those, not for the long names that GPUs have too.
        missing = [gpu for gpu in plan.gpus[model.key] if gpu not in total_mib and gpu.isdigit()]
        if missing:
            what = f"there is no GPU {', '.join(missing)} in this host (it has {', '.join(total_mib) or 'none'})"
            mistakes.append(
                Mistake(DOTENV, "CUDA_VISIBLE_DEVICES", f"{model.key}: {what}", "name GPUs as nvidia-smi shows them")
            )
            continue
        need = weights_bytes.get(model.key, 0) / world_size(model, settings) / MIB + OVERHEAD_MIB
        for gpu in (gpu for gpu in plan.gpus[model.key] if gpu in total_mib):
            share = model.gpu_memory_utilization * total_mib[gpu]
            if share < need:
                what = (
                    f"{model.gpu_memory_utilization:g} of GPU {gpu} ({total_mib[gpu]} MiB) is {share:.0f} MiB, but weights and "
                    f"overhead alone take {need:.0f} MiB"
                )
                field = f"models.{model.key}.gpu_memory_utilization"
                mistakes.append(Mistake(MODELS_JSON, field, what, _what_would_fit(need, total_mib[gpu])))
                break
    return mistakes


def _what_would_fit(need: float, total: int) -> str:
    if need <= LIMIT * total:
        return f"raise it above {need / total:.2f} and lower the others on that GPU"
    return "use larger GPUs, more of them (tensor_parallel_size), or a smaller or quantised model"
