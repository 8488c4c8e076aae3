"""A download read from its start while it is still arriving.

Rules: the reader runs in a thread of its own and never holds the transfer up; it sees only bytes that were hashed in order,
from the page cache, so nothing is fetched or written twice; what it finds is a hint until the download has been proven, for a
byte that is found wrong later may have passed: whoever relies on a failure reads the finished file once more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Protocol

from offline_kit.common.digest import CHUNK

Consume = Callable[["FollowedFile"], None]
_PAUSE = 0.005  # seconds between two looks at how far the transfer is


class Arrival(Protocol):
    """A transfer: how many bytes from the start have been hashed."""

    @property
    def hashed(self) -> int: ...


class FollowedFile:
    """The bytes of a transfer in order, waiting for those that have not come yet."""

    def __init__(self, descriptor: int, size: int, arrival: Arrival, ended: threading.Event) -> None:
        self._descriptor, self._size, self._arrival, self._ended = descriptor, size, arrival, ended
        self._position = 0

    def read(self, count: int = CHUNK) -> bytes:
        """At most ``count`` bytes, none at the end. Raises EOFError when the transfer was given up."""
        if self._position == self._size:
            return b""
        while (ready := self._arrival.hashed - self._position) <= 0:
            if self._ended.wait(_PAUSE):
                raise EOFError("the transfer ended")
        piece = os.pread(self._descriptor, min(count if count > 0 else CHUNK, ready), self._position)
        self._position += len(piece)
        return piece

    def readinto(self, buffer: memoryview) -> int:
        """The same into ``buffer``; how many bytes."""
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


class Follower:
    """Runs ``consume`` beside a transfer; ``finish`` waits for it, ``close`` ends it."""

    def __init__(self, consume: Consume | None, descriptor: int, size: int, arrival: Arrival) -> None:
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        if consume is not None:
            file = FollowedFile(descriptor, size, arrival, self._ended)
            self._thread = threading.Thread(target=consume, args=(file,), daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Returns when everything was read."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Ends the reading, before the descriptor is closed."""
        self._ended.set()
        self.finish()
