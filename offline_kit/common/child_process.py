"""One program of another, run with limits of time and of what is read from it.

Rules: it gets no terminal, no input and none of this run's secrets (a few variables of the environment alone); whatever it
started goes with it; of an output without end the first MiB is kept and the rest read past.
"""

from __future__ import annotations

import logging
import os
import select
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)
_KEPT = 1 << 20  # bytes
_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TMPDIR", "TZ")
_LOOK = 0.1  # seconds between two looks at whether it was stopped or is gone


class TookTooLong(Exception):
    """It was still running when its time was over."""


class Stopped(Exception):
    """Somebody else failed; nobody waits for this one."""


@dataclass(frozen=True)
class Ended:
    """How it ended, and what it wrote, stdout and stderr together."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """What a person is told of a failure."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"


def run_child(
    command: Sequence[str],
    *,
    seconds: float,
    folder: Path,
    stop: threading.Event | None = None,
    environment: Mapping[str, str] | None = None,
) -> Ended:
    """Runs ``command`` in ``folder``. Raises OSError (no such program), TookTooLong and Stopped.

    ``environment``: variables besides the few that are passed on.
    """
    surroundings = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(environment or {})
    _log.debug("runs %s", shlex.join(command))
    process = subprocess.Popen(
        command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output = _read(process, time.monotonic() + seconds, stop)
        return Ended(process.wait(), output.decode("utf-8", "replace"))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _read(process: subprocess.Popen[bytes], deadline: float, stop: threading.Event | None) -> bytes:
    """What it writes until it is gone; a process that it left behind with its output open is not waited for."""
    assert process.stdout is not None
    descriptor, kept, gone = process.stdout.fileno(), bytearray(), False
    while True:
        if stop is not None and stop.is_set():
            raise Stopped
        if time.monotonic() > deadline:
            raise TookTooLong
        if select.select([descriptor], [], [], 0 if gone else _LOOK)[0]:
            piece = os.read(descriptor, 1 << 16)
            if not piece:
                while process.poll() is None and time.monotonic() <= deadline and not (stop and stop.is_set()):
                    time.sleep(_LOOK / 10)
                if process.poll() is None:
                    continue
                return bytes(kept)
            kept += piece[: _KEPT - len(kept)]
        elif gone:
            return bytes(kept)
        else:
            gone = process.poll() is not None
