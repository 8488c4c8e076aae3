"""Which engine runs on which GPU, and in which order engines start.

Rules: pure; on each GPU the sum of gpu_memory_utilization is at most 0.95, since the rest is what the driver and the contexts
take; engines that share a GPU start one after another, because two vLLM processes that profile one GPU at once mis-measure each
other's memory; engines on a CPU start side by side (one start takes 25 s there, three at once 52 s). ``"gpus": "auto"`` places
engines after those with fixed places, the largest share first, each where least is taken; the same configuration is always
placed in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, List, Mapping, Tuple

from .records import AUTO, DOTENV, MODELS_JSON, Mistake, Model, Settings

LIMIT = 0.95
MOST = 64  # GPUs that automatic placement will ask for at most


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
    gpus, load = _places(settings)
    for model in settings.models:
        mistakes += _check_placement(model, world_size(model, settings), gpus[model.key], settings)
    for gpu, total in load.items():
        if total > LIMIT + 1e-9:
            sharing = [model for model in settings.models if gpu in gpus[model.key]]
            parts = " + ".join(f"{model.key} {model.gpu_memory_utilization:g}" for model in sharing)
            what = f"{parts} = {total:.2f} of GPU {gpu}, more than {LIMIT}"
            mistakes.append(Mistake(MODELS_JSON, "gpu_memory_utilization", what, "lower one of them, or move one with 'gpus'"))
    return Plan(gpus, load, start_order(gpus)), mistakes


def _places(settings: Settings) -> Tuple[Dict[str, Tuple[str, ...]], Dict[str, float]]:
    needed = max([world_size(model, settings) for model in settings.models], default=1)
    fixed = [model for model in settings.models if model.gpus != AUTO]
    free = sorted((model for model in settings.models if model.gpus == AUTO), key=lambda model: -model.gpu_memory_utilization)
    gpus: Dict[str, Tuple[str, ...]] = {}
    load: Dict[str, float] = {}
    for number in [len(settings.visible)] if settings.visible else range(needed, MOST + 1):
        visible = settings.visible or tuple(str(index) for index in range(number))
        gpus, load = {}, {}
        for model in fixed:
            gpus[model.key] = model.gpus or visible[: world_size(model, settings)]
            _take(model, gpus[model.key], load)
        for model in free:
            emptiest = sorted(visible, key=lambda gpu: (load.get(gpu, 0.0), visible.index(gpu)))
            chosen = emptiest[: world_size(model, settings)]
            gpus[model.key] = tuple(gpu for gpu in visible if gpu in chosen)
            _take(model, gpus[model.key], load)
        if not free or all(total <= LIMIT + 1e-9 for total in load.values()):
            break
    # In the order of models.json, which is the order in which engines that share a GPU start.
    return {model.key: gpus[model.key] for model in settings.models}, load


def _take(model: Model, places: Tuple[str, ...], load: Dict[str, float]) -> None:
    for gpu in places:
        load[gpu] = load.get(gpu, 0.0) + model.gpu_memory_utilization


def _check_placement(model: Model, size: int, gpus: Tuple[str, ...], settings: Settings) -> List[Mistake]:
    if model.gpus and model.gpus != AUTO and len(model.gpus) != size:
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
