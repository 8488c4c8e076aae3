"""Many files at once, in threads: hashing, CRC and reading all release the interpreter's lock.

Rules: the first error, or the user's Ctrl-C, stops every thread at its next report of progress.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], None]


class _Stopped(Exception):
    """Another thread failed; nobody waits for this one's result."""


def for_each(
    work: Callable[[Item, Advance], Result], items: Sequence[Item], jobs: int | None, advance: Advance
) -> list[Result]:
    """``work`` done on each item, ``jobs`` at a time (default: one a processor); the results in the order of the items."""
    if jobs == 1:
        return [work(item, advance) for item in items]
    stop = threading.Event()

    def counted(amount: int) -> None:
        if stop.is_set():
            raise _Stopped
        advance(amount)

    with ThreadPoolExecutor(jobs or len(os.sched_getaffinity(0))) as pool:
        try:
            return [future.result() for future in [pool.submit(work, item, counted) for item in items]]
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Buffers(threading.local):
    """One buffer a thread, used again for each file."""

    def __init__(self, size: int) -> None:
        self.buffer = memoryview(bytearray(size))
