"""The store: blobs by digest, kept between builds.

Rules: a name under ``blobs/`` means "these bytes were hashed and are whole", so a blob gets its name only by a rename after
the hash was compared and the data synced; two processes may work on one store at once (unique temporary names, atomic
renames, a lock on every file that is being written); what a killed process leaves behind is found by its free lock and
removed, except a partial download, which the next run goes on with; full and forbidden disks are ``DiskError``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DiskError
from offline_kit.common.files import (
    disk_error,
    open_locked,
    remove_left_behind,
    replace_file,
    sync_folder,
)
from offline_kit.intake.store.writer import Writer

_NAME = re.compile("[0-9a-f]{64}")
_LEFT_BEHIND = 60.0  # seconds: younger temporary files may belong to a writer that has not locked its file yet
_SETTLED_NS = 2_000_000_000  # a file that changed this recently may change again without its times telling


class Store:
    """Content-addressed blobs below ``root``, a memo of what was found out before, and partial downloads."""

    def __init__(self, root: Path) -> None:
        """Makes the folders. Raises DiskError."""
        self.root = root
        self._blobs, self._partial, self._memo = root / "blobs" / "sha256", root / "partial", root / "memo"
        try:
            for folder in (self._blobs, self._partial, self._memo):
                folder.mkdir(parents=True, exist_ok=True)
            self._remove_left_behind()
        except OSError as error:
            raise disk_error(error, root) from error

    @staticmethod
    def default_root() -> Path:
        """``OFFLINE_KIT_STORE``, or ``offline-kit`` below ``XDG_CACHE_HOME`` or ``~/.cache``. Raises DiskError."""
        chosen, cache = os.environ.get("OFFLINE_KIT_STORE"), os.environ.get("XDG_CACHE_HOME")
        if chosen:
            return Path(chosen)
        try:
            return Path(cache or Path.home() / ".cache") / "offline-kit"
        except RuntimeError as error:
            raise DiskError("this user has no home folder", where="HOME", remedy="name a folder with --store") from error

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the blob is here; one of another size is damaged and goes."""
        try:
            found = self.path(digest).stat().st_size
        except FileNotFoundError:
            return False
        if found != size:
            self.evict(digest)
        return found == size

    def evict(self, digest: Digest) -> None:
        """Forgets the blob, so that the next fetch brings it anew."""
        self.path(digest).unlink(missing_ok=True)

    def touch(self, digest: Digest) -> None:
        """Notes that the blob is in use now: ``prune`` goes by that."""
        with contextlib.suppress(OSError):  # a store that may only be read serves as well
            os.utime(self.path(digest))

    def blob_files(self) -> list[Path]:
        """The files of all blobs."""
        return [path for path in self._blobs.iterdir() if _NAME.fullmatch(path.name)]

    def partial_files(self) -> list[Path]:
        """The files of all partial downloads."""
        return [path for path in self._partial.iterdir() if _NAME.fullmatch(path.name)]

    def remove_partial(self, digest: Digest) -> None:
        """Removes a partial download that nobody is working on."""
        path = self._partial / digest.hex
        descriptor = open_locked(path)
        if descriptor is not None:
            path.unlink(missing_ok=True)
            self.partial_state(digest).unlink(missing_ok=True)
            os.close(descriptor)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While this is held, nothing that a build needs is pruned. Several may hold it."""
        with self._guard(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """While this is held, no build begins to use the store. Raises DiskError when one does already."""
        with self._guard(fcntl.LOCK_EX | fcntl.LOCK_NB):
            yield

    @contextlib.contextmanager
    def _guard(self, mode: int) -> Iterator[None]:
        path = self.root / "in-use"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise disk_error(error, path) from error
        try:
            try:
                fcntl.flock(descriptor, mode)
            except BlockingIOError as error:
                remedy = "try again when the build has ended"
                raise DiskError("a build is using it", where=str(self.root), remedy=remedy) from error
            yield
        finally:
            os.close(descriptor)

    def writer(self) -> Writer:
        """A new blob: write, then ``commit``; left without a commit, nothing stays."""
        return Writer(self._partial, self._rename)

    def put(self, data: bytes) -> Digest:
        """Stores bytes in memory."""
        digest = Digest.of(data)
        if not self.has(digest, len(data)):
            with self.writer() as writer:
                writer.write(data)
                writer.commit(digest, len(data))
        return digest

    # What was found out before -------------------------------------------------------------------------------------------

    def put_memo(self, key: str, value: Any) -> None:
        """Keeps ``value`` (JSON) under ``key``."""
        target = self._memo / Digest.of(key.encode()).hex
        replace_file(target, json.dumps({"key": key, "value": value}).encode(), lasting=False)  # lost, it is found out again

    def get_memo(self, key: str) -> Any:
        """What was kept under ``key``, or None. A damaged note counts as none."""
        try:
            note = json.loads((self._memo / Digest.of(key.encode()).hex).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return note["value"] if isinstance(note, dict) and note.get("key") == key else None

    def cache_digest(self, path: Path, stat: os.stat_result, digest: Digest) -> None:
        """Keeps the digest of a local file whose ``stat`` was taken before it was hashed.

        A file that changed just before is not kept: it could change again within the clock's grain.
        """
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS:
            self.put_memo(f"file:{path}", {"stat": _identity(stat), "sha256": str(digest)})

    def cached_digest(self, path: Path, stat: os.stat_result) -> Digest | None:
        """The digest of a local file that is the one which was hashed before (same place, size, times, inode)."""
        memo = self.get_memo(f"file:{path}")
        return Digest(memo["sha256"]) if memo and memo["stat"] == _identity(stat) else None

    # Partial downloads ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def partial(self, digest: Digest, stop: threading.Event) -> Iterator[int | None]:
        """A file descriptor of the partial download of ``digest``, locked; waits for another process that has it.

        None: the wait ended because the blob is there now, or because ``stop`` was set. The file stays when the block ends,
        unless ``commit_partial`` gave it its final name.
        """
        path = self._partial / digest.hex
        descriptor: int | None = None
        while descriptor is None and not self.path(digest).exists() and not stop.is_set():
            try:
                descriptor = open_locked(path)
            except OSError as error:
                raise disk_error(error, path) from error
            if descriptor is None:
                stop.wait(0.1)
            elif self.path(digest).exists():  # it got its name between the question and the lock: the file is a new one
                path.unlink(missing_ok=True)
                os.close(descriptor)
                descriptor = None
        try:
            yield descriptor
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def partial_state(self, digest: Digest) -> Path:
        """Where it is noted what the partial download holds."""
        return self._partial / f"{digest.hex}.ledger"

    def partial_length(self, descriptor: int, size: int) -> int:
        """How long the partial download is; what is longer than ``size`` is cut. Raises DiskError."""
        try:
            length = os.fstat(descriptor).st_size
            if length > size:
                os.ftruncate(descriptor, size)
        except OSError as error:
            raise disk_error(error, self._partial) from error
        return min(length, size)

    def partial_size(self, digest: Digest) -> int:
        """How many bytes of disk the partial download has already."""
        try:
            return (self._partial / digest.hex).stat().st_blocks * 512
        except OSError:
            return 0

    def commit_partial(self, digest: Digest, descriptor: int) -> None:
        """Gives the partial download, which the caller has hashed, its final name."""
        path = self._partial / digest.hex
        try:
            os.fsync(descriptor)
            self._rename(path, digest)
            self.partial_state(digest).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, path) from error

    def _rename(self, temporary: Path, digest: Digest) -> None:
        temporary.replace(self.path(digest))
        sync_folder(self._blobs)

    def _remove_left_behind(self) -> None:
        """Removes temporary files whose writer is gone."""
        remove_left_behind(self._memo, ".*.partial")
        for path in self._partial.glob("tmp-*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _LEFT_BEHIND:
                    descriptor = open_locked(path)
                    if descriptor is not None:
                        path.unlink(missing_ok=True)
                        os.close(descriptor)


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
