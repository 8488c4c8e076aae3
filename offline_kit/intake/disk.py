"""Files of the store at their lowest: errors in words, writing all of it, and who holds a file.

Rules: every OSError becomes a DiskError that names the path and what to do; who holds the lock on a file writes to it; the disk
begins to write while bytes still arrive, so that the ``fsync`` at the end finds little left to do.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from offline_kit.errors import DiskError

_BEHIND = 8 << 20  # bytes


def disk_error(error: OSError, path: Path) -> DiskError:
    """The error to show for ``error`` while reading or writing ``path``."""
    remedy = (
        "free some space there, or give another folder with --store"
        if error.errno == errno.ENOSPC
        else "check that it can be used"
    )
    return DiskError(error.strerror or str(error), where=str(error.filename or path), remedy=remedy)


def write_all(descriptor: int, data: bytes | memoryview, path: Path) -> None:
    """Writes every byte of ``data``. Raises DiskError that names ``path``."""
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise disk_error(error, path) from error


def write_behind(descriptor: int, begin: int, end: int) -> None:
    """Has the disk begin with what lies before ``end``, once every few MiB; call it after each write of ``begin`` to ``end``.

    POSIX_FADV_DONTNEED starts the writing of a range and does not wait for it (mm/fadvise.c of Linux); pages that are being
    written stay in memory, so what is read soon after still costs no disk. Where there is no such call, nothing is done.
    """
    block = end // _BEHIND
    if block > begin // _BEHIND and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, (block - 1) * _BEHIND, _BEHIND, os.POSIX_FADV_DONTNEED)


def open_locked(path: Path) -> int | None:
    """A descriptor of the file under this name (made if absent) that nobody else holds, or None if somebody does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between open and lock, the holder may have renamed the file to its final name: then this is not ours to write.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None
