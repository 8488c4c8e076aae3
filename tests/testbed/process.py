"""Programs that the testbed starts: each in its own session, with a log file, stopped by the pid that was started.

Rules: (1) never find a process by its name; (2) TERM first, KILL after a grace time; (3) an early death or a missed
deadline is an error that shows the end of the log.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class TestbedError(Exception):
    """A real part is missing, did not start or did not stop; the text says which and shows its last words."""

    __test__ = False


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log file, or a note that there is none."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    cwd: Path | None = None,
    timeout: float = 1800,
) -> str:
    """Runs a command to its end and returns its stdout.

    `env` is added to this process's environment, `timeout` is in seconds. Raises TestbedError with the command and
    the end of its output when it exits non-zero, cannot be found or runs too long.
    """
    try:
        done = subprocess.run(
            list(argv),
            env={**os.environ, **(env or {})},
            input=stdin,
            cwd=cwd,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise TestbedError(f"{argv[0]}: {error}; bash tests/testbed/setup.sh installs what the testbed needs") from error
    if done.returncode != 0:
        output = (done.stdout + done.stderr).decode(errors="replace")
        raise TestbedError(f"exit {done.returncode} from {' '.join(argv)}\n{output[-4000:]}")
    return done.stdout.decode(errors="replace")


class Process:
    """One started program. `argv` as given, `env` added to the environment, output appended to `log`."""

    def __init__(self, argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> None:
        self.argv, self.log = list(argv), log
        with log.open("ab") as sink:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The pid of the program; its own process group has the same number."""
        return self._popen.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._popen.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Polls `ready` until it says yes. Raises TestbedError when the program ends or the time is up."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.alive:
                raise TestbedError(f"{what} ended with {self._popen.returncode} before it was ready:\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise TestbedError(f"{what} was not ready after {seconds:.0f} s:\n{tail(self.log)}")
            time.sleep(0.05)

    def stop(self, grace: float = 20) -> None:
        """TERM, then KILL to its group after `grace` seconds, with 0 at once; returns when it is gone. Safe to call twice."""
        if self.alive:
            if grace:
                self._popen.terminate()
            try:
                self._popen.wait(grace)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._popen.wait()


def free_port(port: int = 0) -> int:
    """`port` itself when it is not 0, else a TCP port of 127.0.0.1 that was free a moment ago."""
    if port:
        return port
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        chosen: int = probe.getsockname()[1]
        return chosen


def listening(port: int) -> bool:
    """Whether something accepts connections on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
