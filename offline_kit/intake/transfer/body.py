"""The body of an answer: in pieces as they come, unpacked where the server packed it, never larger than it may be.

Rules: ``identity`` is what we ask for; a server that packs all the same is understood (gzip, deflate), piece by piece, so that
no few bytes become many at once; what a body costs is decided by whoever reads it, not by whoever sends it.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Iterable, Iterator

import requests

from offline_kit.common.errors import NetworkError
from offline_kit.intake.transfer.http_errors import RetryableError
from offline_kit.intake.transfer.rate_limit import LeastRate, TooSlow

_PACKED = ("gzip", "x-gzip", "deflate")
_EITHER = zlib.MAX_WBITS | 32  # gzip or zlib, by the first bytes


def iter_body(response: requests.Response, most: int, least: LeastRate, size: int | None = None) -> Iterator[memoryview]:
    """The body, at most ``most`` bytes at a time, not slower than ``least`` says; ``size``: of the file, where it is known.

    A body that is packed and as long as the file is the file: some servers say so of every file that is named ``.gz``.
    Raises RetryableError (too slow, damaged), NetworkError (packed in a way that was not asked for).
    """
    coding = response.headers.get("Content-Encoding", "").strip().lower()
    pieces = _iter_raw(response, most, least)
    if coding in ("", "identity") or (size is not None and response.headers.get("Content-Length") == str(size)):
        return pieces
    if coding not in _PACKED:
        raise NetworkError(f"packs its answer in a way that was not asked for: {coding[:40]}", where=response.url)
    return _unpacked(pieces, most)


def read_small(response: requests.Response, limit: int, least: LeastRate) -> bytes:
    """The whole body, unpacked. Raises NetworkError when it is longer than ``limit``."""
    waiting = bytearray()
    for piece in iter_body(response, min(limit + 1, 1 << 20), least):
        waiting += piece
        if len(waiting) > limit:
            raise NetworkError(f"answers with more than {limit} bytes", where=response.url)
    return bytes(waiting)


def finish_redirect(response: requests.Response, least: LeastRate) -> None:
    """Done with a redirect: a short body is read to its end, so that the connection can be used again."""
    short = re.fullmatch("[0-9]{1,4}", response.headers.get("Content-Length", ""))
    if short and "Content-Encoding" not in response.headers:
        read_small(response, 10_000, least)
    response.close()


def _iter_raw(response: requests.Response, most: int, least: LeastRate) -> Iterator[memoryview]:
    """As they come: ``read`` would hold a piece back until it is full, and lose it on a stall."""
    while True:
        before = time.monotonic()
        piece = response.raw.read1(most)
        if not piece:
            return
        try:
            least.record(len(piece), time.monotonic() - before)
        except TooSlow as error:
            raise RetryableError(str(error), at_most=1) from error
        yield memoryview(piece)


def _unpacked(pieces: Iterable[memoryview], most: int) -> Iterator[memoryview]:
    unpacker = zlib.decompressobj(_EITHER)
    try:
        for piece in pieces:
            rest = bytes(piece)
            while rest:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(_EITHER)
                if out := unpacker.decompress(rest, most):
                    yield memoryview(out)
                rest = unpacker.unconsumed_tail or unpacker.unused_data
        if out := unpacker.flush():
            yield memoryview(out)
    except zlib.error as error:
        raise RetryableError(f"the answer cannot be unpacked: {error}") from error
