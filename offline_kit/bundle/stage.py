"""A folder beside the final name, in which a bundle is made and proven before it gets that name.

Rules: one process at a time makes one bundle in one place, a second one is told so; what an earlier run left is removed;
whatever ends the work early leaves nothing; a renaming is on the disk when ``publish`` returns.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from offline_kit.bundle.volumes import json_name, parts_of
from offline_kit.errors import DiskError, KitError

_LOCK = "lock"


@contextmanager
def stage(final: Path) -> Iterator[Path]:
    """An empty folder beside ``final`` on the same file system, for this process alone; gone afterwards. Raises DiskError."""
    folder = final.with_name(f".{final.name}.partial")
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


def _lock(folder: Path, final: Path) -> int:
    while True:
        folder.mkdir(exist_ok=True)
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
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
        sync_folder(final.parent)
        return listed if parts else final


def sync_folder(folder: Path) -> None:
    """Makes the names in ``folder`` last."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            raise
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(where: Path, size: int | None = None) -> Iterator[None]:
    """OSError becomes DiskError; ``size``: bytes that were to be written."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, where, size) from error


def disk_error(error: OSError, where: Path, size: int | None = None) -> KitError:
    """What the system said, for a user."""
    place = str(error.filename or where)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        need = f"; the bundle needs {size} bytes" if size is not None else ""
        return DiskError(f"the disk became full{need}", where=place, remedy="free space")
    return DiskError(error.strerror or str(error), where=place)


def check_space(folder: Path, size: int, freed: int = 0) -> None:
    """Raises DiskError when ``size`` bytes do not fit, if ``freed`` bytes get free on the way."""
    state = os.statvfs(folder)
    free = state.f_bavail * state.f_frsize + freed
    if free < size:
        remedy = "free space or choose another folder"
        raise DiskError(f"needs {size} bytes, {free} are free", where=str(folder), remedy=remedy)
