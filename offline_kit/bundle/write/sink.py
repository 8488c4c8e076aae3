"""Where the bytes of a bundle go: into one file, or into parts of one size, hashed on their way.

Rules: a part is full before the next begins; at the end everything is on the disk; what is written is counted and hashed once,
on its way: for the .parts.json, which ``verify`` then holds against the finished files, and the .sha256 that people compare.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Protocol

from offline_kit.bundle.compression import Sink
from offline_kit.bundle.format.parts import Part, Volumes, digits_for, json_name, part_name, sums_name
from offline_kit.common.digest import Digest
from offline_kit.common.files import Buffer, write_all, write_behind

BEHIND = 3  # pieces: a disk that makes a write wait does not make the hash wait, nor the other way round


class Opened(Sink, Protocol):
    """A sink into files; leaving it without an error makes them last, with one removes them."""

    def __enter__(self) -> Sink: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


def open_sink(out: Path, split: int | None, size: int) -> Opened:
    """``out`` in one file, or with ``split`` in parts of so many bytes beside it, and their .parts.json; the .sha256 of either.

    ``size``: at most so many bytes will come. Raises SpecError (parts too small or too many) and OSError."""
    return _OneFile(out) if split is None else _Parts(out, split, digits_for(size, split))


class _File:
    def __init__(self, out: Path) -> None:
        self._out, self._size = out, 0
        self._descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)

    def write(self, piece: Sequence[Buffer]) -> None:
        write_all(self._descriptor, piece)
        begin, self._size = self._size, self._size + sum(len(buffer) for buffer in piece)
        write_behind(self._descriptor, begin, self._size)  # so that little is left for the fsync to wait for

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


class _Hashing:
    """Digests of what is written, in threads of their own, at most ``BEHIND`` pieces behind the writing."""

    def __init__(self, digests: int) -> None:
        self._pools = [ThreadPoolExecutor(1, thread_name_prefix="hash") for _ in range(digests)]
        self._jobs: deque[list[Future[None]]] = deque()

    def feed(self, piece: Sequence[Buffer], *digests: hashlib._Hash) -> None:
        """``digests``: one a thread, fed in the order of the calls. ``piece`` may be used again ``BEHIND`` calls later."""
        self._jobs.append([pool.submit(_feed, digest, piece) for pool, digest in zip(self._pools, digests, strict=True)])
        while len(self._jobs) > BEHIND:
            self._await_one()

    def drain(self) -> None:
        """Waits until all is hashed."""
        while self._jobs:
            self._await_one()

    def end(self) -> None:
        """As ``drain``; nothing comes any more."""
        self.drain()
        for pool in self._pools:
            pool.shutdown()

    def _await_one(self) -> None:
        for job in self._jobs.popleft():
            job.result()


class _OneFile:
    def __init__(self, out: Path) -> None:
        self._out, self._file, self._digest, self._hashing = out, _File(out), hashlib.sha256(), _Hashing(1)

    def write(self, piece: Sequence[Buffer]) -> None:
        self._hashing.feed(piece, self._digest)
        self._file.write(piece)

    def __enter__(self) -> _OneFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hashing.end()
        self._file.__exit__(kind, error, trace)
        if kind is None:
            _write_sums(self._out, [(self._digest.hexdigest(), self._out.name)])


class _Parts:
    def __init__(self, out: Path, split: int, digits: int) -> None:
        self._out, self._split, self._digits = out, split, digits
        self._whole, self._hashing = hashlib.sha256(), _Hashing(2)
        self._part = hashlib.sha256()
        self._parts: list[Part] = []
        self._left = 0  # of the part that is open
        self._file: _File | None = None

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
            self._hashing.feed(now, self._whole, self._part)
            self._file.write(now)

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
        self._hashing.drain()
        name = part_name(self._out.name, len(self._parts) + 1, self._digits)
        size = self._split - self._left
        self._parts.append(Part(name=name, size=size, sha256=Digest(self._part.hexdigest())))

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._hashing.end()
        if kind is None:
            self._finish()
            size = sum(part.size for part in self._parts)
            whole = Digest(self._whole.hexdigest())
            volumes = Volumes(name=self._out.name, size=size, sha256=whole, parts=tuple(self._parts))
            with _File(self._out.with_name(json_name(self._out.name))) as file:
                file.write([volumes.text().encode()])
            _write_sums(self._out, [(part.sha256.hex, part.name) for part in self._parts])
            return
        if self._file is not None:
            self._file.__exit__(kind, error, trace)
        for part in self._parts:
            self._out.with_name(part.name).unlink(missing_ok=True)


def _write_sums(out: Path, sums: Iterable[tuple[str, str]]) -> None:
    """What ``sha256sum --check`` reads, beside ``out``."""
    with _File(out.with_name(sums_name(out.name))) as file:
        file.write(["".join(f"{digest}  {name}\n" for digest, name in sums).encode()])


def _feed(digest: hashlib._Hash, piece: Sequence[Buffer]) -> None:
    # Copied together first: hashing lets go of the interpreter's lock for every buffer, and a piece has one for each 64 KiB.
    digest.update(b"".join(piece))
