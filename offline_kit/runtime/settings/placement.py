"""Which engine runs on which GPU, and in which order engines start.

Rules: pure; on a GPU that engines share the sum of gpu_memory_utilization is at most 0.95, since the rest is what the driver
and the contexts take (one engine alone may ask for all, as in vLLM, and the plan warns); engines that share a GPU start one
after another, because two vLLM processes that profile one GPU at once mis-measure each other's memory; engines on a CPU start
side by side (one start takes 25 s there, three at once 52 s). ``"gpus": "auto"`` places engines after those with fixed places,
the largest share first, each where least is taken; the same configuration is always placed in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Tuple

from .model import AUTO, DOTENV, MODELS_JSON, Mistake, Model, Settings

LIMIT = 0.95
MOST = 64  # GPUs that one host is expected to have at most

GpusOf = Dict[str, Tuple[str, ...]]


@dataclass(frozen=True)
class Placement:
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


def place(settings: Settings) -> Tuple[Placement, List[Mistake]]:
    """Where each model runs, and what is wrong with that."""
    if settings.device == "cpu":
        keys = tuple(model.key for model in settings.models)
        return Placement(dict.fromkeys(keys, ()), {}, (keys,)), []
    too_large = [mistake for model in settings.models for mistake in check_size(model, settings)]
    if too_large:
        return Placement({}, {}, ()), too_large
    gpus, load = _places(settings)
    mistakes = [
        mistake
        for model in settings.models
        for mistake in _check_placement(model, world_size(model, settings), gpus[model.key], settings)
    ]
    return Placement(gpus, load, start_order(gpus)), mistakes + _check_load(settings, gpus, load)


def _places(settings: Settings) -> Tuple[GpusOf, Dict[str, float]]:
    """GPUs of each model and the load of each GPU; of those that are not named, as few as hold all."""
    gpus: GpusOf = {}
    load: Dict[str, float] = {}
    for visible in _gpu_sets(settings):
        gpus, load = _places_on(visible, settings)
        if all(total <= LIMIT + 1e-9 for total in load.values()):
            break
    # In the order of models.json, which is the order in which engines that share a GPU start.
    return {model.key: gpus[model.key] for model in settings.models}, load


def _gpu_sets(settings: Settings) -> Iterator[Tuple[str, ...]]:
    """The sets of GPUs to try: those of CUDA_VISIBLE_DEVICES, or as many as one model takes, then one more each time."""
    if settings.visible:
        yield settings.visible
        return
    needed = max([world_size(model, settings) for model in settings.models], default=1)
    most = MOST if any(model.gpus == AUTO for model in settings.models) else 0
    for number in range(needed, max(most, needed) + 1):
        yield tuple(str(index) for index in range(number))


def _places_on(visible: Tuple[str, ...], settings: Settings) -> Tuple[GpusOf, Dict[str, float]]:
    """Where models go among ``visible``: first those with fixed places, then the others, the largest share first."""
    gpus: GpusOf = {}
    load: Dict[str, float] = {}
    for model in (model for model in settings.models if model.gpus != AUTO):
        gpus[model.key] = model.gpus or visible[: world_size(model, settings)]
        _take(model, gpus[model.key], load)
    free = (model for model in settings.models if model.gpus == AUTO)
    for model in sorted(free, key=lambda model: -model.gpu_memory_utilization):
        emptiest = sorted(visible, key=lambda gpu: (load.get(gpu, 0.0), visible.index(gpu)))
        chosen = emptiest[: world_size(model, settings)]
        gpus[model.key] = tuple(gpu for gpu in visible if gpu in chosen)
        _take(model, gpus[model.key], load)
    return gpus, load


def _take(model: Model, places: Tuple[str, ...], load: Dict[str, float]) -> None:
    for gpu in places:
        load[gpu] = load.get(gpu, 0.0) + model.gpu_memory_utilization


def check_size(model: Model, settings: Settings) -> List[Mistake]:
    """The mistake of a model that takes more GPUs than any host has, unless CUDA_VISIBLE_DEVICES or 'gpus' names so many."""
    size = world_size(model, settings)
    named = settings.visible if model.gpus == AUTO else model.gpus or settings.visible
    if settings.device == "cpu" or size <= max(MOST, len(named)):
        return []
    what = f"takes {size} GPUs, more than the {MOST} that one host is expected to have"
    remedy = "lower tensor_parallel_size, pipeline-parallel-size or data-parallel-size"
    return [Mistake(MODELS_JSON, f"models.{model.key}.tensor_parallel_size", what, remedy)]


def _check_load(settings: Settings, gpus: GpusOf, load: Mapping[str, float]) -> List[Mistake]:
    """GPUs of which models take more than there is."""
    mistakes = []
    for gpu, total in load.items():
        sharing = [model for model in settings.models if gpu in gpus[model.key]]
        if total > (LIMIT if len(sharing) > 1 else 1) + 1e-9:
            parts = " + ".join(f"{model.key} {model.gpu_memory_utilization:g}" for model in sharing)
            what = f"{parts} = {total:.2f} of GPU {gpu}, more than {LIMIT}"
            mistakes.append(Mistake(MODELS_JSON, "gpu_memory_utilization", what, "lower one of them, or move one with 'gpus'"))
    return mistakes


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


def waits_for(placed: Placement, key: str) -> Tuple[str, ...]:
    """The models that must be healthy before ``key`` starts: those of earlier groups on the same GPUs."""
    earlier = [other for group in placed.order for other in group][: [k for group in placed.order for k in group].index(key)]
    return tuple(other for other in earlier if set(placed.gpus[other]) & set(placed.gpus[key]))
