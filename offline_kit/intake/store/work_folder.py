"""A folder in the store for one piece of work, on the same disk as the blobs.

Rules: it is this run's alone while it is locked, and gone afterwards; what killed runs left is removed by the next one.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from offline_kit.common.files import disk_errors

_LEFT_BEHIND = 60.0  # seconds: a younger folder may belong to a run that has not locked it yet


@contextmanager
def work_folder(store: Path, prefix: str) -> Iterator[Path]:
    """An empty folder ``prefix...`` in ``store``, absolute and without links. Raises DiskError."""
    with disk_errors(store):
        for old in store.glob(f"{prefix}*"):
            _remove_left_behind(old)
        root = Path(tempfile.mkdtemp(prefix=prefix, dir=store)).resolve()
        descriptor = os.open(root, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)
        os.close(descriptor)


def _remove_left_behind(folder: Path) -> None:
    with suppress(OSError):  # somebody works in it, or it is not ours
        if time.time() - folder.lstat().st_mtime > _LEFT_BEHIND:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(descriptor)
