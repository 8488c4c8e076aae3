"""The hash of a file that does not arrive in order.

Rules: bytes that continue what was hashed are hashed as they arrive; all others are read back once, in order, when their turn
comes, by whichever stream is there first, a little at a time so that its own socket does not wait long; what an earlier
run left is held against its journal in that same reading, and a segment that does not fit is given back to be fetched again.
"""

from __future__ import annotations

import os
import threading

from offline_kit.common.digest import CHUNK, Hasher
from offline_kit.common.files import disk_error
from offline_kit.intake.transfer.byte_ranges import RangeAllocator
from offline_kit.intake.transfer.resume_journal import crc32


class OrderedHasher:
    """``hasher`` has seen the first ``hasher.size`` bytes of the file behind ``descriptor``."""

    def __init__(self, descriptor: int, parts: RangeAllocator) -> None:
        self._descriptor, self._parts, self._journal = descriptor, parts, parts.journal
        self._lock = threading.Lock()  # always taken before that of the parts
        self._inherited = {index: (got, self._journal.crc[index]) for index, got in enumerate(self._journal.filled) if got}
        self.hasher = Hasher()

    def feed(self, offset: int, piece: memoryview) -> bool:
        """Hashes ``piece``, which lies at ``offset``, if it is its turn; False: it was not, and something else may be."""
        if not self._lock.acquire(blocking=False):
            return True
        try:
            if self.hasher.size != offset:
                return False
            self.hasher.update(piece)
            return True
        finally:
            self._lock.release()

    def catch_up(self, most: int) -> bool:
        """Hashes about ``most`` bytes of what is on disk; whether there was anything. False too while another one is at it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            begin = self.hasher.size
            while self.hasher.size - begin < most and self.hasher.size < self._journal.size:
                if not self._step():
                    break
            return self.hasher.size > begin
        finally:
            self._lock.release()

    def reset(self) -> None:
        """Has seen nothing, and inherits nothing."""
        with self._lock:
            self.hasher = Hasher()
            self._inherited.clear()

    def _step(self) -> bool:
        """Hashes the next piece; False: it is not there yet."""
        offset = self.hasher.size
        index = offset // self._journal.segment
        begin = self._journal.begin(index)
        usable = self._parts.usable(index)
        if begin + usable <= offset:
            return False
        if offset == begin and index in self._inherited:
            return self._prove(index, *self._inherited.pop(index))
        self.hasher.update(self._read(offset, min(CHUNK, begin + usable - offset)))
        return True

    def _prove(self, index: int, length: int, crc: int) -> bool:
        """Hashes what an earlier run left of a segment; False: it is not what the journal says."""
        before, seen, offset = self.hasher.copy(), 0, self._journal.begin(index)
        end = offset + length
        while offset < end and (piece := self._read(offset, min(CHUNK, end - offset))):
            seen = crc32(piece, seen)
            self.hasher.update(piece)
            offset += len(piece)
        if seen == crc and offset == end:
            return True
        self.hasher = before
        self._parts.damaged(index)
        return False

    def _read(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise disk_error(error, self._journal.path) from error
