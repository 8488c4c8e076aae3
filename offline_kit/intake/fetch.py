"""From a lock to bytes at hand.

Rules: what is here already is not asked for; what is wanted twice is brought once; when it returns, every blob and file of
the lock has a place where its bytes were proven, and the weights of every model are whole.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from offline_kit.digest import Digest
from offline_kit.errors import DiskError, LockStale
from offline_kit.intake import crew, safetensors
from offline_kit.intake.line import Line, Options
from offline_kit.intake.sources import IMAGES, MODELS, file
from offline_kit.intake.sources.base import Context, Piece
from offline_kit.intake.store import Store
from offline_kit.progress import Progress, Silent, Task, size
from offline_kit.spec.lock import Lock, LockedFile, LockedModel
from offline_kit.spec.manifest import Manifest, ModelSpec

_SILENT = Silent()


@dataclass(frozen=True)
class Blobs:
    """Where the bytes of a lock are, and what it cost: ``fetched`` and ``reused`` in bytes, ``retried`` in attempts."""

    places: Mapping[Digest, Path]
    fetched: int
    reused: int
    retried: int

    def path(self, digest: Digest) -> Path:
        """The file that holds the image blob or model file of this digest. Raises DiskError if there is none."""
        place = self.places.get(digest)
        if place is None:
            raise DiskError("was not fetched", where=str(digest), remedy="run 'offline-kit build' again")
        return place


def fetch(
    lock: Lock,
    manifest: Manifest,
    base: Path,
    store: Store,
    *,
    jobs: int = 4,
    options: Options = Options(),  # noqa: B008  frozen
    progress: Progress = _SILENT,
) -> Blobs:
    """Makes every blob and file of ``lock`` available; ``manifest`` lies in the folder ``base``. Raises KitError."""
    groups = ((lock.images, manifest.images), (lock.models, manifest.models), (lock.files, manifest.files))
    stale = sorted(key for held, wished in groups for key in held.keys() ^ wished.keys())
    if stale:
        raise LockStale(f"the lock does not fit the manifest: {', '.join(stale)}", remedy="run 'offline-kit lock'")
    with Line(options, jobs) as line:
        context = Context(store, line, base, lock.platform, progress, jobs)
        pieces = _pieces(lock, manifest, context)
        whole = _sizes(lock)
        here = sum(whole.values()) - sum(piece.size for piece in pieces.values())
        with progress.task("fetch", sum(whole.values()), len(pieces)) as task:
            task.advance(here)
            crew.run([functools.partial(_bring, piece, task, progress) for piece in pieces.values()], jobs, line.stop)
        places = {digest: store.path(digest) for digest in lock.image_blobs()}
        for key, model in lock.models.items():
            places |= _whole(key, model, manifest.models[key], context)
        places |= {extra.sha256: file.place(extra, manifest.files[path], context) for path, extra in lock.files.items()}
        for digest in places:
            store.touch(digest)
        figures = line.figures
        blobs = Blobs(places, figures.fetched, here + figures.reused, figures.retried)
    _summarise(blobs, progress)
    return blobs


def _pieces(lock: Lock, manifest: Manifest, context: Context) -> dict[str, Piece]:
    """What has to be brought, each thing once."""
    found: list[Piece] = []
    for key, image in lock.images.items():
        entry = manifest.images[key]
        found += IMAGES[entry.scheme].pieces(key, image, entry, context)
    for key, model in lock.models.items():
        wish = manifest.models[key]
        found += MODELS[wish.scheme].pieces(key, model, wish, context)
    for path, extra in lock.files.items():
        found += file.pieces(path, extra, manifest.files[path], context)
    return {piece.identity: piece for piece in found}


def _sizes(lock: Lock) -> dict[Digest, int]:
    sizes = {digest: blob.size for digest, blob in lock.image_blobs().items()}
    sizes |= {held.sha256: held.size for model in lock.models.values() for held in model.files}
    return sizes | {extra.sha256: extra.size for extra in lock.files.values()}


def _bring(piece: Piece, task: Task, progress: Progress) -> None:
    piece.bring(task.advance)
    task.finish_item()
    progress.note(f"{piece.title}: {size(piece.size)}", event="fetched", item=piece.title, bytes=piece.size)


def _summarise(blobs: Blobs, progress: Progress) -> None:
    """The final line: what came over the line, what did not have to, and how often something was asked for again."""
    line = f"fetched {size(blobs.fetched)}, reused {size(blobs.reused)}, retried {blobs.retried}"
    figures = {"fetched": blobs.fetched, "reused": blobs.reused, "retried": blobs.retried}
    progress.note(line, event="summary", **figures)


def _whole(key: str, model: LockedModel, entry: ModelSpec, context: Context) -> dict[Digest, Path]:
    """The places of one model's files, after its weights were found whole."""
    source = MODELS[entry.scheme]

    def place(held: LockedFile) -> Path:
        return source.place(held, entry, context)

    safetensors.check_model(model.files, place, key)
    return {held.sha256: place(held) for held in model.files}
