"""Which GPUs a bundle wants: the plan for cards that are named, and what is to be expected on the usual sizes.

Rules: the arithmetic is that of ``runtime.gpu_plan``; no GPU is asked; what cannot be read of the configuration leaves no plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from offline_kit.bundle.format.bundle_json import Contents
from offline_kit.host.target_check import cards, plan_for
from offline_kit.host.validate import Services, check_services
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.gpus import Gpu
from offline_kit.runtime.gpu_plan.slot import MAY_NOT_START, STARTS
from offline_kit.runtime.gpu_plan.suggest import Suggestion
from offline_kit.runtime.kit import image_of
from offline_kit.runtime.parsers import with_parsers

USUAL = ("16GiB", "24GiB", "32GiB", "40GiB", "48GiB", "64GiB", "80GiB", "96GiB", "141GiB")


@dataclass(frozen=True)
class GpuNeeds:
    """``count``: GPUs that the engines are placed on; ``outcomes``: size of each -> what is to be expected."""

    count: int
    outcomes: dict[str, str]

    @property
    def smallest(self) -> str | None:
        """The smallest of the usual sizes on which all engines start."""
        return next((size for size, outcome in self.outcomes.items() if outcome == STARTS), None)

    @property
    def summary(self) -> str:
        """One line."""
        usual = {size: size.replace("GiB", " GiB") for size in self.outcomes}
        doubts = [usual[size] for size, outcome in self.outcomes.items() if outcome == MAY_NOT_START]
        least = f"{self.count} x {usual[self.smallest]} or more start" if self.smallest else "no usual size is sure to start"
        return f"{least} all engines" + (f"; may not start on {self.count} x {', '.join(doubts)}" if doubts else "")


class Planner:
    """Plans for one bundle. Raises SpecError where its configuration is none."""

    def __init__(self, contents: Contents, config: Mapping[str, bytes]) -> None:
        plan = contents.plan
        self._services: Services = check_services(config, contents.models.keys(), contents.accelerator)
        self._settings = with_parsers(self._services.settings, plan.parsers if plan else {})
        self._models = dict(plan.models) if plan else {}
        self._image: Image = image_of(plan.model_dump(mode="json") if plan else {})

    @property
    def wants_gpus(self) -> bool:
        return self._settings.device != "cpu" and bool(self._models)

    def needs(self) -> GpuNeeds:
        """What is to be expected on as many GPUs as the engines are placed on, by their size."""
        used = {gpu for gpus in self._services.placement.gpus.values() for gpu in gpus}
        count = max([len(used), *(int(gpu) + 1 for gpu in used if gpu.isdigit())], default=1)
        return GpuNeeds(count, {size: self._outcome(cards(f"{count}x{size}")) for size in USUAL})

    def usual(self, needs: GpuNeeds) -> dict[str, Gpu]:
        """The smallest of the usual cards that start all engines, the largest where none does."""
        return cards(f"{needs.count}x{needs.smallest or USUAL[-1]}")

    def plan(self, there: Mapping[str, Gpu]) -> tuple[Verdict, list[Suggestion]]:
        """The plan for these GPUs, and what would start."""
        return plan_for(self._settings, self._models, there, self._image)

    def _outcome(self, there: Mapping[str, Gpu]) -> str:
        facts = {key: Facts.of(record.model_dump(mode="json")) for key, record in self._models.items()}
        known = {model.key: facts[model.folder] for model in self._settings.models if model.folder in facts}
        return evaluate(self._settings, known, there, self._image).outcome
