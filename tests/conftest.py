"""Fixtures of the whole test suite: the real parts of the testbed, and the command as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import pytest

from tests.testbed.fixtures import *  # noqa: F403

# Minutes each: other Docker engines, a host that restarts, interruptions, upgrades. `make test-long` runs them.
LONG = (
    "e2e/test_backup.py",
    "e2e/test_engines.py",
    "e2e/test_interrupted.py",
    "e2e/test_load.py",
    "e2e/test_reasons.py",
    "e2e/test_replicas.py",
    "e2e/test_systemd_host.py",
    "e2e/test_upgrade.py",
    "integration/test_scripts_roots.py",
)


def pytest_configure() -> None:
    """Who is started in the background ignores SIGINT and hands that down: programs under test must not."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the long ones, before pytest chooses by mark."""
    for item in items:
        if item.path.as_posix().endswith(LONG):
            item.add_marker("long")


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
