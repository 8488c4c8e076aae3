"""Keeping a store in order: what is in it, whether it is whole, and what may go.

Rules: nothing goes that a kept lock names, or that was used within the time asked for; a lock that cannot be read ends the work
before anything is removed; no blob is removed while a build uses the store (``Store.alone``); a damaged blob goes at once,
for the next build fetches it again. A blob's modification time is when a build last used it.
"""

from __future__ import annotations

import errno
import functools
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from offline_kit.common import concurrency
from offline_kit.common.digest import Digest, Hasher, read_chunks
from offline_kit.common.errors import Interrupted
from offline_kit.common.files import disk_error
from offline_kit.common.progress import Progress
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.spec.lock import Lock


@dataclass(frozen=True)
class StoredBlob:
    """A blob, or (``partial``) what there is of one. ``size`` in bytes on disk, ``used``: seconds since the epoch."""

    digest: Digest
    size: int
    used: float
    partial: bool = False


def list_blobs(store: Store) -> list[StoredBlob]:
    """Everything in the store, the largest first."""
    found = [_describe(Digest(path.name), path, False) for path in store.blob_files()]
    found += [_describe(Digest(path.name), path, True) for path in store.partial_files()]
    return sorted((item for item in found if item), key=lambda item: (-item.size, item.digest))


def verify(store: Store, *, jobs: int, progress: Progress) -> tuple[list[StoredBlob], int]:
    """Hashes every blob and removes those that are not what their name says. Returns these, and how many are whole."""
    blobs = [item for item in list_blobs(store) if not item.partial]
    with (
        HttpClient(TransferOptions(), jobs) as client,
        progress.task("verify", sum(item.size for item in blobs), len(blobs)) as task,
    ):

        def whole(item: StoredBlob) -> bool:
            path, hasher = store.path(item.digest), Hasher()
            try:
                with path.open("rb", buffering=0) as stream:
                    for chunk in read_chunks(stream):
                        hasher.update(chunk)
                        task.advance(len(chunk))
                        if client.stopped.is_set():
                            raise Interrupted("stopped")
            except FileNotFoundError:
                return True  # gone meanwhile, and so not damaged
            except OSError as error:
                if error.errno == errno.EIO:  # the disk fails there: as good as damaged
                    return False
                raise disk_error(error, path) from error
            task.finish_item()
            return hasher.digest() == item.digest

        sound = concurrency.run_all([functools.partial(whole, item) for item in blobs], jobs, client.stop)
    damaged = [item for item, good in zip(blobs, sound, strict=True) if not good]
    for item in damaged:
        store.evict(item.digest)
    return damaged, len(blobs) - len(damaged)


def prune(store: Store, keep: Iterable[Lock], *, older_than: float, dry_run: bool = False) -> Sequence[StoredBlob]:
    """Removes what no lock of ``keep`` names and nobody has used for ``older_than`` seconds; returns it. Raises DiskError."""
    named = {digest for lock in keep for digest in digests(lock)}
    with store.exclusive():
        going = [item for item in list_blobs(store) if item.digest not in named and time.time() - item.used >= older_than]
        for item in going:
            if not dry_run:
                store.remove_partial(item.digest) if item.partial else store.evict(item.digest)
    return going


def evict_damaged(store: Store, lock: Lock) -> list[Digest]:
    """Removes the blobs of ``lock`` whose bytes are no longer those of their name; returns their digests."""
    there = [digest for digest in sorted(digests(lock)) if store.path(digest).exists()]
    damaged = [digest for digest in there if Digest.of_file(store.path(digest)) != digest]
    for digest in damaged:
        store.evict(digest)
    return damaged


def digests(lock: Lock) -> set[Digest]:
    """Every blob that a build of ``lock`` wants."""
    files = {file.sha256 for model in lock.models.values() for file in model.files}
    return files | {extra.sha256 for extra in lock.files.values()} | set(lock.image_blobs())


def _describe(digest: Digest, path: Path, partial: bool) -> StoredBlob | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return StoredBlob(digest, stat.st_blocks * 512 if partial else stat.st_size, stat.st_mtime, partial)
