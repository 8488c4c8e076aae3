"""Layers in the one form that every Docker loads: gzip.

Rules: the same tar gives the same gzip bytes (fixed level and blocks; the number of threads does not matter), so a lock can
be fulfilled again; a layer that is converted is proven by its diff ID, the digest of the tar, before it gets a name; what was
converted once is remembered by diff ID.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard
from isal import igzip, igzip_threaded

from offline_kit.digest import CHUNK, Digest, Hasher, read_chunks
from offline_kit.errors import DigestMismatch
from offline_kit.intake.store import Store, Writer

LEVEL = 2
_BLOCK = 1 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# isal has no types for its functions
_open_gzip: Any = igzip_threaded.open
_open: Any = igzip.open
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50 to 0x5f


def form(head: bytes | memoryview) -> str:
    """``gzip``, ``zstd`` or ``tar``, by the first bytes of a layer."""
    start = bytes(head[:4])
    if start[:2] == GZIP:
        return "gzip"
    return "zstd" if start == ZSTD or (start[1:] == _ZSTD_SKIPPABLE and start[0] & 0xF0 == 0x50) else "tar"


def converted(store: Store, diff_id: Digest) -> tuple[Digest, int] | None:
    """Digest and size of the gzip form of a layer, if it was made before and is still here."""
    held = store.noted(f"layer:{diff_id}")
    if held is None:
        return None
    digest, size = Digest(held["digest"]), int(held["size"])
    return (digest, size) if store.has(digest, size) else None


def keep(store: Store, diff_id: Digest, digest: Digest, size: int) -> None:
    """Remembers the gzip form of a layer."""
    store.note(f"layer:{diff_id}", {"digest": str(digest), "size": size})


def compress(
    store: Store, tar: Iterable[bytes | memoryview], expected: Digest | None, title: str
) -> tuple[Digest, Digest, int]:
    """Stores ``tar`` as gzip. Returns diff ID, digest and size. Raises DigestMismatch when the diff ID is not ``expected``."""
    hasher = Hasher()
    with store.writer() as writer:
        threads = max(2, min(8, os.cpu_count() or 2))
        with _open_gzip(_Sink(writer), "wb", compresslevel=LEVEL, threads=threads, block_size=_BLOCK) as stream:
            for block in _blocks(tar):
                hasher.update(block)
                stream.write(block)
        prove(hasher.digest(), expected, title)
        digest, size = writer.commit(), writer.size
    keep(store, hasher.digest(), digest, size)
    return hasher.digest(), digest, size


def unpacked(path: Path, title: str) -> Iterator[memoryview]:
    """The tar in a layer of any form, in pieces. Raises DigestMismatch when it is damaged."""
    with path.open("rb") as file:
        kind = form(file.read(4))
        file.seek(0)
        stream: Any = file
        if kind == "gzip":
            stream = _open(file, "rb")
        elif kind == "zstd":
            decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
            stream = decompressor.stream_reader(file, read_size=CHUNK, read_across_frames=True)
        try:
            yield from read_chunks(stream)
        except (zstandard.ZstdError, OSError, EOFError) as error:
            raise DigestMismatch(f"the {kind} layer cannot be unpacked: {error}", where=title) from error
        finally:
            stream.close()


def diff_id(path: Path, title: str) -> Digest:
    """The digest of the tar in a layer of any form."""
    hasher = Hasher()
    for piece in unpacked(path, title):
        hasher.update(piece)
    return hasher.digest()


def prove(found: Digest, expected: Digest | None, title: str) -> None:
    """Raises DigestMismatch when a layer is not the one that the image configuration names."""
    if expected is not None and found != expected:
        remedy = "the image is inconsistent at its source: push or build it again"
        raise DigestMismatch(f"has diff ID {found}, the image configuration says {expected}", where=title, remedy=remedy)


def _blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The same bytes in blocks of one size: where a block ends decides about the compressed bytes."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= _BLOCK:
            yield bytes(held[:_BLOCK])
            del held[:_BLOCK]
    if held:
        yield bytes(held)


class _Sink:
    """A Writer as the file that igzip writes to."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        return self._writer.write(data)

    def flush(self) -> None:
        """Nothing is buffered here."""
