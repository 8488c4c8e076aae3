"""How far a long step has come, told without the step knowing a terminal.

Rules: steps speak to ``Progress`` and ``Task`` only; all of it goes to stderr, as lines and, on a terminal, bars, or as one
JSON object a line, or not at all; every class may be called from several threads.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any, Protocol

from offline_kit.common import output
from offline_kit.common.redact import shown
from offline_kit.common.units import size

_EVERY = 30.0  # seconds from line to line of a long step
_NARROW = 80  # columns, where the terminal does not say how many it has


class Task(Protocol):
    """One long step. ``advance`` is in the unit that the task was opened with; ``finish_item``: one of its items is done."""

    def advance(self, amount: int) -> None: ...

    def finish_item(self) -> None: ...

    def __enter__(self) -> Task: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class Progress(Protocol):
    """Where steps report: ``task`` opens a bar of ``total`` bytes in ``items`` items, ``note`` says one line.

    ``facts`` say the same to a program: ``event`` names what happened, the rest is plain data.
    """

    def task(self, title: str, total: int, items: int = 0) -> Task: ...

    def note(self, line: str, **facts: object) -> None: ...


class _SilentTask:
    def advance(self, amount: int) -> None:
        """Nothing is shown."""

    def finish_item(self) -> None:
        """Nothing is shown."""

    def __enter__(self) -> _SilentTask:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing is open."""


class Silent:
    """Says nothing: for ``--quiet``, for tests and as the default of every step."""

    def task(self, title: str, total: int, items: int = 0) -> Task:
        return _SilentTask()

    def note(self, line: str, **facts: object) -> None:
        """Nothing is said."""


class _Bar:
    """A bar in binary units, as wide as the terminal is now: what does not fit is left out from the right."""

    def __init__(self, title: str, total: int, items: int) -> None:
        from tqdm import tqdm  # noqa: PLC0415  slow to load, and wanted on a terminal alone

        class SizesBar(tqdm):  # type: ignore[type-arg]  # as tqdm's manual has it: further fields for the format
            @property
            def format_dict(self) -> Any:
                facts = super().format_dict
                rate = int(facts["rate"] or (facts["n"] - facts["initial"]) / max(facts["elapsed"], 0.001))
                left = tqdm.format_interval((facts["total"] - facts["n"]) / rate) if rate else "?"
                fields = [f"{size(facts['n'])} of {size(facts['total'])}", f"{size(rate)}/s", f"{left} left", facts["postfix"]]
                text, room = f"{facts['prefix']}: {100 * facts['n'] // max(facts['total'], 1)}% ", facts["ncols"] or _NARROW
                for field in filter(None, fields):
                    text += f"{field}  " if len(text) + len(field) < room else ""
                return {**facts, "text": text}

        self._lock, self._items, self._finished = threading.Lock(), items, 0
        self._total, self._done = total, 0
        self._bar = SizesBar(
            total=total, desc=shown(title), leave=False, file=sys.stderr, bar_format="{text}{bar}", dynamic_ncols=True,
            ascii=not (sys.stderr.encoding or "").lower().startswith("utf"),
        )  # fmt: skip

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            self._bar.total = max(self._total, self._done)  # where a file grew meanwhile
            self._bar.update(amount)

    def finish_item(self) -> None:
        with self._lock:
            self._finished += 1
            self._bar.set_postfix_str(f"{self._finished} of {self._items} files")

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()


class _Lines:
    """A line when it begins, and one every half minute: what a log of a job shows of a long step."""

    def __init__(self, title: str, total: int) -> None:
        self._lock, self._title, self._total, self._done = threading.Lock(), shown(title), total, 0
        self._began = self._said = time.monotonic()
        output.say(f"{self._title}: {size(total)}")

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._said >= _EVERY:
                self._said = now
                rate = self._done / (now - self._began)
                output.say(f"{self._title}: {size(self._done)} of {size(self._total)}, {size(int(rate))}/s")

    def finish_item(self) -> None:
        """Sizes say enough."""

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """The next line says that it ended."""


class Terminal:
    """Lines on stderr; a long step is a bar where stderr is a terminal, and a line from time to time where it is not."""

    def task(self, title: str, total: int, items: int = 0) -> Task:
        return _Bar(title, total, items) if sys.stderr.isatty() else _Lines(title, total)

    def note(self, line: str, **facts: object) -> None:
        tqdm = sys.modules.get("tqdm")
        with tqdm.tqdm.external_write_mode(file=sys.stderr) if tqdm else contextlib.nullcontext():
            output.say(line)


def say_event(event: str, **facts: object) -> None:
    """One event as a line of JSON on stderr."""
    output.say_json({"time": round(time.time(), 3), "event": event, **facts})


class _Counted:
    """Says how far it is when it begins, at most once a second, and when it ends."""

    def __init__(self, title: str, total: int, items: int) -> None:
        self._lock, self._title, self._total, self._items = threading.Lock(), title, total, items
        self._done = self._finished = self._said = 0
        self._last = time.monotonic()
        self._say(0.0)

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            passed = time.monotonic() - self._last
            if passed >= 1:
                self._say(passed)

    def finish_item(self) -> None:
        with self._lock:
            self._finished += 1

    def _say(self, passed: float) -> None:
        rate = max(0, round((self._done - self._said) / passed)) if passed else 0
        remaining = round((self._total - self._done) / rate) if rate else None
        counts = {"done": self._done, "total": self._total, "rate": rate, "remaining": remaining}
        if self._items:
            counts |= {"items_done": self._finished, "items": self._items}
        say_event("progress", task=self._title, **counts)
        self._said, self._last = self._done, time.monotonic()

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._say(max(time.monotonic() - self._last, 1e-6))


class JsonLines:
    """One JSON object a line on stderr: ``event`` is ``progress``, ``note`` or what the note's facts say."""

    def task(self, title: str, total: int, items: int = 0) -> Task:
        return _Counted(title, total, items)

    def note(self, line: str, **facts: object) -> None:
        say_event(**{"event": "note", "text": line, **facts})  # type: ignore[arg-type]  # the event of facts is a name


class _Notes(logging.Handler):
    """What modules log becomes notes."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        self._progress.note(record.getMessage(), event="detail", of=record.name.rpartition(".")[2])


def show_details(progress: Progress) -> None:
    """From now on ``progress`` gets what the modules of this package log: requests, programs, files of settings."""
    logger = logging.getLogger("offline_kit")
    logger.handlers, logger.propagate = [_Notes(progress)], False
    logger.setLevel(logging.DEBUG)
