"""A minute of fuzzing with fixed seeds, OFFLINE_KIT_FUZZ_SECONDS of it where that is set; ten minutes among the long tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.fuzz.worker import KINDS
from tests.testbed.cache import REPOSITORY

SECONDS = float(os.environ.get("OFFLINE_KIT_FUZZ_SECONDS", "60"))
MOST = 300  # MiB of memory that reading anything may take


def fuzz(kind: str, seed: int, seconds: float) -> None:
    command = [sys.executable, "-m", "tests.fuzz.worker", kind, str(seed), str(seconds)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=seconds + 300, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    assert result["faults"] == [], "\n".join(result["faults"])
    assert result["peak_mib"] <= MOST, result
    assert sum(result["inputs"].values()) > seconds / 2, result
    print(done.stdout)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_read_is_a_fault_of_ours(kind: str) -> None:
    fuzz(kind, 1, SECONDS / len(KINDS))


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_is_read_is_a_fault_of_ours_for_ten_minutes(kind: str, seed: int) -> None:
    fuzz(kind, seed, 600 / len(KINDS) / 2)
