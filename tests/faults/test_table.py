"""docs/faults.md names exactly the cells that the tests have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.faults.table import Cell, missing, table
from tests.testbed.cache import REPOSITORY

PAGE = REPOSITORY / "docs/faults.md"


def test_the_page_has_the_table_of_the_tests() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--docs"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.stdout.startswith("| | disk full |"), done.stderr
    assert done.stdout in PAGE.read_text(), "python -m tests.faults --docs prints what belongs there"


def test_a_failure_and_a_gap_are_shown() -> None:
    whole, broken = Cell("lock", "kill -9", "no lock"), Cell("lock", "kill -9", "the next run ends well")
    assert "| lock | not tested | ok |" in table({whole: "ok"})
    assert "| lock | not tested | FAILED |" in table({whole: "ok", broken: "FAILED"})
    assert ("lock", "kill -9") not in missing([whole]) and ("lock", "disk full") in missing([whole])
    assert ("verify", "disk full") not in missing([])
    with pytest.raises(ValueError, match="no such stage"):
        Cell("lock", "rain", "wet")
