"""Will what a bundle carries run on the GPUs that it is meant for?

Rules: the same code answers here and on the host (``runtime.fit``); what it knows of models comes from the lock, so nothing is
downloaded for it; where a manifest names its target, a bundle that cannot run there is refused with the arithmetic, and with
what would fit instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from offline_kit.errors import SpecError
from offline_kit.host.services import check_services
from offline_kit.runtime import draw, gpus
from offline_kit.runtime.demand import Facts
from offline_kit.runtime.fit import Verdict, judge
from offline_kit.runtime.kit import cuda_of
from offline_kit.runtime.records import Settings
from offline_kit.runtime.suggest import Suggestion, suggestions
from offline_kit.spec.lock import Lock, ModelFacts
from offline_kit.spec.manifest import Manifest


def cards(text: str) -> dict[str, gpus.Gpu]:
    """The GPUs that ``--gpu`` or a manifest's ``target`` names. Raises SpecError."""
    try:
        return {gpu.id: gpu for gpu in gpus.parse(text)}
    except ValueError as error:
        raise SpecError(str(error), where="gpus", remedy="write it like 2x48GiB, or like 'NVIDIA L40S:2'") from error


def plan_for(
    settings: Settings, models: Mapping[str, ModelFacts | None], cards: Mapping[str, gpus.Gpu], cuda: str | None
) -> tuple[Verdict, list[Suggestion]]:
    """The verdict, and what would fit where it says no. ``models``: folder below models/ -> its facts."""
    facts = {key: Facts.of(record.model_dump(mode="json")) for key, record in models.items() if record is not None}
    known = {model.key: facts[model.folder] for model in settings.models if model.folder in facts} | facts
    version = cuda_of({"cuda": cuda})
    verdict = judge(settings, known, cards, cuda=version)
    return verdict, suggestions(verdict, known, cuda=version)


def check_target(manifest: Manifest, lock: Lock, config: Mapping[str, bytes]) -> None:
    """Raises SpecError where the manifest names a target on which ``lock`` with ``config`` cannot run."""
    if manifest.target is None or manifest.accelerator == "cpu":
        return
    settings = check_services(config, lock.models.keys(), lock.accelerator)
    models = {key: model.facts for key, model in lock.models.items()}
    verdict, found = plan_for(
        settings, models, cards(manifest.target.gpus), lock.images["engine"].environment.get("CUDA_VERSION")
    )
    if not verdict.fits:
        text = "\n".join(draw.lines(verdict, found))
        remedy = "change the configuration, or 'target' in the manifest ('offline-kit plan' shows this without a build)"
        raise SpecError(f"the bundle cannot run on {manifest.target.gpus}\n{text}", where="target", remedy=remedy)
