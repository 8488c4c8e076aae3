"""What a compression does: read a stream, say whether it ends where the file does, and write one."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Protocol

from offline_kit.common.files import Buffer


class Damaged(Exception):
    """The stream cannot be read further."""


class Source(Protocol):
    """A file, read at any place; ``size`` in bytes."""

    size: int

    def pread(self, count: int, offset: int) -> bytes: ...


class Sink(Protocol):
    """Takes bytes in order."""

    def write(self, piece: Sequence[Buffer]) -> None: ...


class Compressor(Sink, Protocol):
    """A sink in front of another one."""

    def finish(self) -> None:
        """Writes what is still kept back, and the end."""


class Codec(Protocol):
    """How one compression is read."""

    def inflate(self, stream: io.RawIOBase) -> Iterator[bytes]:
        """The uncompressed bytes, in pieces. Raises Damaged."""

    def check_end(self, source: Source) -> None:
        """Raises Damaged if the file is cut off, or more follows, and ``inflate`` does not say so."""


class Encoder(Protocol):
    """How one compression is written."""

    def compressor(self, sink: Sink, size: int, threads: int) -> Compressor:
        """A writer in front of ``sink``; ``size``: exactly so many bytes will come."""
