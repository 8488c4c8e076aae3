"""Runs every cell of the fault table and prints the table as Markdown: ``python -m tests.faults [PYTEST-OPTION ...]``.

``--docs`` prints it as it is when all is well, without running anything. Exit code 1: a cell failed, or a pair has none.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.table import Cell, missing, table

TESTS = Path(__file__).parent.parent


class Collector:
    """A plug-in of pytest: which cells there are, and how their tests ended."""

    def __init__(self) -> None:
        self.cells: dict[str, list[Cell]] = {}
        self.ended: defaultdict[str, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if marks := [Cell(*mark.args) for mark in item.iter_markers("fault")]:
                self.cells[item.nodeid] = marks

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.ended[report.nodeid].add(report.outcome)

    def results(self, *, as_if_all_passed: bool) -> dict[Cell, str]:
        """ok, or FAILED, for each cell."""
        tests: defaultdict[Cell, set[str]] = defaultdict(set)
        for nodeid, cells in self.cells.items():
            for cell in cells:
                tests[cell] |= self.ended[nodeid] or {"not run"}
        return {cell: "ok" if as_if_all_passed or ended == {"passed"} else "FAILED" for cell, ended in tests.items()}


def marked_files() -> list[str]:
    """The test files that have cells: nothing else is imported."""
    pattern = re.compile(r"mark\.fault\(|@cells\(")
    return [str(path) for path in sorted(TESTS.rglob("test_*.py")) if pattern.search(path.read_text())]


def main(arguments: list[str]) -> int:
    """Prints the table; the exit code."""
    dry = arguments[:1] == ["--docs"]
    collector = Collector()
    options = ["--collect-only", "-q"] if dry else ["-q", *arguments]
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main([*marked_files(), "-o", "addopts=-ra --strict-markers", "-m", "fault", *options], plugins=[collector])
    results = collector.results(as_if_all_passed=dry)
    print(table(results), end="")
    return 1 if missing(results) or "FAILED" in results.values() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
