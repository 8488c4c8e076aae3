"""Two steps side by side: one thread makes what another takes.

Rules: at most READ_AHEAD items wait; what fails in the making is raised where the items are taken; a taker that stops early
stops the maker, and waits for it a moment, not for ever: it may hang in a read from a dead file system.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TypeVar

Item = TypeVar("Item")
READ_AHEAD = 2
_PATIENCE = 2.0


def ahead(items: Iterator[Item]) -> Generator[Item, None, None]:
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
        patience = time.monotonic() + _PATIENCE
        while thread.is_alive() and time.monotonic() < patience:
            with suppress(queue.Empty):
                ready.get(timeout=0.01)
