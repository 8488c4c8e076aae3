"""From a lock to bytes at hand.

Rules: what is here already is not asked for; what is wanted twice is brought once; when it returns, every blob and file of
the lock has a place where its bytes were proven, and the weights of every model are whole.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from offline_kit.common import concurrency
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DiskError, LockStale
from offline_kit.common.progress import Progress, Task
from offline_kit.common.units import size
from offline_kit.intake import added_files
from offline_kit.intake.convert.convert import make_results, missing_sources
from offline_kit.intake.models import check_weights
from offline_kit.intake.models.scan_pickles import scan_pickles
from offline_kit.intake.session import Session
from offline_kit.intake.sources import IMAGES, MODELS, file
from offline_kit.intake.sources.base import Context, FetchTask, open_context
from offline_kit.intake.store.space import require_space
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import Lock, LockedFile, LockedImage, LockedModel
from offline_kit.spec.manifest import Manifest, ModelSpec


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
    session: Session,
    *,
    engine_first: Callable[[], None] | None = None,
) -> Blobs:
    """Makes every blob and file of ``lock`` available; ``manifest`` lies in the folder ``base``. Raises KitError.

    ``engine_first``: the engine image is brought before anything else, and then this is called; what it raises ends it.
    """
    groups = ((lock.images, manifest.images), (lock.models, manifest.models), (lock.files, manifest.files))
    stale = sorted(key for locked, requested in groups for key in locked.keys() ^ requested.keys())
    if stale:
        raise LockStale(f"the lock does not fit the manifest: {', '.join(stale)}", remedy="run 'offline-kit lock'")
    store, progress = session.store, session.progress
    with open_context(session, base, lock.platform) as context:
        pieces = _pieces(lock, manifest, context)
        to_do = sum(piece.size for piece in pieces.values())
        here = max(0, sum(_sizes(lock).values()) - to_do)  # a file that lies in two folders is hashed in both
        require_space(store, sum(max(0, piece.room) for piece in pieces.values()), "what is to be fetched")
        with progress.task("fetch", here + to_do, len(pieces)) as task:
            task.advance(here)
            if engine_first:
                entry = manifest.images["engine"]
                first = IMAGES[entry.scheme].pieces("engine", lock.images["engine"], entry, context)
                _bring_all([pieces.pop(piece.identity) for piece in first if piece.identity in pieces], task, context)
                engine_first()
            _bring_all(pieces.values(), task, context)
        places = {digest: store.path(digest) for digest in lock.image_blobs()}
        for key, model in lock.models.items():
            places |= _whole(key, model, manifest.models[key], context)
        places |= {extra.sha256: file.local_path(extra, manifest.files[path], context) for path, extra in lock.files.items()}
        for digest in places:
            store.touch(digest)
        stats = context.client.stats
        blobs = Blobs(places, stats.fetched, here + stats.reused, stats.retried)
    _summarise(blobs, progress)
    return blobs


def fetch_image(key: str, image: LockedImage, manifest: Manifest, base: Path, session: Session) -> None:
    """Makes one image available, and nothing else. Raises KitError."""
    with open_context(session, base, manifest.platform) as context:
        entry = manifest.images[key]
        pieces = {piece.identity: piece for piece in IMAGES[entry.scheme].pieces(key, image, entry, context)}
        require_space(session.store, sum(max(0, piece.room) for piece in pieces.values()), f"the image {key}")
        with session.progress.task(f"fetch {key}", sum(piece.size for piece in pieces.values()), len(pieces)) as task:
            _bring_all(pieces.values(), task, context)


def _pieces(lock: Lock, manifest: Manifest, context: Context) -> dict[str, FetchTask]:
    """What has to be brought, each thing once."""
    found: list[FetchTask] = []
    for key, image in lock.images.items():
        entry = manifest.images[key]
        found += IMAGES[entry.scheme].pieces(key, image, entry, context)
    for key, model in lock.models.items():
        request = manifest.models[key]
        made = {pair.result.path for pair in model.converted} | model.added.keys()
        needed = (*(file for file in model.files if file.path not in made), *missing_sources(model, context.store))
        found += MODELS[request.scheme].pieces(key, model.model_copy(update={"files": needed}), request, context)
        found += added_files.pieces(key, model, request, context)
    for path, extra in lock.files.items():
        found += file.pieces(f"files.{path}", extra, manifest.files[path], context)
    return {piece.identity: piece for piece in found}


def missing_bytes(lock: Lock, store: Store) -> int:
    """How many bytes of ``lock`` the store has yet to take."""
    local = {file.sha256 for model in lock.models.values() if model.endpoint is None for file in model.files}
    wanted = {digest: size for digest, size in _sizes(lock).items() if digest not in local}
    return sum(max(0, size - store.partial_size(digest)) for digest, size in wanted.items() if not store.path(digest).exists())


def payload_bytes(lock: Lock) -> int:
    """How many bytes a bundle of ``lock`` carries, each thing once, without the small files."""
    return sum(_sizes(lock).values())


def _sizes(lock: Lock) -> dict[Digest, int]:
    sizes = {digest: blob.size for digest, blob in lock.image_blobs().items()}
    sizes |= {file.sha256: file.size for model in lock.models.values() for file in model.files}
    return sizes | {extra.sha256: extra.size for extra in lock.files.values()}


def _bring_all(pieces: Iterable[FetchTask], task: Task, context: Context) -> None:
    work = [functools.partial(_bring, piece, task, context.progress) for piece in pieces]
    concurrency.run_all(work, context.jobs, context.client.stop)


def _bring(piece: FetchTask, task: Task, progress: Progress) -> None:
    piece.run(task.advance)
    task.finish_item()
    progress.note(f"{piece.title}: {size(piece.size)}", event="fetched", item=piece.title, bytes=piece.size)


def _summarise(blobs: Blobs, progress: Progress) -> None:
    """The final line: what came over the line, what did not have to, and how often something was asked for again."""
    text = f"fetched {size(blobs.fetched)}, reused {size(blobs.reused)}, retried {blobs.retried}"
    stats = {"fetched": blobs.fetched, "reused": blobs.reused, "retried": blobs.retried}
    progress.note(text, event="summary", **stats)


def _whole(key: str, model: LockedModel, entry: ModelSpec, context: Context) -> dict[Digest, Path]:
    """The places of one model's files, after its weights were found whole."""
    source = MODELS[entry.scheme]

    results = {pair.result for pair in model.converted}

    def place(file: LockedFile) -> Path:
        if file.path in model.added:
            return added_files.local_path(file, model, entry, context)
        return context.store.path(file.sha256) if file in results else source.local_path(file, entry, context)

    make_results(key, model, place, context.store, context.progress)
    check_weights.check_model(model.files, place, key)
    scan_pickles(model.files, place, key, context.store, context.progress)
    return {file.sha256: place(file) for file in model.files}
