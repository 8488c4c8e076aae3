"""Models to engines: a model with ``replicas: N`` is served by N engines, each a process of its own on GPUs of its own.

Rules: the first engine of the model KEY is KEY (service ``engine-KEY``), the next ``KEY-2`` and so on; whoever places engines
on GPUs or orders their start sees each as a model of its own (``expand_replicas``); ``gpus`` of such a model names those of all
its engines, in order. Pure.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import List, Tuple

from .model import AUTO, DOTENV, MODELS_JSON, Mistake, Model, Settings
from .placement import check_size, world_size


@dataclass(frozen=True)
class Engine:
    """One process: its key (``chat``, ``chat-2``) and the model that it serves."""

    key: str
    model: Model

    @property
    def service(self) -> str:
        """Its name in Compose and on the internal network."""
        return f"engine-{self.key}"


def engines_of(model: Model) -> Tuple[Engine, ...]:
    """The engines of one model."""
    keys = [model.key, *(f"{model.key}-{number}" for number in range(2, model.replicas + 1))]
    return tuple(Engine(key, model) for key in keys)


def engines(settings: Settings) -> Tuple[Engine, ...]:
    """All engines, in the order of models.json."""
    return tuple(engine for model in settings.models for engine in engines_of(model))


def expand_replicas(settings: Settings) -> Tuple[Settings, List[Mistake]]:
    """The settings as a plan of GPUs sees them: every engine a model of its own, with its share of the GPUs."""
    models: List[Model] = []
    mistakes: List[Mistake] = []
    for model in settings.models:
        if model.replicas == 1 or check_size(model, settings):  # ``place`` reports the size
            models.append(model)
            continue
        size = world_size(model, settings)
        needed = size * model.replicas
        cpu = settings.device == "cpu"
        gpus = () if cpu else model.gpus or settings.visible or tuple(str(index) for index in range(needed))
        if not cpu and gpus != AUTO and (len(gpus) < needed or (model.gpus and len(gpus) != needed)):
            what = f"{model.replicas} engines of {size} GPUs each take {needed}, but there are {len(gpus)}"
            remedy = f"change 'replicas' or 'gpus', or CUDA_VISIBLE_DEVICES in {DOTENV}"
            mistakes.append(Mistake(MODELS_JSON, f"models.{model.key}.replicas", what, remedy))
        for number, engine in enumerate(engines_of(model)):
            share = AUTO if gpus == AUTO else gpus[number * size : (number + 1) * size]
            models.append(dataclasses.replace(model, key=engine.key, gpus=share, replicas=1))
    return dataclasses.replace(settings, models=tuple(models)), mistakes
