"""The bytes in a gzip file, as every Docker reads it.

Rules: members one after the other are one stream; whatever else follows a member is an error. zlib and unpigz pass over zeros
there; Go's reader, which a Docker without unpigz has, ends with "invalid header", and the layer is not loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from isal import igzip_lib

from offline_kit.common.digest import CHUNK

_READ = 128 << 10
_MAGIC = b"\x1f\x8b"


def read_gzip(file: Any) -> Iterator[memoryview]:
    """The unpacked bytes in pieces. Raises EOFError where it is cut, OSError and IsalError where it is damaged."""
    rest = bytes(file.read(_READ))
    while rest:
        if not _MAGIC.startswith(rest[:2]):
            raise OSError("bytes that are no gzip follow the stream")
        member: Any = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            piece = member.decompress(rest, CHUNK)
            rest = b""
            if piece:
                yield memoryview(piece)
            if member.needs_input and not member.eof:
                rest = bytes(file.read(_READ))
                if not rest:
                    raise EOFError("ended before the end-of-stream marker")
        rest = member.unused_data or bytes(file.read(_READ))
