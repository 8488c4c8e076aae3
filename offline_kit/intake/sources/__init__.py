"""Where images and models come from: one module a source; ``SCHEMES`` of ``spec/names.py`` says which.

Rules: a module is imported when its scheme is first wanted, for a hub's or an engine's client takes longer to import than most
commands take to run; its source is its ``SOURCE``.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Generic, TypeVar, cast

from offline_kit.intake.sources.base import ImageSource, ModelSource
from offline_kit.spec.names import SCHEMES

Kind = TypeVar("Kind", ImageSource, ModelSource)


class Table(Generic[Kind]):
    """Sources by scheme; ``modules``: the module of each."""

    def __init__(self, modules: Mapping[str, str]) -> None:
        self._modules = modules

    def __getitem__(self, scheme: str) -> Kind:
        return cast(Kind, importlib.import_module(f"{__name__}.{self._modules[scheme]}").SOURCE)


IMAGES: Table[ImageSource] = Table(SCHEMES["image"])
MODELS: Table[ModelSource] = Table(SCHEMES["model"])
