"""Layers in the one form that every Docker loads: gzip.

Rules: the same tar gives the same gzip bytes (fixed level and blocks; the number of threads does not matter), so a lock can
be fulfilled again; a layer that is converted is proven by its diff ID, the digest of the tar, before it gets a name; what was
converted once is remembered by diff ID; a gzip layer that is kept is proven too, beside its download, and that is remembered by
digest.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import zstandard
from isal import igzip_threaded, isal_zlib

from offline_kit.common.budget import Budget, OverBudget
from offline_kit.common.digest import CHUNK, Digest, Hasher, read_chunks
from offline_kit.common.errors import DigestMismatch
from offline_kit.intake.images import contents
from offline_kit.intake.images.gzip_stream import read_gzip
from offline_kit.intake.store.store import Store
from offline_kit.intake.store.writer import Writer
from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import Blob, Layer

LEVEL = 2
_WINDOW = 128 << 20  # bytes that unpacking zstd may hold: what the zstd program allows unless it is told otherwise
_FREELY, _RATIO = 512 << 20, 200  # a layer may unpack to so many bytes, or so many times its size
_BLOCK = 1 << 20
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# isal has no types for its functions
_open_gzip: Any = igzip_threaded.open
_isal_error: Any = isal_zlib.error
_BROKEN: tuple[type[BaseException], ...] = (zstandard.ZstdError, OSError, EOFError, zlib.error, _isal_error)
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after one byte 0x50 to 0x5f


def form(head: bytes | memoryview) -> str:
    """``gzip``, ``zstd`` or ``tar``, by the first bytes of a layer."""
    start = bytes(head[:4])
    if start[:2] == GZIP:
        return "gzip"
    return "zstd" if start == ZSTD or (start[1:] == _ZSTD_SKIPPABLE and start[0] & 0xF0 == 0x50) else "tar"


def converted(store: Store, diff_id: Digest) -> tuple[Digest, int] | None:
    """Digest and size of the gzip form of a layer, if it was made before and is still here."""
    memo = store.get_memo(f"layer:{diff_id}")
    if memo is None:
        return None
    digest, size = Digest(memo["digest"]), int(memo["size"])
    return (digest, size) if store.has(digest, size) else None


def keep(store: Store, diff_id: Digest, digest: Digest, size: int) -> None:
    """Remembers the gzip form of a layer."""
    store.put_memo(f"layer:{diff_id}", {"digest": str(digest), "size": size})


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
        budget = _expansion(path.stat().st_size)
        try:
            for piece in _READERS[kind](file):
                budget.expand(len(piece))
                yield piece
        except OverBudget as error:
            what = f"the {kind} layer unpacks to more than {_RATIO} times its size"
            raise DigestMismatch(what, where=title, remedy="build it without files of nothing but zeros") from error
        except _BROKEN as error:
            remedy = "the image is damaged at its source: push or build it again"
            if "memory" in str(error):
                remedy = "push it again, compressed with a window of at most 128 MiB (zstd --long=27 or less)"
            raise DigestMismatch(f"the {kind} layer cannot be unpacked: {error}", where=title, remedy=remedy) from error


def _read_zstd(file: Any) -> Iterator[memoryview]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    with decompressor.stream_reader(file, read_size=CHUNK, read_across_frames=True, closefd=False) as stream:
        yield from read_chunks(stream)


_READERS: dict[str, Callable[[Any], Iterator[memoryview]]] = {"gzip": read_gzip, "zstd": _read_zstd, "tar": read_chunks}


class Proof:
    """Whether a gzip layer holds the tar that the image configuration names: ``consume`` it as it arrives, then ``finish``."""

    def __init__(self, store: Store, blob: Blob, diff_id: Digest, title: str) -> None:
        self._store, self._digest, self._expected, self._title = store, blob.digest, diff_id, title
        self._budget = _expansion(blob.size)
        self._found: Digest | None = None
        self._contents: dict[str, Any] | None = None

    def consume(self, file: Any) -> None:
        """Reads the layer from ``file`` while it is being downloaded; a failure only means that ``finish`` reads it again."""
        with contextlib.suppress(*_BROKEN, OverBudget):
            hasher, scan = Hasher(), contents.new_scan()
            for piece in read_gzip(file):
                self._budget.expand(len(piece))
                hasher.update(piece)
                scan.feed(piece)
            self._found, self._contents = hasher.digest(), contents.read_layer(scan)

    def finish(self) -> None:
        """Raises DigestMismatch when the layer, which is in the store now, is not that of the configuration."""
        if self._found != self._expected:
            self._refuse_zstd()
            prove(diff_id(self._store.path(self._digest), self._title), self._expected, self._title)
        elif self._contents is not None:
            self._store.put_memo(contents.memo_key(self._expected), self._contents)
        self._store.put_memo(f"proven:{self._digest}", str(self._expected))

    def _refuse_zstd(self) -> None:
        """Raises DigestMismatch where the right tar comes in a form that older Dockers do not read."""
        with self._store.path(self._digest).open("rb") as file:
            kind = form(file.read(4))
        if kind == "zstd":
            remedy = "push it again with the type that it has, or as gzip (skopeo copy --dest-compress-format gzip)"
            raise DigestMismatch(
                "is called gzip by the manifest and is zstd, which Docker 20.10 does not load", where=self._title, remedy=remedy
            )


def _expansion(size: int) -> Budget:
    return Budget(expanded=max(_FREELY, _RATIO * size))


def is_proven(store: Store, digest: Digest, diff_id: Digest) -> bool:
    """Whether the gzip layer ``digest`` was found to hold the tar ``diff_id`` before."""
    made = store.get_memo(f"layer:{diff_id}")
    known = made["digest"] if isinstance(made, dict) else None
    return str(diff_id) == store.get_memo(f"proven:{digest}") or str(digest) == known


def contents_of(store: Store, layers: Iterable[Layer], title: str) -> ImageContents:
    """What these layers, which are in the store, hold together; each is read once, whoever asks again.

    Raises DigestMismatch when one is damaged.
    """
    found = []
    for layer in layers:
        known = store.get_memo(contents.memo_key(layer.diff_id))
        if not isinstance(known, dict):
            scan = contents.new_scan()
            for piece in unpacked(store.path(layer.digest), f"{title}: layer {layer.digest.short}"):
                scan.feed(piece)
            known = contents.read_layer(scan)
            store.put_memo(contents.memo_key(layer.diff_id), known)
        found.append(known)
    return contents.read_image(found)


def can_be_read(store: Store, layers: Iterable[Layer]) -> bool:
    """Whether ``contents_of`` can answer: each layer was read before, or is in the store."""
    return all(
        isinstance(store.get_memo(contents.memo_key(layer.diff_id)), dict) or store.has(layer.digest, layer.size)
        for layer in layers
    )


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
    waiting = bytearray()
    for piece in pieces:
        waiting += piece
        while len(waiting) >= _BLOCK:
            yield bytes(waiting[:_BLOCK])
            del waiting[:_BLOCK]
    if waiting:
        yield bytes(waiting)


class _Sink:
    """A Writer as the file that igzip writes to."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def write(self, data: bytes) -> int:
        return self._writer.write(data)

    def flush(self) -> None:
        """Nothing is buffered here."""
