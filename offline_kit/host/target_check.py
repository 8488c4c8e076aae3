"""Will what a bundle carries run on the GPUs that it is meant for?

Rules: the same code answers here and on the host (``runtime.gpu_plan``); what it knows of models comes from the lock, so
nothing is downloaded for it; where a manifest names its target, a bundle that cannot run there is refused with the
arithmetic, and with what would start instead; one that may not start there is warned of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from offline_kit.common.errors import SpecError
from offline_kit.runtime.gpu_plan import gpus, report
from offline_kit.runtime.gpu_plan.arguments import read
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.refusals.model_limits import model_limits
from offline_kit.runtime.gpu_plan.suggest import Suggestion, suggestions
from offline_kit.runtime.kit import image_of
from offline_kit.runtime.settings.model import Mistake, Settings
from offline_kit.spec.lock import Lock, LockedImage
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import Manifest, Target


def cards(text: str, where: str = "gpus") -> dict[str, gpus.Gpu]:
    """The GPUs that ``--gpu`` or a manifest's ``target`` names; ``where``: which of these. Raises SpecError."""
    try:
        return {gpu.id: gpu for gpu in gpus.parse(text)}
    except ValueError as error:
        raise SpecError(str(error), where=where, remedy="write it like 2x48GiB, or like 'NVIDIA L40S:2'") from error


def target_cards(target: Target) -> dict[str, gpus.Gpu]:
    """The GPUs of a manifest's target, with its driver. Raises SpecError."""
    return {
        id: dataclasses.replace(gpu, driver=target.driver)
        for id, gpu in cards(target.gpus, "target.gpus of the manifest").items()
    }


def plan_for(
    settings: Settings, models: Mapping[str, ModelFacts | None], cards: Mapping[str, gpus.Gpu], image: Image
) -> tuple[Verdict, list[Suggestion]]:
    """The verdict, and what would start where that is not sure. ``models``: folder below models/ -> its facts."""
    facts = {key: Facts.of(record.model_dump(mode="json")) for key, record in models.items() if record is not None}
    known = {model.key: facts[model.folder] for model in settings.models if model.folder in facts} | facts
    verdict = evaluate(settings, known, cards, image)
    return verdict, suggestions(verdict, known)


def engine_image(locked: LockedImage | None) -> Image:
    """What a lock says of the engine image."""
    if locked is None:
        return Image()
    return image_of({"cuda": locked.cuda, "vllm": locked.vllm, "kernels": locked.kernels})


def refused_numbers(lock: Lock, settings: Settings) -> tuple[Mistake, ...]:
    """Numbers in ``settings`` that vLLM refuses with these models, whatever the GPU: to be told where no target is named."""
    found: list[Mistake] = []
    vllm = engine_image(lock.images.get("engine")).vllm
    small, large = cards("24GiB").values(), cards("80GiB").values()  # defaults differ between them
    for model in settings.models:
        locked = lock.models.get(model.folder)
        if locked is None or locked.facts is None:
            continue
        arch = Facts.of(locked.facts.model_dump(mode="json")).arch
        refused = [set(model_limits(model, arch, read(model, settings, arch, gpu, vllm))) for gpu in (*small, *large)]
        found += sorted(refused[0] & refused[1], key=str)
    return tuple(found)


def check_target(manifest: Manifest, lock: Lock, settings: Settings) -> tuple[str, ...]:
    """What is to be said of the manifest's target. Raises SpecError where ``lock`` with ``settings`` cannot run on it."""
    if manifest.target is None or manifest.accelerator == "cpu":
        return ()
    models = {key: model.facts for key, model in lock.models.items()}
    verdict, found = plan_for(settings, models, target_cards(manifest.target), engine_image(lock.images.get("engine")))
    if not verdict.fits:
        text = "\n".join(report.lines(verdict, found))
        remedy = "change the configuration, or 'target' in the manifest ('offline-kit plan' shows this without a build)"
        raise SpecError(f"the bundle cannot run on {manifest.target.gpus}\n{text}", where="target", remedy=remedy)
    return tuple(f"{verdict.outcome} on {manifest.target.gpus}: {warning}" for warning in verdict.warnings)
