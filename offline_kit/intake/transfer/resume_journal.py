"""What of a partial download is on disk: a small file beside it that survives ``kill -9`` and is not believed unseen.

Rules: a file is cut into segments of one size; each has one record at a fixed place: how many of its first bytes are on disk,
their CRC-32, and a check of the record itself; bytes are written before the record that counts them, so a record that is there
counts bytes that were written; a record that is torn, or counts more than the file holds, counts nothing; a huge file has
larger segments instead of more of them, so what somebody says of a size costs no memory. The CRC only tells which segment to
fetch again (after a power cut, say); what a blob is, is decided by its sha256.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from isal import isal_zlib

from offline_kit.common.files import disk_error

crc32: Any = isal_zlib.crc32  # isal has no types for its functions
_HEAD = struct.Struct("<8sQQI")  # magic, size of the file, size of a segment, check
_RECORD = struct.Struct("<QII")  # bytes, their CRC-32, check
_MAGIC = b"OKPART1\n"
_MOST = 1 << 16  # segments: 1 TiB in those of 16 MiB


class ResumeJournal:
    """The records of one file of ``size`` bytes. ``filled`` and ``crc``: by segment. Not safe for several threads by itself."""

    def __init__(self, path: Path, size: int, segment: int, present: int) -> None:
        """Reads what an earlier run left at ``path``; ``present``: how long the partial file is. Raises DiskError."""
        segment = max(segment, -(-size // _MOST))
        self.path, self.size, self.segment = path, size, segment
        count = max(1, -(-size // segment))
        self.filled, self.crc = [0] * count, [0] * count
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise disk_error(error, path) from error
        text = os.pread(self._descriptor, _HEAD.size + count * _RECORD.size, 0)
        head = _HEAD.pack(_MAGIC, size, segment, crc32(struct.pack("<QQ", size, segment)))
        if text[: _HEAD.size] == head:
            for index in range(count):
                self._read(index, text[_HEAD.size + index * _RECORD.size :][: _RECORD.size], present)
        else:
            self._write(head, 0)

    def _read(self, index: int, record: bytes, present: int) -> None:
        if len(record) == _RECORD.size:
            filled, crc, check = _RECORD.unpack(record)
            if check == _check(index, filled, crc) and filled <= self.length(index) and self.begin(index) + filled <= present:
                self.filled[index], self.crc[index] = filled, crc

    @property
    def total(self) -> int:
        """How many bytes are on disk."""
        return sum(self.filled)

    def begin(self, index: int) -> int:
        """Where the segment begins."""
        return index * self.segment

    def length(self, index: int) -> int:
        """How long the segment is: the last one may be shorter."""
        return min(self.segment, self.size - self.begin(index))

    def add(self, index: int, piece: bytes | memoryview) -> None:
        """Counts bytes that were written behind those that the segment has."""
        self.filled[index] += len(piece)
        self.crc[index] = crc32(piece, self.crc[index])
        self._put(index)

    def clear(self, index: int) -> None:
        """Counts nothing of the segment any more."""
        self.filled[index] = self.crc[index] = 0
        self._put(index)

    def close(self) -> None:
        os.close(self._descriptor)

    def _put(self, index: int) -> None:
        filled, crc = self.filled[index], self.crc[index]
        self._write(_RECORD.pack(filled, crc, _check(index, filled, crc)), _HEAD.size + index * _RECORD.size)

    def _write(self, data: bytes, offset: int) -> None:
        try:
            os.pwrite(self._descriptor, data, offset)
        except OSError as error:
            raise disk_error(error, self.path) from error


def _check(index: int, filled: int, crc: int) -> int:
    checked: int = crc32(struct.pack("<QQI", index, filled, crc))
    return checked
