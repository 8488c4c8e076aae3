"""One model as models.json serves it, for those who look for what speaks against that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelNeeds


@dataclass(frozen=True)
class Service:
    """One model as models.json serves it; ``args``: its engine arguments over the common ones, in snake case.

    ``code``: repository that ``auto_map`` names -> the folder below models/ that is it.
    """

    key: str
    folder: str
    type: str
    args: Mapping[str, Any] = field(default_factory=dict)
    max_model_len: int = 0
    code: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The key of the model in the manifest; ``folder`` may lie below it."""
        return self.folder.partition("/")[0]

    @property
    def code_models(self) -> list[str]:
        """The keys of what is carried for its code."""
        return [folder.partition("/")[0] for folder in self.code.values()]

    def files(self, model: LockedModel) -> list[LockedFile]:
        """The files of the folder that the engine is given, by their paths below it."""
        inside = self.folder.partition("/")[2].rstrip("/")
        if not inside:
            return list(model.files)
        start = f"{inside}/"
        return [
            file.model_copy(update={"path": file.path[len(start) :]}) for file in model.files if file.path.startswith(start)
        ]

    def needs(self, model: LockedModel) -> ModelNeeds | None:
        """What the model asks for; not known of a folder below it."""
        return model.needs if "/" not in self.folder.rstrip("/") else None
