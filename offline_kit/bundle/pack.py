"""Pack: the entries of a bundle become one file.

Rules: every blob is looked at, and the space counted, before the first byte is written; the caller gives a name that is not the
final one, proves the file and renames it; whatever ends the packing early leaves no file behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from offline_kit.bundle import archive, member
from offline_kit.bundle.archive import PathOf
from offline_kit.bundle.layout import Entry
from offline_kit.errors import DigestMismatch, DiskError, KitError, SpecError
from offline_kit.progress import Progress

# 1980-01-01: not zero, of which tar warns, and a date that every archive format can hold.
DEFAULT_TIME = 315532800


def partial_name(final: Path) -> Path:
    """The name beside ``final`` that a bundle has until it is proven."""
    return final.with_name(f".{final.name}.partial")


def packed_size(entries: Sequence[Entry], top: str) -> int:
    """The exact size of the bundle in bytes."""
    files = archive.headers(entries, top, DEFAULT_TIME)
    return sum(member.member_length(len(member.render(header)), header.size) for header, _ in files) + len(member.END)


def pack(entries: Sequence[Entry], top: str, path_of: PathOf, out: Path, *, progress: Progress) -> None:
    """Writes the bundle to ``out``, replacing what an earlier run left there; on return it is on the disk.

    ``path_of`` gives the file of a blob. Raises DigestMismatch (a blob is not as long as the lock says), DiskError (a blob
    is missing, no space, not writable); nothing is then left under ``out``.
    """
    mtime = source_date()
    _check_blobs(entries, path_of)
    size = packed_size(entries, top)
    try:
        _check_space(out, size)
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            with progress.task(f"pack {top}", size) as task:
                archive.write(entries, top, mtime, path_of, descriptor, task.advance)
            os.fsync(descriptor)
        except BaseException:
            out.unlink()
            raise
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _disk_error(error, out, size) from error


def source_date() -> int:
    """The time that every file gets: SOURCE_DATE_EPOCH, or a constant."""
    text = os.environ.get("SOURCE_DATE_EPOCH", str(DEFAULT_TIME))
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 8**11:
        raise SpecError(f"not a number of seconds since 1970: {text!r}", where="SOURCE_DATE_EPOCH")
    return int(text)


def _check_blobs(entries: Sequence[Entry], path_of: PathOf) -> None:
    """Every missing blob, or else every blob of a wrong size, in one error."""
    missing, wrong = [], []
    for entry in entries:
        if entry.content is not None:
            continue
        try:
            size = path_of(entry.digest).stat().st_size
        except OSError as error:
            missing.append(f"{entry.path} ({entry.digest}): {error.strerror}")
            continue
        if size != entry.size:
            wrong.append(f"{entry.path} ({entry.digest}): has {size} bytes instead of {entry.size}")
    for kind, lines in ((DiskError, missing), (DigestMismatch, wrong)):
        if lines:
            raise kind("\n".join(["the store cannot give these files:", *lines]), remedy="fetch them again")


def _check_space(out: Path, size: int) -> None:
    state = os.statvfs(out.parent)
    free = state.f_bavail * state.f_frsize
    if out.exists():
        free += out.stat().st_blocks * 512
    if free < size:
        raise DiskError(
            f"needs {size} bytes, {free} are free", where=str(out.parent), remedy="free space or choose another folder"
        )


def _disk_error(error: OSError, out: Path, size: int) -> KitError:
    where = str(error.filename or out)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"the disk became full; the bundle needs {size} bytes", where=where, remedy="free space")
    return DiskError(error.strerror or str(error), where=where)
