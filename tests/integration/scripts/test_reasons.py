"""What engines and Docker say when they fail is translated into one line that says what it means and what to do.

Rules: the lines of tests/data/host_failures.tsv were seen in real logs and reports; the table of the script is the only one,
and docs/host-checks.md has each of its rows with such a line.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.testbed.cache import REPOSITORY

SCRIPT = REPOSITORY / "scripts/lib/services/failure_reasons.sh"
RECORDED = [
    line.split("\t")
    for line in (REPOSITORY / "tests/data/host_failures.tsv").read_text().splitlines()
    if not line.startswith("#")
]


class Row(NamedTuple):
    """A row of the table: what it means, what to do."""

    reason: str
    remedy: str


def bash(text: str, *arguments: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", f'. "$0"; {text}', str(SCRIPT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


def rows() -> list[Row]:
    return [Row(*re.fullmatch(r".* => (.*?) -> (.*)", line).groups()) for line in bash("failure_table").splitlines()]  # type: ignore[union-attr]


ROWS = rows()


def reason(said: str) -> str:
    """What is told of a log with that line in it."""
    return bash('service_reason "$1"; printf %s "$REPLY"', f"INFO loading\n{said}\nINFO exit")


@pytest.mark.parametrize("said, expected", RECORDED, ids=[said[:50] for said, _ in RECORDED])
def test_a_recorded_failure_is_translated(said: str, expected: str) -> None:
    remedies = {row.reason: row.remedy for row in ROWS}
    assert reason(said) == (f"{expected}: {remedies[expected]}" if expected else "")


def test_every_row_was_seen() -> None:
    assert {row.reason for row in ROWS} == {expected for _, expected in RECORDED} - {""}
    assert len({row.reason for row in ROWS}) == len(ROWS) >= 60


def test_the_first_row_that_fits_counts() -> None:
    lines = (
        "PermissionError: [Errno 13] Permission denied: 'x'",
        "torch.OutOfMemoryError: CUDA out of memory.",
        "exit code 137",
    )
    assert reason("\n".join(lines)).startswith("memory of the GPU ran out")


@pytest.mark.parametrize(
    "said, misleading",
    [
        ("Failed to initialize NVML: Unknown Error", "restart the host"),
        ("RuntimeError: Cannot find any model weights with `/models/chat`", "finds which"),
        ("wrong diff id calculated on extraction", "space"),
        ("write /var/lib/docker/tmp/x: no space left on device", "verify.sh"),
        ("Couldn't connect to 'https://huggingface.co' to load the files", "connect the host"),
        ("docker: Error response from daemon: invalid mode: /kit:ro.", "load_images"),
        ('Error starting userland proxy: exec: "docker-proxy": executable file not found in $PATH', "build the bundle"),
        ("RuntimeError: CUDA error: an illegal instruction was encountered", "processor"),
        ("open sysctl net.ipv4.ip_unprivileged_port_start file: reopen fd 8: permission denied", "models/"),
        ("safetensors_rust.SafetensorError: No such device (os error 19)", "verify.sh"),
        ("NCCL error: Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000", "peer access"),
        ("/usr/bin/python3: No module named runtime", "an image that has it"),
        ("ModuleNotFoundError: No module named 'runtime_tools'", "the kit"),
    ],
)
def test_no_remedy_leads_astray(said: str, misleading: str) -> None:
    assert reason(said) and misleading not in reason(said)


def manual() -> list[list[str]]:
    """The rows of the manual's table of reasons: what is seen, why, remedy, followed."""
    text = (REPOSITORY / "docs/host-checks.md").read_text().split("\n## When a start fails\n")[1]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_manual_has_the_rows_of_the_script_and_no_others() -> None:
    assert [Row(why, remedy) for _, why, remedy, _ in manual()] == ROWS


def test_the_manual_shows_what_is_really_translated() -> None:
    for said, why, remedy, _ in manual():
        assert reason(said.strip("`")) == f"{why}: {remedy}", said


def test_the_manual_says_what_was_followed() -> None:
    for said, *_, followed in manual():
        assert followed == "untested" or (REPOSITORY / followed.strip("`").split("::")[0]).is_file(), said


def test_busybox_reads_the_table_alike(tmp_path: Path) -> None:
    (tmp_path / "awk").symlink_to(shutil.which("busybox") or "busybox")
    lines = [said for said, _ in RECORDED]
    text = 'for said; do service_reason "$said"; printf "%s\\n" "$REPLY"; done'
    assert bash(f'PATH="$1:$PATH"; shift; {text}', str(tmp_path), *lines) == bash(text, *lines)
