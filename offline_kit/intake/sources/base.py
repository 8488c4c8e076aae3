"""One interface for all places that images and models come from.

Rules: ``resolve`` finds out what an entry of the manifest means now and is the only one that may choose; ``pieces`` says what
has to be brought for a lock and asks nobody anything; a piece, when it is run, ends with its bytes proven and at hand.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from offline_kit.common.digest import Digest
from offline_kit.common.progress import Progress
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import Advance
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedFile, LockedImage, LockedModel
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import ImageSpec, ModelSpec


@dataclass(frozen=True)
class Context:
    """What every source works with. ``base``: the manifest's folder."""

    store: Store
    client: HttpClient
    base: Path
    platform: str
    progress: Progress
    jobs: int = 4


@contextmanager
def open_context(session: Session, base: Path, platform: str) -> Iterator[Context]:
    """The context of ``session`` for a manifest in the folder ``base``; its HTTP client ends with it."""
    with HttpClient(session.options, session.jobs, session.progress.note) as client:
        yield Context(session.store, client, base, platform, session.progress, session.jobs)


@dataclass(frozen=True)
class FetchTask:
    """Something to run: ``size`` bytes under ``identity`` (two of one identity are one), by calling ``run``.

    ``room``: bytes of the store's disk that it needs.
    """

    identity: str
    title: str
    size: int
    run: Callable[[Advance], None]
    room: int = 0


class ImageSource(Protocol):
    """Where images come from."""

    def resolve(self, key: str, entry: ImageSpec, digest: Digest, context: Context) -> LockedImage: ...

    def pieces(self, key: str, locked: LockedImage, entry: ImageSpec, context: Context) -> list[FetchTask]: ...


class ModelSource(Protocol):
    """Where models come from."""

    def resolve(self, key: str, entry: ModelSpec, digest: Digest, context: Context) -> LockedModel: ...

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[FetchTask]: ...

    def local_path(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        """Where the file is, once its piece was brought."""


@runtime_checkable
class UnhashedFacts(Protocol):
    """A source that can say what the GPU plan needs without what it takes to lock a model."""

    def facts(self, entry: ModelSpec, context: Context) -> ModelFacts | None: ...


@runtime_checkable
class LocalFiles(Protocol):
    """A source whose files anybody may add to after they were locked."""

    def regrouped(self, locked: LockedModel, entry: ModelSpec, context: Context) -> list[str]: ...


def on_loopback(host: str) -> bool:
    """Whether ``host`` (with or without a port) is this machine, where plain HTTP harms nobody."""
    name = host.rpartition("@")[2]
    name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0] if name.count(":") == 1 else name
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
