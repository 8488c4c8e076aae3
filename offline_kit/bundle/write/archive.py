"""Entries become the bytes of a bundle: one pass over each blob, reading ahead of the writing, in bounded memory.

Rules: nothing is deflated (``docs/bundle-format.md`` says why), so that the size is known before the first byte and the bytes
depend on nothing but the entries and the time; a blob that is not exactly as long as its entry says ends the writing.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

from isal.isal_zlib import crc32

from offline_kit.bundle.compression import Sink
from offline_kit.bundle.format import member, paths
from offline_kit.bundle.format.entries import Entry
from offline_kit.bundle.write.sink import BEHIND
from offline_kit.common.concurrency import READ_AHEAD, read_ahead
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch
from offline_kit.common.files import Buffer

Piece = list[Buffer]
PathOf = Callable[[Digest], Path]

BYTES_AT_ONCE = 32 * member.BLOCK  # large enough that system calls do not count, small enough for the processor's cache
BUFFERS = READ_AHEAD + 2 + BEHIND  # one is being filled, one written; the others wait in between, or are hashed behind


def headers(entries: Iterable[Entry], top: str, mtime: int) -> Iterator[tuple[member.Header, Entry | None]]:
    """The header of every file and folder in the order of the archive; a folder has no entry."""
    by_name = {f"{top}/{entry.path}": entry for entry in entries}
    for name in paths.with_folders(top, (entry.path for entry in by_name.values())):
        if name.endswith("/"):
            yield member.Header(name, 0, member.FOLDER_MODE, mtime), None
        else:
            entry = by_name[name]
            yield member.Header(name, entry.size, entry.mode, mtime), entry


def write(pieces: Iterator[Piece], sink: Sink, advance: Callable[[int], None]) -> None:
    """All of ``pieces``, made in a thread of their own, to ``sink``. Raises OSError, DigestMismatch (a blob of wrong size)."""
    with closing(read_ahead(pieces)) as ready:
        for piece in ready:
            sink.write(piece)
            advance(sum(len(part) for part in piece))


def plain_pieces(entries: Iterable[Entry], top: str, mtime: int, path_of: PathOf) -> Iterator[Piece]:
    """The tar alone, as ``member_pieces`` gives it in members."""
    ring = _ring()
    for header, entry in headers(entries, top, mtime):
        yield [member.render(header)]
        for chunk, _ in _content(entry, path_of, ring) if entry else ():
            yield [chunk]
    yield [member.END_RECORDS]


def member_pieces(entries: Iterable[Entry], top: str, mtime: int, path_of: PathOf) -> Iterator[Piece]:
    """The bundle's bytes in order. A piece may lie in a buffer that is used again ``BUFFERS`` pieces later."""
    ring = _ring()
    for header, entry in headers(entries, top, mtime):
        tar = member.render(header)
        if entry is None:
            yield [member.small_member(tar)]
            continue
        length = member.member_length(len(tar), entry.size)
        yield [member.gzip_head(length), member.frame(len(tar), entry.size == 0), tar]
        check = crc32(tar)
        for chunk, last in _content(entry, path_of, ring):
            check = crc32(chunk, check)
            yield _framed(chunk, last)
        yield [member.TRAILER.pack(check, (len(tar) + member.padded_size(entry.size)) & 0xFFFFFFFF)]
    yield [member.END]


def _ring() -> Iterator[memoryview]:
    return cycle([memoryview(bytearray(BYTES_AT_ONCE + member.RECORD)) for _ in range(BUFFERS)])


def _content(entry: Entry, path_of: PathOf, ring: Iterator[memoryview]) -> Iterator[tuple[memoryview, bool]]:
    """The content in chunks, the last one (marked) filled up with zeros. Raises DigestMismatch when the blob is shorter."""
    opened = path_of(entry.digest).open("rb", buffering=0) if entry.content is None else io.BytesIO(entry.content)
    with opened as stream:
        remaining = entry.size
        while remaining:
            buffer = next(ring)
            wanted = min(remaining, BYTES_AT_ONCE)
            filled = 0
            while filled < wanted:
                try:
                    count = stream.readinto(buffer[filled:wanted])
                except OSError as error:
                    error.filename = str(path_of(entry.digest))  # not the file that is being written
                    raise
                if not count:
                    short = f"ended {remaining - filled} bytes early while it was packed"
                    raise DigestMismatch(short, where=entry.path, remedy="fetch it again")
                filled += count
            remaining -= filled
            end = filled if remaining else filled + -entry.size % member.RECORD
            buffer[filled:end] = bytes(end - filled)
            yield buffer[:end], not remaining


def _framed(chunk: memoryview, last: bool) -> Piece:
    """The chunk cut into stored blocks."""
    piece: Piece = []
    for start in range(0, len(chunk), member.BLOCK):
        block = chunk[start : start + member.BLOCK]
        piece += [member.frame(len(block), last and start + member.BLOCK >= len(chunk)), block]
    return piece
