"""The files of a bundle or kit, read at any place and in any order, without unpacking.

Rules: what is read is not proven here: whoever passes it on compares digests; a bundle is read in its own container alone
(another compression has no places to hop to); nothing is followed that is not a plain file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from offline_kit.bundle.format import member, parts
from offline_kit.bundle.read import members
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.observed import Evidence
from offline_kit.bundle.read.open import compression_of
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError

_PIECE = 1 << 20
_STEP = member.BLOCK + member.FRAME.size


class Payload:
    """The files below the bundle or kit at ``path``. Use as a context manager; safe for several threads.

    Raises BundleUnreadable, BundleDamaged and DiskError.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._span: MultiFile | None = None
        self._members: dict[str, members.Member] = {}
        try:
            if not path.is_dir():
                self._open_bundle(path)
        except OSError as error:
            raise DiskError(error.strerror or str(error), where=str(path)) from error

    def _open_bundle(self, path: Path) -> None:
        found = parts.locate(path)
        if found.findings or not found.files:
            lines = "; ".join(str(finding) for finding in found.findings) or "none of its parts is there"
            raise BundleDamaged(lines, where=str(path))
        self._span = MultiFile(found.files)
        if compression_of(self._span) is not None:
            self._span.close()
            what = "is compressed: its files can only be read from the beginning"
            raise BundleUnreadable(what, where=str(path), remedy="'offline-kit unpack' it and name the kit's folder")
        evidence = Evidence("bundle")
        found_members = members.scan(self._span, evidence)
        if evidence.findings:
            self._span.close()
            raise BundleDamaged(str(evidence.findings[0]), where=str(path), remedy="copy it again")
        self._members = {item.path: item for item in found_members if item.path is not None}

    def size(self, path: str) -> int | None:
        """The bytes of the file at ``path``; None where there is no such file."""
        if self._span is not None:
            return self._members[path].header.size if path in self._members else None
        try:
            state = (self._path / path).lstat()
        except OSError:
            return None
        return state.st_size if stat.S_ISREG(state.st_mode) else None

    def read(self, path: str, offset: int, length: int) -> Iterator[memoryview]:
        """``length`` bytes of the file from ``offset``, in pieces. Raises BundleDamaged (it is shorter), DiskError."""
        try:
            yield from self._of_bundle(path, offset, length) if self._span else self._of_folder(path, offset, length)
        except OSError as error:
            raise DiskError(error.strerror or str(error), where=str(self._path / path)) from error

    def _of_bundle(self, path: str, offset: int, length: int) -> Iterator[memoryview]:
        item, span = self._members[path], self._span
        assert span is not None
        start = item.offset + member.GZIP_HEAD + member.FRAME.size + len(item.tar)
        buffer = memoryview(bytearray(16 * _STEP))
        while length > 0:
            block, within = divmod(offset, member.BLOCK)
            place = start + block * _STEP
            count = span.fill(buffer, place)
            at = 0
            while at < count and length > 0:
                piece = buffer[at + member.FRAME.size + within : min(at + _STEP, count)][:length]
                if not piece:
                    raise BundleDamaged("ends early", where=f"{self._path}: {path}")
                yield piece
                at, within, offset, length = at + _STEP, 0, offset + len(piece), length - len(piece)
            if not count:
                raise BundleDamaged("ends early", where=f"{self._path}: {path}")

    def _of_folder(self, path: str, offset: int, length: int) -> Iterator[memoryview]:
        descriptor = os.open(self._path / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            buffer = memoryview(bytearray(min(_PIECE, max(length, 1))))
            while length > 0:
                count = os.preadv(descriptor, [buffer[: min(length, len(buffer))]], offset)
                if not count:
                    raise BundleDamaged("ends early", where=str(self._path / path))
                yield buffer[:count]
                offset, length = offset + count, length - count
        finally:
            os.close(descriptor)

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._span is not None:
            self._span.close()
