"""Where the bytes of a bundle go: into one file, or into parts of one size, hashed on their way.

Rules: a part is full before the next begins; at the end everything is on the disk; what is written is counted and hashed once,
for the .parts.json, which ``verify`` then holds against the finished files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol

from offline_kit.bundle.volumes import Part, Volumes, digits_for, json_name, part_name
from offline_kit.digest import Digest

Buffer = bytes | memoryview
_VECTOR = 512  # at most IOV_MAX (1,024) buffers go into one call


class Sink(Protocol):
    """Takes bytes in order."""

    def write(self, piece: Sequence[Buffer]) -> None: ...


class Opened(Sink, Protocol):
    """A sink into files; leaving it without an error makes them last, with one removes them."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_sink(out: Path, split: int | None, size: int) -> Opened:
    """``out`` in one file, or with ``split`` in parts of so many bytes beside it, and their .parts.json. ``size``: at most so
    many bytes will come. Raises SpecError (parts too small or too many) and OSError."""
    return _File(out) if split is None else _Parts(out, split, digits_for(size, split))


class _File:
    def __init__(self, out: Path) -> None:
        self._out = out
        self._descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, piece: Sequence[Buffer]) -> None:
        write_all(self._descriptor, piece)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
            if kind is not None:
                self._out.unlink(missing_ok=True)


class _Parts:
    def __init__(self, out: Path, split: int, digits: int) -> None:
        self._out, self._split, self._digits = out, split, digits
        self._whole, self._part = hashlib.sha256(), hashlib.sha256()
        self._parts: list[Part] = []
        self._left = 0  # of the part that is open
        self._file: _File | None = None
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hash")

    def write(self, piece: Sequence[Buffer]) -> None:
        rest = [memoryview(buffer) for buffer in piece if len(buffer)]
        while rest:
            if not self._left:
                self._next()
            now: list[Buffer] = []
            while rest and self._left:
                head = rest[0][: self._left]
                rest[:1] = [rest[0][len(head) :]] if len(head) < len(rest[0]) else []
                self._left -= len(head)
                now.append(head)
            assert self._file is not None
            # Two digests of everything, in two threads beside the writing: the bytes are in the processor's cache now.
            hashing = [self._pool.submit(_feed, digest, now) for digest in (self._whole, self._part)]
            try:
                self._file.write(now)
            finally:
                for job in hashing:
                    job.result()

    def _next(self) -> None:
        self._finish()
        name = part_name(self._out.name, len(self._parts) + 1, self._digits)
        self._file, self._left, self._part = _File(self._out.with_name(name)), self._split, hashlib.sha256()

    def _finish(self) -> None:
        """Closes the part that is open."""
        if self._file is None:
            return
        file, self._file = self._file, None
        file.__exit__(None, None, None)
        name = part_name(self._out.name, len(self._parts) + 1, self._digits)
        size = self._split - self._left
        self._parts.append(Part(name=name, size=size, sha256=Digest(self._part.hexdigest())))

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._pool.shutdown()
        if kind is None:
            self._finish()
            size = sum(part.size for part in self._parts)
            whole = Digest(self._whole.hexdigest())
            volumes = Volumes(name=self._out.name, size=size, sha256=whole, parts=tuple(self._parts))
            with _File(self._out.with_name(json_name(self._out.name))) as file:
                file.write([volumes.text().encode()])
            return
        if self._file is not None:
            self._file.__exit__(kind, error, trace)
        for part in self._parts:
            self._out.with_name(part.name).unlink(missing_ok=True)


def _feed(digest: hashlib._Hash, piece: Sequence[Buffer]) -> None:
    for buffer in piece:
        digest.update(buffer)


def write_all(descriptor: int, piece: Sequence[Buffer]) -> None:
    """All of the piece, however little the system takes at a time."""
    for first in range(0, len(piece), _VECTOR):
        rest = list(piece[first : first + _VECTOR])
        while rest:
            written = os.writev(descriptor, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest:
                rest[0] = memoryview(rest[0])[written:]
