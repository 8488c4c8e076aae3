"""Where images and models come from: one module a source, one table by scheme.

Rules: a module is imported when its scheme is first wanted, for a hub's or an engine's client takes longer to import than most
commands take to run.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from offline_kit.intake.sources.base import ImageSource, ModelSource

Kind = TypeVar("Kind", ImageSource, ModelSource)


class Table(Generic[Kind]):
    """Sources by scheme; ``places``: the module and class of each."""

    def __init__(self, places: Mapping[str, tuple[str, str]]) -> None:
        self._places = places
        self._loaded: dict[str, Kind] = {}

    def __getitem__(self, scheme: str) -> Kind:
        if scheme not in self._loaded:
            module, name = self._places[scheme]
            self._loaded[scheme] = cast(Kind, getattr(importlib.import_module(f"{__name__}.{module}"), name)())
        return self._loaded[scheme]


IMAGES: Table[ImageSource] = Table({"docker": ("registry", "RegistrySource"), "docker-daemon": ("daemon", "DaemonSource")})
MODELS: Table[ModelSource] = Table(
    {
        "hf": ("hub", "HubSource"),
        "modelscope": ("modelscope", "ModelScopeSource"),
        "dir": ("local", "FolderSource"),
    }
)
