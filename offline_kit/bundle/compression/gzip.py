"""The bundle's tar in any gzip: what pigz or gzip made of it again.

Rules: any number of members, none of them empty; a stream that is cut off is damaged. Bundles are never written like this.
"""

from __future__ import annotations

import io
from collections.abc import Iterator

from isal import isal_zlib

from offline_kit.bundle.compression.base import Codec, Damaged, Source

_INPUT = 1 << 18
_OUTPUT = 1 << 20
_HEAD, _RESERVED = 10, 0xE0  # bytes of a header without further fields, and bits of its fourth


class GzipCodec:
    """Reads gzip."""

    def inflate(self, stream: io.RawIOBase) -> Iterator[bytes]:
        """The uncompressed bytes of all gzip members, in pieces. Raises Damaged."""
        engine, pending, piece, given = None, b"", b"", 0
        while True:
            if not pending and len(piece) < _OUTPUT:
                pending = stream.read(_INPUT) or b""
                if not pending:
                    break
            if engine is None:
                while len(pending) < _HEAD and (more := stream.read(_INPUT)):
                    pending += more
                # isal passes over these bits; zlib and gzip refuse them (RFC 1952, 2.3.1.2: they must be zero).
                if len(pending) >= _HEAD and pending[3] & _RESERVED:
                    raise Damaged("a gzip header has bits set that mean nothing")
                engine, given = isal_zlib.decompressobj(wbits=31), 0
            try:
                piece = engine.decompress(pending, _OUTPUT)
            except isal_zlib.error as error:  # type: ignore[misc] # isal's stub calls this class an instance
                raise Damaged("the gzip stream is damaged, or something else follows after its end") from error
            pending = engine.unconsumed_tail
            given += len(piece)
            if engine.eof:
                if not given:
                    raise Damaged(
                        "an empty gzip member is glued in"
                    )  # no tool writes one, and it would hide what it is glued to
                pending, engine = engine.unused_data, None
            if piece:
                yield piece
        if engine is not None:
            raise Damaged("the gzip stream is cut off")

    def check_end(self, source: Source) -> None:
        """Nothing is left to check: ``inflate`` says all."""


CODEC: Codec = GzipCodec()
