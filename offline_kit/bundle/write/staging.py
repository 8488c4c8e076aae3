"""A folder beside the final name, in which a bundle is made and proven before it gets that name.

Rules: one process at a time makes one bundle in one place, a second one is told so; what an earlier run left is removed;
whatever ends the work early leaves nothing; a renaming is on the disk when ``publish`` returns.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from offline_kit.bundle.format.parts import json_name, parts_of, sums_name
from offline_kit.common.errors import DiskError
from offline_kit.common.files import disk_errors, file_too_large, sync_folder

_LOCK, _PARTIAL = "lock", ".partial"


@contextmanager
def stage(final: Path) -> Iterator[Path]:
    """An empty folder beside ``final`` on the same file system, for this process alone; gone afterwards. Raises DiskError."""
    folder = final.with_name(f".{final.name}{_PARTIAL}")
    with disk_errors(folder):
        descriptor = _lock(folder, final)
    try:
        with disk_errors(folder):
            _clear(folder)
        yield folder
    finally:
        with suppress(OSError):  # what cannot be removed now, the next run removes
            _clear(folder)
            # The lock goes last and while it is held: whoever opened the file meanwhile sees that it is no longer that one.
            (folder / _LOCK).unlink()
            folder.rmdir()
        os.close(descriptor)


def clear_stages(folder: Path, begin: str) -> None:
    """Removes what killed runs left in ``folder`` of bundles whose names begin so; a stage that is in use stays."""
    for left in folder.glob(f".{glob.escape(begin)}*{_PARTIAL}"):
        with suppress(DiskError), stage(folder / left.name[1 : -len(_PARTIAL)]):
            pass


def _lock(folder: Path, final: Path) -> int:
    while True:
        with suppress(FileExistsError):
            folder.mkdir(0o700)
        try:
            _check_own(folder)
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except FileNotFoundError:  # another process was just done, and removed it
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                os.close(descriptor)
                raise DiskError(
                    "another process is making this bundle here", where=str(final), remedy="wait until it is done"
                ) from error
            # A file system without locks: there is no way to tell, and no reason to refuse.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), (folder / _LOCK).stat()):
                return descriptor
        os.close(descriptor)


def _check_own(folder: Path) -> None:
    """The folder is one that a run of this user made: what lies behind a link, or belongs to others, is never emptied."""
    state = folder.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid():
        what = "is not a folder of this user's earlier runs, but a link, a file or somebody else's"
        raise DiskError(what, where=str(folder), remedy="look at it and remove it, or choose another --output")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def publish(folder: Path, final: Path) -> Path:
    """Moves the proven bundle out of its stage to ``final``; returns the path to hand on: itself, or its .parts.json.

    Of a bundle in parts, what lies there from before under its name is replaced, and removed where the new one has fewer.
    Raises DiskError.
    """
    with disk_errors(final):
        whole = folder / final.name
        listed = final.with_name(json_name(final.name))
        parts = parts_of(folder, final.name)
        sums = final.with_name(sums_name(final.name))
        sums.unlink(missing_ok=True)  # a sum never stands beside other bytes than its own
        if not parts:
            whole.replace(final)
        for part in parts:
            part.replace(final.with_name(part.name))
        if parts:
            (folder / listed.name).replace(listed)
            kept = {part.name for part in parts}
            for old in parts_of(final.parent, final.name):
                if old.name not in kept:
                    old.unlink()
        (folder / sums.name).replace(sums)
        sync_folder(final.parent)
        return listed if parts else final


def check_file_size(folder: Path, size: int) -> None:
    """Raises DiskError when no file in ``folder`` can have ``size`` bytes: known before any is written."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit != resource.RLIM_INFINITY and size > limit:
        raise file_too_large(str(folder), size)
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            file.seek(size)  # a file system refuses an offset beyond its largest file; nothing is written
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EFBIG):
                raise
            raise file_too_large(str(folder), size) from error


def check_space(folder: Path, size: int, freed: int = 0) -> None:
    """Raises DiskError when ``size`` bytes do not fit, if ``freed`` bytes get free on the way."""
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize + freed
    if free < size:
        remedy = "free space or choose another folder"
        raise DiskError(f"needs {size} bytes, {free} are free", where=str(folder), remedy=remedy)
