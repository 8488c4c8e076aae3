"""What a run costs, how fast it may be, and how slow a body may be."""

from __future__ import annotations

import threading
import time

_SILENCE = 0.3  # of the window: what one silence counts at most


class TransferStats:
    """What a run cost: ``fetched``, ``reused`` and ``sent`` in bytes, ``retried`` in attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fetched = self.reused = self.retried = self.sent = 0

    def add(self, *, fetched: int = 0, reused: int = 0, retried: int = 0, sent: int = 0) -> None:
        with self._lock:
            self.fetched += fetched
            self.reused += reused
            self.retried += retried
            self.sent += sent


class TooSlow(Exception):
    """A body arrives more slowly than it may."""


class LeastRate:
    """Whether one body arrives at ``rate`` bytes a second at least; 0: however slow.

    Only the time spent waiting for bytes counts, and of one silence not more than some seconds: a line that falls silent is
    the read timeout's business, what drips is this one's.
    """

    def __init__(self, rate: int, window: float) -> None:
        """``window``: seconds that are looked at together."""
        self._rate, self._window, self._waited, self._got = rate, window, 0.0, 0

    def record(self, amount: int, waited: float) -> None:
        """``amount`` bytes came after ``waited`` seconds. Raises TooSlow."""
        self._waited += min(waited, self._window * _SILENCE)
        self._got += amount
        if self._waited >= self._window:
            if self._got < self._rate * self._waited:
                raise TooSlow(f"sends {self._got / self._waited:.0f} bytes a second, fewer than {self._rate} (--min-rate)")
            self._waited, self._got = 0.0, 0


class RateLimiter:
    """When the next byte may come at ``rate`` bytes a second; None: at once. Safe for several threads."""

    def __init__(self, rate: int | None) -> None:
        self._rate, self._free, self._lock = rate, 0.0, threading.Lock()

    def delay(self, amount: int) -> float:
        """Seconds to wait after ``amount`` bytes; what was not used in idle times is not made up for."""
        if self._rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._free = max(self._free, now) + amount / self._rate
            return self._free - now
