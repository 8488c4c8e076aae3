"""A blob on its way into the store.

Rules: it is hashed while it is written, and gets its name only when it is on the disk and has the digest
that is expected; until then its file is locked, so that nobody takes it for one that was left behind.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from offline_kit.common.digest import Digest, Hasher
from offline_kit.common.errors import DigestMismatch
from offline_kit.common.files import (
    disk_error,
    disk_errors,
    write_all,
    write_behind,
)


class Writer:
    """A blob on its way into the store: hashed while it is written."""

    def __init__(self, folder: Path, rename: Callable[[Path, Digest], None]) -> None:
        """``folder``: for what is not whole yet; ``rename`` gives a file its final name."""
        self._rename, self._hasher = rename, Hasher()
        self._path = folder / f"tmp-{os.getpid()}-{secrets.token_hex(6)}"
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise disk_error(error, self._path) from error

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._hasher.size

    def write(self, data: bytes | memoryview) -> int:
        """Appends ``data``. Raises DiskError."""
        with disk_errors(self._path):
            write_all(self._descriptor, [data])
        write_behind(self._descriptor, self.size, self.size + len(data))
        self._hasher.update(data)
        return len(data)

    def commit(self, expected: Digest | None = None, expected_size: int | None = None, title: str = "blob") -> Digest:
        """Gives the blob its name. Raises DigestMismatch when it is not the expected one; then nothing stays."""
        digest = self._hasher.digest()
        check(title, digest, self.size, expected, expected_size)
        try:
            os.fsync(self._descriptor)
            self._rename(self._path, digest)
        except OSError as error:
            raise disk_error(error, self._path) from error
        return digest

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def check(title: str, found: Digest, size: int, expected: Digest | None, expected_size: int | None, remedy: str = "") -> None:
    """Raises DigestMismatch, naming ``title``, when size or digest are not the expected ones."""
    if expected_size is not None and size != expected_size:
        raise DigestMismatch(f"has {size} bytes, expected {expected_size}", where=title, remedy=remedy)
    if expected is not None and found != expected:
        raise DigestMismatch(f"has digest {found}, expected {expected}", where=title, remedy=remedy)
