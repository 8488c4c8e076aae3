"""How the hub misbehaves: faults are queued, matched against requests in order, and used up.

Rules: (1) at most one fault for one request, the oldest that matches; (2) a fault counts down and is gone at zero;
(3) everything is safe to call from any thread.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import threading

KINDS = ("cut", "flip", "status", "stall", "slow", "no-range", "redirect", "headers")


@dataclasses.dataclass(frozen=True)
class Fault:
    """One way to misbehave.

    kind: `cut` ends the connection after `at` bytes of the body; `flip` inverts the file's byte at offset `at`;
    `status` answers `status` (with Retry-After when `seconds` is not 0); `stall` pauses `seconds` after `at` bytes;
    `slow` sends about `at` bytes a second;
    `no-range` sends the whole file with 200 although a part was asked; `redirect` answers 302 to `to` + the same
    path; `headers` only overrides `headers`, which the other kinds may do too.
    path: a pattern as in fnmatch over the request's path; method: GET, HEAD or *; times: how many requests, -1 for all.
    """

    kind: str
    path: str = "*"
    method: str = "GET"
    times: int = 1
    at: int = 0
    status: int = 503
    seconds: float = 0
    to: str = ""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown fault {self.kind!r}; one of {', '.join(KINDS)}")


@dataclasses.dataclass
class Access:
    """One request: the status of its answer, the bytes of body sent so far, and the kind of fault if there was one."""

    method: str
    path: str
    range: str | None
    status: int
    sent: int
    fault: str | None

    def matches(self, pattern: str) -> bool:
        """Whether its path matches the pattern, as in fnmatch."""
        return fnmatch.fnmatchcase(self.path, pattern)


class Faults:
    """The faults that are still to happen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queue: list[tuple[Fault, int]] = []

    def add(self, *faults: Fault) -> None:
        """Queues faults."""
        with self._lock:
            self._queue += [(fault, fault.times) for fault in faults]

    def clear(self) -> None:
        """Forgets all that are queued."""
        with self._lock:
            self._queue.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The fault for this request, counted down; None when the hub should behave."""
        with self._lock:
            for index, (fault, left) in enumerate(self._queue):
                if fault.method in ("*", method) and fnmatch.fnmatchcase(path, fault.path):
                    if left == 1:
                        del self._queue[index]
                    else:
                        self._queue[index] = (fault, left - 1 if left > 0 else left)
                    return fault
        return None
