"""What a run costs, and how fast it may be. Safe for several threads."""

from __future__ import annotations

import threading
import time


class Figures:
    """What a run cost: ``fetched`` and ``reused`` in bytes, ``retried`` in attempts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.fetched = self.reused = self.retried = 0

    def add(self, *, fetched: int = 0, reused: int = 0, retried: int = 0) -> None:
        with self._lock:
            self.fetched += fetched
            self.reused += reused
            self.retried += retried


class Pace:
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
