"""Threads: many pieces of work side by side, many files, and one step that runs ahead of another.

Rules: the first error ends the rest and is the one that is raised; Ctrl-C is answered at once, for no thread is waited for
longer than it takes to tell it (they are daemons: what they leave behind is what a killed run leaves, and the next run takes
it up); results come in the order of the work; at most READ_AHEAD items wait, and a taker that stops early stops the maker.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result")
Advance = Callable[[int], None]
READ_AHEAD = 2
_MAKER_PATIENCE = 2.0  # seconds: the maker may hang in a read from a dead file system
_PATIENCE = 5.0  # seconds for all threads together to end after an error
_LOOK = 0.5  # seconds between two looks at whether Ctrl-C was pressed


def run_all(work: Sequence[Callable[[], T]], jobs: int, stop: Callable[[], None]) -> list[T]:
    """The results of ``work``, at most ``jobs`` at a time; ``stop`` tells running pieces to end. Raises what one raised."""
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()

    def worker() -> None:
        while (index := todo.get()) is not None:
            try:
                done.put((index, work[index](), None))
            except BaseException as error:  # noqa: BLE001  handed over to the thread that asked
                done.put((index, None, error))

    threads = [threading.Thread(target=worker, daemon=True) for _ in range(max(1, min(jobs, len(work))))]
    results: dict[int, T] = {}
    for index in range(len(work)):
        todo.put(index)
    for _ in threads:
        todo.put(None)
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(work):
            index, result, error = _take(done)
            if error is not None:
                raise error
            results[index] = result  # type: ignore[assignment]  # a piece without an error has a result
    except BaseException:
        _drain(todo, len(threads))
        stop()
        _join(threads)
        raise
    _join(threads)
    return [results[index] for index in range(len(work))]


def _take(done: queue.SimpleQueue[T]) -> T:
    """The next item. A signal that comes just before a wait begins does not end it: so no wait is long."""
    while True:
        with suppress(queue.Empty):
            return done.get(timeout=_LOOK)


def _drain(todo: queue.SimpleQueue[int | None], threads: int) -> None:
    while not todo.empty():
        try:
            todo.get_nowait()
        except queue.Empty:
            break
    for _ in range(threads):
        todo.put(None)


def _join(threads: Sequence[threading.Thread]) -> None:
    deadline = time.monotonic() + _PATIENCE
    for thread in threads:
        if thread.ident is None:  # Ctrl-C came before it was started
            continue
        thread.join(max(0.0, deadline - time.monotonic()))


class _Stopped(Exception):
    """Another thread failed; nobody waits for this one's result."""


def map_files(
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


def read_ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
    """The items, made in a thread of their own up to READ_AHEAD before they are wanted."""
    ready: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(READ_AHEAD)
    stop = threading.Event()

    def make() -> None:
        failure: BaseException | None = None
        try:
            for item in items:
                ready.put((item, None))
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits for the items
            failure = error
        ready.put((None, failure))

    thread = threading.Thread(target=make, name="read ahead", daemon=True)
    thread.start()
    try:
        while True:
            item, failure = ready.get()
            if failure is not None:
                raise failure
            if item is None:
                return
            yield item
    finally:
        stop.set()
        patience = time.monotonic() + _MAKER_PATIENCE
        while thread.is_alive() and time.monotonic() < patience:
            with suppress(queue.Empty):
                ready.get(timeout=0.01)
