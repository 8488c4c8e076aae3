"""One file, or the parts of one, read as one run of bytes.

Rules: whoever reads need not know where one part ends; reading at a place is safe from several threads; what is opened is a
plain file, without following a link at its end.
"""

from __future__ import annotations

import bisect
import hashlib
import io
import os
import stat
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from offline_kit.common.concurrency import Advance
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleUnreadable

_CHUNK = 4 << 20


class MultiFile:
    """The bytes of ``files``, one after another. Raises OSError, and BundleUnreadable for what is no plain file."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self._descriptors: list[int] = []
        self._starts = [0]
        try:
            for file in files:
                # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                self._descriptors.append(descriptor)
                state = os.fstat(descriptor)
                if not stat.S_ISREG(state.st_mode):
                    raise BundleUnreadable("neither a file nor a folder", where=str(file))
                self._starts.append(self._starts[-1] + state.st_size)
        except BaseException:
            self.close()
            raise
        self.size = self._starts[-1]

    def fill(self, buffer: memoryview, offset: int) -> int:
        """Reads into the whole buffer, or up to the end; how many bytes there were."""
        done = 0
        while done < len(buffer) and offset + done < self.size:
            part = bisect.bisect_right(self._starts, offset + done) - 1
            place = offset + done - self._starts[part]
            piece = buffer[done : done + self._starts[part + 1] - offset - done]
            try:
                count = os.preadv(self._descriptors[part], [piece], place)
            except OSError as error:
                error.filename = str(self.files[part])  # which of them it is, and that it was not the one that is written
                raise
            if not count:
                break
            done += count
        return done

    def pread(self, count: int, offset: int) -> bytes:
        """At most ``count`` bytes from ``offset``; fewer only at the end."""
        buffer = bytearray(max(min(count, self.size - offset), 0))
        return bytes(buffer[: self.fill(memoryview(buffer), offset)])

    def stream(self) -> io.RawIOBase:
        """The bytes from the beginning, one after another."""
        return _Stream(self)

    def digests(self, advance: Advance) -> tuple[Digest, list[Digest]]:
        """The digest of all bytes, and that of each file, in one pass: two threads hash what is read once."""
        whole = hashlib.sha256()
        each = []
        buffers = [memoryview(bytearray(_CHUNK)) for _ in range(2)]
        with ThreadPoolExecutor(2) as pool:
            offset, turn = 0, 0
            for end in self._starts[1:]:
                part = hashlib.sha256()
                hashing: list[Future[None]] = []
                while offset < end:
                    chunk = buffers[turn % 2][: min(_CHUNK, end - offset)]
                    turn += 1
                    count = self.fill(chunk, offset)
                    if not count:
                        break
                    for job in hashing:
                        job.result()
                    hashing = [pool.submit(digest.update, chunk[:count]) for digest in (whole, part)]
                    offset += count
                    advance(count)
                for job in hashing:
                    job.result()
                each.append(Digest(part.hexdigest()))
                offset = end
        return Digest(whole.hexdigest()), each

    def close(self) -> None:
        """Closes all files."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> MultiFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class _Stream(io.RawIOBase):
    def __init__(self, span: MultiFile) -> None:
        self._span, self._offset = span, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # io's own type is wider than what it passes
        count = self._span.fill(memoryview(buffer), self._offset)
        self._offset += count
        return count

    def tell(self) -> int:
        return self._offset
