"""The bytes of a blob as pieces: texts that are at hand, and files of the bundle. A tar of files is one, and never written.

Rules: the same files give the same bytes: no time, no owner, one mode; what is read is compared with the lock while it is
hashed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from offline_kit.bundle.format import member
from offline_kit.bundle.read.payload import Payload
from offline_kit.common.concurrency import Advance
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged


@dataclass(frozen=True)
class File:
    """A file of the bundle, by its path there; ``sha256``: what the lock says."""

    path: str
    size: int
    sha256: Digest


@dataclass(frozen=True)
class Content:
    """The pieces of a blob, one after another."""

    pieces: tuple[bytes | File, ...]

    @property
    def size(self) -> int:
        return sum(_length(piece) for piece in self.pieces)

    def read(self, payload: Payload, offset: int, length: int) -> Iterator[memoryview | bytes]:
        """``length`` bytes from ``offset``."""
        for piece in self.pieces:
            if length <= 0:
                return
            size = _length(piece)
            if offset < size:
                count = min(length, size - offset)
                if isinstance(piece, bytes):
                    yield piece[offset : offset + count]
                else:
                    yield from payload.read(piece.path, offset, count)
                offset, length = 0, length - count
            else:
                offset -= size

    def digest(self, payload: Payload, advance: Advance) -> Digest:
        """The digest of all bytes; every file on the way is the one of the lock. Raises BundleDamaged."""
        whole = hashlib.sha256()
        for piece in self.pieces:
            if isinstance(piece, bytes):
                whole.update(piece)
                continue
            own = hashlib.sha256()
            for part in payload.read(piece.path, 0, piece.size):
                own.update(part)
                whole.update(part)
                advance(len(part))
            if own.hexdigest() != piece.sha256.hex:
                raise BundleDamaged("is not the file of the lock", where=piece.path, remedy="'offline-kit verify' tells all")
        return Digest(whole.hexdigest())


def tar_of(files: Sequence[tuple[str, File]]) -> Content:
    """A plain tar of ``files``, each under its name, with the folders that they lie in."""
    pieces: list[bytes | File] = []
    seen: set[str] = set()
    for name, file in files:
        folders = name.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth]) + "/"
            if folder not in seen:
                seen.add(folder)
                pieces.append(member.render(member.Header(folder, 0, member.FOLDER_MODE, 0)))
        pieces.append(member.render(member.Header(name, file.size, 0o644, 0)))
        pieces += [file, bytes(-file.size % member.RECORD)]
    return Content((*pieces, member.END_RECORDS))


def _length(piece: bytes | File) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.size
