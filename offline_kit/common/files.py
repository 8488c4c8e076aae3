"""Files at their lowest: errors in words, writing all of it or nothing, and who holds a file.

Rules: a file is replaced whole, by a temporary one beside it that only this process can have made; every OSError becomes a
DiskError that names the path and what to do; who holds the lock on a file writes to it; the disk begins to write while bytes
still arrive, so that the ``fsync`` at the end finds little left to do.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from offline_kit.common.errors import DiskError

Buffer = bytes | memoryview
_BEHIND = 8 << 20  # bytes
_PARTIAL, _LEFT_BEHIND = ".partial", 60.0  # seconds
_VECTOR = 512  # at most IOV_MAX (1,024) buffers go into one call


def disk_error(error: OSError, path: Path, size: int | None = None) -> DiskError:
    """The error to show for ``error`` while reading or writing ``path``; ``size``: bytes that were to be written there."""
    place = error.filename if isinstance(error.filename, str) else str(path)  # it may be the number of a descriptor
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f"; it needs {size} bytes" if size is not None else ""
        remedy = "free some space there, or choose another folder (--store, --output)"
        return DiskError(f"the disk became full{need}", where=place, remedy=remedy)
    if error.errno == errno.EFBIG:
        return file_too_large(place, size)
    if error.errno == errno.EROFS:
        return DiskError("the file system is mounted read-only", where=place, remedy="choose another folder")
    if error.errno == errno.EIO:
        remedy = "a disk or medium fails: copy it anew; of a blob in the store, 'offline-kit store verify' removes it"
        return DiskError("Input/output error", where=place, remedy=remedy)
    return DiskError(error.strerror or str(error), where=place, remedy="check that it can be used")


def file_too_large(place: str, size: int | None = None) -> DiskError:
    """The error for a file that ``place`` can take no more of: FAT ends at 4 GiB, `ulimit -f` where it was set."""
    need = f" ({size} bytes)" if size is not None else ""
    remedy = "write parts with --split 4000M, or use a folder on ext4, XFS or exFAT; `ulimit -f` must be unlimited"
    return DiskError(f"a file of that size{need} cannot be made there", where=place, remedy=remedy)


@contextmanager
def disk_errors(where: Path, size: int | None = None) -> Iterator[None]:
    """OSError becomes DiskError; ``size``: bytes that were to be written."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, where, size) from error


def read_plain_file(path: Path, at_most: int, *, follow: bool = False) -> bytes:
    """The content of a plain file, at most ``at_most`` bytes; never of a pipe or device, and of a link only to ``follow`` it.

    Raises OSError.
    """
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "is neither a file nor a folder", str(path))
        content = bytearray()
        while piece := file.read(min(1 << 20, at_most + 1 - len(content))):
            content += piece
    if len(content) > at_most:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
    return bytes(content)


def replace_file(path: Path, content: bytes, mode: int = 0o644, *, lasting: bool = True) -> None:
    """Writes ``path`` whole or not at all, and never through a link; ``lasting``: on the disk under its name when it returns.

    Raises DiskError.
    """
    with disk_errors(path, len(content)):
        if lasting:
            remove_left_behind(path.parent, f".{glob.escape(path.name)}.*{_PARTIAL}")
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PARTIAL, dir=path.parent)
        partial = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, mode)
                os.fsync(descriptor)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if lasting:
            sync_folder(path.parent)


def remove_left_behind(folder: Path, pattern: str) -> None:
    """Removes files that killed runs of ``replace_file`` left; a young one may belong to a run that is at work."""
    for old in folder.glob(pattern):
        with suppress(OSError):
            if time.time() - old.lstat().st_mtime > _LEFT_BEHIND:
                old.unlink()


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` last. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


def write_all(descriptor: int, pieces: Sequence[Buffer]) -> None:
    """Writes every byte of ``pieces``, however little the system takes at a time. Raises OSError."""
    for first in range(0, len(pieces), _VECTOR):
        rest = list(pieces[first : first + _VECTOR])
        while rest:
            written = os.writev(descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest:
                rest[0] = memoryview(rest[0])[written:]


def write_behind(descriptor: int, begin: int, end: int) -> None:
    """Has the disk begin with what lies before ``end``, once every few MiB; call it after each write of ``begin`` to ``end``.

    POSIX_FADV_DONTNEED starts the writing of a range and does not wait for it (mm/fadvise.c of Linux); pages that are being
    written stay in memory, so what is read soon after still costs no disk. Where there is no such call, nothing is done.
    """
    block = end // _BEHIND
    if block > begin // _BEHIND and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, (block - 1) * _BEHIND, _BEHIND, os.POSIX_FADV_DONTNEED)


def open_locked(path: Path) -> int | None:
    """A descriptor of the file under this name (made if absent, never through a link); None where somebody else holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
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
