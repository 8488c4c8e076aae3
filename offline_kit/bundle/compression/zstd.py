"""The bundle's tar in zstd frames, ``.tar.zst``: smaller and slower, for hosts that have zstd.

Rules: read in one pass, any number of frames, holding at most a window of 128 MiB; a file must end where its last frame ends.
Written as one frame with a checksum, whose bytes depend on the tar and the version of libzstd, not on the number of threads.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import IO, cast

import zstandard

from offline_kit.bundle.compression.base import Codec, Damaged, Encoder, Sink, Source
from offline_kit.common.files import Buffer

LEVEL = 3
_MAGIC = bytes.fromhex("28b52ffd")
_WINDOW = 1 << 27
_OUTPUT = 1 << 20
_CUT = "the zstd stream is cut off, or something else follows after its end"


class ZstdCodec:
    """Reads zstd."""

    def inflate(self, stream: io.RawIOBase) -> Iterator[bytes]:
        """The uncompressed bytes of all frames, in pieces. Raises Damaged; not of a file that ends early: see ``check_end``."""
        opened = cast(IO[bytes], stream)
        reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(opened, read_across_frames=True)
        try:
            while piece := reader.read(_OUTPUT):
                yield piece
        except zstandard.ZstdError as error:
            raise Damaged("the zstd stream is damaged, or something else follows after its end") from error

    def check_end(self, source: Source) -> None:
        """Hops over the blocks of every frame (RFC 8878, 3.1.1): the last one ends the file. Raises Damaged.

        libzstd says nothing when its input ends early, and nothing of a checksum that is not there.
        """
        offset = 0
        while offset < source.size:
            head = source.pread(5, offset)
            if head[:4] != _MAGIC or len(head) < 5:
                raise Damaged(_CUT)
            kind = head[4]
            single = kind >> 5 & 1
            size_field = (single, 2, 4, 8)[kind >> 6]
            offset += 5 + (1 - single) + (0, 1, 2, 4)[kind & 3] + size_field
            last = 0
            while not last:
                block = source.pread(3, offset)
                if len(block) < 3:
                    raise Damaged(_CUT)
                number = int.from_bytes(block, "little")
                last = number & 1
                offset += 3 + (1 if number >> 1 & 3 == 1 else number >> 3)  # type 1: one byte, repeated
            offset += 4 * (kind >> 2 & 1)
        if offset != source.size or not source.size:
            raise Damaged(_CUT)


class ZstdEncoder:
    """Writes zstd."""

    def compressor(self, sink: Sink, size: int, threads: int) -> ZstdSink:
        """A writer of one frame in front of ``sink``; ``size``: exactly so many bytes will come."""
        return ZstdSink(sink, size, threads)


class ZstdSink:
    """A writer of zstd in front of ``sink``. ``size``: exactly so many bytes will come."""

    def __init__(self, sink: Sink, size: int, threads: int) -> None:
        # At least one worker thread: then the result is the same for every number of them; only without any it differs.
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True, threads=max(threads, 1))
        self._sink, self._stream = sink, compressor.compressobj(size=size)

    def write(self, piece: Sequence[Buffer]) -> None:
        for buffer in piece:
            if packed := self._stream.compress(buffer):
                self._sink.write([packed])

    def finish(self) -> None:
        """Ends the frame."""
        self._sink.write([self._stream.flush()])


CODEC: Codec = ZstdCodec()
ENCODER: Encoder = ZstdEncoder()
