"""How far a long step has come, told without the step knowing a terminal.

Rules: steps speak to ``Progress`` and ``Task`` only; bars go to stderr and exist only where it is a terminal and the
user did not ask for quiet; both classes may be called from several threads.
"""

from __future__ import annotations

import sys
import threading
from types import TracebackType
from typing import Protocol

from tqdm import tqdm


def size(count: int) -> str:
    """``count`` bytes for people, in binary units."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


class Task(Protocol):
    """One long step. ``advance`` is in the unit that the task was opened with."""

    def advance(self, amount: int) -> None: ...

    def __enter__(self) -> Task: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Progress(Protocol):
    """Where steps report: ``task`` opens a bar of ``total`` bytes, ``note`` says one line."""

    def task(self, title: str, total: int) -> Task: ...

    def note(self, line: str, **facts: object) -> None: ...


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Nothing is shown."""

    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is open."""


class Silent:
    """Says nothing: for ``--quiet``, for tests and as the default of every step."""

    def task(self, title: str, total: int) -> Task:
        return _SilentTask()

    def note(self, line: str, **facts: object) -> None:
        """Nothing is said."""


class _Bar:
    def __init__(self, title: str, total: int) -> None:
        self._lock = threading.Lock()
        self._bar = tqdm(total=total, desc=title, unit="B", unit_scale=True, unit_divisor=1024, leave=False, file=sys.stderr)

    def advance(self, amount: int) -> None:
        with self._lock:
            self._bar.update(amount)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()


class Terminal:
    """Lines on stderr, and bars where stderr is a terminal."""

    def task(self, title: str, total: int) -> Task:
        return _Bar(title, total) if sys.stderr.isatty() else _SilentTask()

    def note(self, line: str, **facts: object) -> None:
        with tqdm.external_write_mode(file=sys.stderr):
            print(line, file=sys.stderr, flush=True)
