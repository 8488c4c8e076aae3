"""The timer and the CI jobs that are shipped: what checks them officially accepts them, and they say what the program knows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.testbed.cache import REPOSITORY

SCHEDULE = REPOSITORY / "config/schedule"
SCHEMAS = {"github-actions.yml": "vendor.github-workflows", "gitlab-ci.yml": "vendor.gitlab-ci"}


def test_systemd_accepts_service_and_timer(tmp_path: Path) -> None:
    program = tmp_path / "offline-kit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in ("offline-kit-release.service", "offline-kit-release.timer"):
        text = (SCHEDULE / unit).read_text().replace("/usr/local/bin/offline-kit", str(program))
        (tmp_path / unit).write_text(text)
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and str(tmp_path) not in done.stderr, done.stderr
    wrong = tmp_path / "offline-kit-release.service"
    wrong.write_text("[Service]\nTypo=oneshot\nExecStart=nothing\n")
    assert subprocess.run(["systemd-analyze", "verify", str(wrong)], capture_output=True, check=False).returncode != 0


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_published_schemas_accept_the_jobs(name: str, tmp_path: Path) -> None:
    def checked(path: Path) -> int:
        command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", SCHEMAS[name], str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode

    assert checked(SCHEDULE / name) == 0
    broken = tmp_path / name
    broken.write_text((SCHEDULE / name).read_text().replace("timeout", "time out").replace("  script:", "  scripts:"))
    assert checked(broken) != 0, "it can refuse"


def test_their_commands_are_the_programs(offline_kit: Kit) -> None:
    known = set(re.findall(r"--[a-z-]+", offline_kit("release", "--help").stdout))
    for path in SCHEDULE.iterdir():
        for command in re.findall(r"offline-kit release ((?:.*\\\n)*.*)", path.read_text()):
            assert set(re.findall(r"(?<= )--[a-z-]+", f" {command}")) <= known, path.name
