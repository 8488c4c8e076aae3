"""The tar layers of models with their digests, which nobody knows before the weights are read.

Rules: each model is read once, and every file on the way compared with the lock.
"""

from __future__ import annotations

from collections.abc import Mapping

from offline_kit.bundle.read.payload import Payload
from offline_kit.common import concurrency
from offline_kit.common.progress import Progress
from offline_kit.publish import artifacts
from offline_kit.publish.artifacts import Pushed
from offline_kit.spec.lock import LockedModel


def read_layers(models: Mapping[str, LockedModel], payload: Payload, jobs: int, progress: Progress) -> dict[str, list[Pushed]]:
    """The layers of each model, in order. Raises BundleDamaged."""
    layers = [(key, layer) for key, model in models.items() for layer in artifacts.layers_of(key, model)]
    with progress.task("read models", sum(model.size for model in models.values())) as task:
        digests = concurrency.map_files(lambda item, advance: item[1].digest(payload, advance), layers, jobs, task.advance)
    found: dict[str, list[Pushed]] = {key: [] for key in models}
    for (key, layer), digest in zip(layers, digests, strict=True):
        found[key].append(Pushed(digest, layer))
    return found
