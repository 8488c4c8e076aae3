"""Fixtures of the whole test suite: the real parts of the testbed, and the command as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest

from tests.testbed.fixtures import *  # noqa: F403

hypothesis.settings.register_profile("any machine", deadline=None)  # how long an example takes is the machine's affair
hypothesis.settings.load_profile("any machine")


def pytest_configure() -> None:
    """Who is started in the background ignores SIGINT and hands that down: programs under test must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs root fails without it: skipped in silence, it would count as passed."""
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.fail("this test needs root; 'make test-unit' leaves it out", pytrace=False)


class Kit(Protocol):
    """Runs ``offline-kit ARGUMENTS`` as its own process."""

    def __call__(
        self, *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture(scope="session")
def offline_kit() -> Kit:
    """The installed command, run as a user runs it; never raises on a non-zero exit."""
    program = Path(sys.executable).with_name("offline-kit")
    assert program.exists(), f"{program} is missing: 'make venv' installs it"

    def run(
        *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [str(program), *map(str, arguments)]
        surroundings = {**os.environ, **(env or {})}
        return subprocess.run(command, cwd=cwd, env=surroundings, capture_output=True, text=True, timeout=900, check=False)

    return run
