"""One interface for all places that images and models come from.

Rules: ``resolve`` finds out what an entry of the manifest means now and is the only one that may choose; ``pieces`` says what
has to be brought for a lock and asks nobody anything; a piece, when it is run, ends with its bytes proven and at hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from offline_kit.digest import Digest
from offline_kit.intake.line import Line
from offline_kit.intake.store import Store
from offline_kit.intake.transfer import Advance
from offline_kit.progress import Progress
from offline_kit.spec.lock import LockedFile, LockedImage, LockedModel
from offline_kit.spec.manifest import ImageSpec, ModelSpec


@dataclass(frozen=True)
class Context:
    """What every source works with. ``base``: the manifest's folder."""

    store: Store
    line: Line
    base: Path
    platform: str
    progress: Progress
    jobs: int = 4


@dataclass(frozen=True)
class Piece:
    """Something to bring: ``size`` bytes under ``identity`` (two pieces of one identity are one), by calling ``bring``."""

    identity: str
    title: str
    size: int
    bring: Callable[[Advance], None]


class ImageSource(Protocol):
    """Where images come from."""

    def resolve(self, key: str, entry: ImageSpec, wanted: Digest, context: Context) -> LockedImage: ...

    def pieces(self, key: str, locked: LockedImage, entry: ImageSpec, context: Context) -> list[Piece]: ...


class ModelSource(Protocol):
    """Where models come from."""

    def resolve(self, key: str, entry: ModelSpec, wanted: Digest, context: Context) -> LockedModel: ...

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[Piece]: ...

    def place(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        """Where the file is, once its piece was brought."""


def on_loopback(host: str) -> bool:
    """Whether ``host`` (with or without a port) is this machine, where plain HTTP harms nobody."""
    name = host.rpartition("@")[2]
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0] if name.count(":") == 1 else name
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
