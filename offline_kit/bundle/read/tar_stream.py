"""A bundle as any gunzip sees it, in one pass: for one that somebody compressed again, and to read only the head of one.

Rules: any gzip of any number of members, none of them empty; the tar inside must be the bundle's, byte for byte; memory does
not grow with what the archive declares, and a name is never used as a path.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing

from offline_kit.bundle.compression import Damaged
from offline_kit.bundle.format import member
from offline_kit.bundle.read.observed import Evidence, FileObserver, KeepPolicy, shown
from offline_kit.common.concurrency import read_ahead
from offline_kit.common.progress import Progress


class TarReader:
    """The entries of the tar in ``pieces``, one after another; the content of each may be taken before the next."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")
        self._left = 0  # of the content of the entry last given, with what fills it up

    def __iter__(self) -> Iterator[bytes]:
        """The bytes of each tar header; ends at the end mark, which must be the end of the stream. Raises Damaged."""
        while True:
            for _ in self.content(self._left):
                """What nobody took is passed over."""
            record = self._exactly(member.RECORD)
            if record == member.END_RECORDS[: member.RECORD]:
                break
            try:
                tar = record + self._exactly(member.head_length(record) - member.RECORD)
            except ValueError as error:
                raise Damaged(str(error)) from error
            yield tar
        if self._exactly(member.RECORD) != record or self._rest or any(self._pieces):
            raise Damaged("something follows after the end of the archive")

    def expect(self, size: int) -> None:
        """Says how long the content is that follows the header last given."""
        self._left = member.padded_size(size)

    def content(self, size: int) -> Iterator[memoryview]:
        """The next ``size`` bytes in pieces. Raises Damaged when there are fewer."""
        while size:
            if not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    raise Damaged("the archive is cut off")
                self._rest = memoryview(piece)
            part = self._rest[:size]
            self._rest = self._rest[len(part) :]
            size -= len(part)
            self._left -= min(len(part), self._left)
            yield part

    def _exactly(self, size: int) -> bytes:
        return b"".join(self.content(size))


def observe(form: str, plain: Iterator[bytes], stream: io.RawIOBase, size: int, progress: Progress) -> Evidence:
    """The evidence of the bundle whose tar is ``plain``, inflated from ``stream``, a file of ``size`` bytes."""
    evidence, policy = Evidence(form), KeepPolicy()
    place = "the beginning"
    with progress.task("verify", size) as task, closing(read_ahead(plain)) as pieces:
        reader, reported = TarReader(pieces), 0
        try:
            for tar in reader:
                header = member.parse(tar)
                place = shown(header.path.partition("/")[2])
                path = evidence.admit(header)
                reader.expect(header.size)
                observer = FileObserver(path or "", header.size, header.mode, policy)
                for part in reader.content(header.size):
                    observer.feed(part)
                if any(any(part) for part in reader.content(-header.size % member.RECORD)):
                    evidence.found(place, "bytes behind its content are damaged")
                if path is not None:
                    evidence.files[path] = observer.seen()
                position = stream.tell()
                task.advance(position - reported)
                reported = position
        except Damaged as error:
            evidence.found(f"after {place}", f"{error}; what lies behind could not be read")
        except ValueError as error:
            name = member.name_in(tar).decode(errors="replace").partition("/")[2]
            evidence.found(shown(name) or f"after {place}", f"{error}; what lies behind was not read")
    return evidence
