"""Many pieces of work side by side.

Rules: the first error ends the rest and is the one that is raised; Ctrl-C is answered at once, for the threads are never
waited for longer than it takes to tell them (they are daemons: what they leave behind is what a killed run leaves, and the
next run takes it up); results come in the order of the work.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")
_PATIENCE = 5.0  # seconds for all threads together to end after an error


def run(work: Sequence[Callable[[], T]], jobs: int, stop: Callable[[], None]) -> list[T]:
    """The results of ``work``, at most ``jobs`` at a time; ``stop`` tells running pieces to end. Raises what one raised."""
    todo: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()

    def labour() -> None:
        while (index := todo.get()) is not None:
            try:
                done.put((index, work[index](), None))
            except BaseException as error:  # noqa: BLE001  handed over to the thread that asked
                done.put((index, None, error))

    threads = [threading.Thread(target=labour, daemon=True) for _ in range(max(1, min(jobs, len(work))))]
    results: dict[int, T] = {}
    for index in range(len(work)):
        todo.put(index)
    for _ in threads:
        todo.put(None)
    for thread in threads:
        thread.start()
    try:
        while len(results) < len(work):
            index, result, error = done.get()
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
        thread.join(max(0.0, deadline - time.monotonic()))
