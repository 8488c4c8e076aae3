"""Stages, faults, and the table of both.

Rules: each pair has a test, or a reason why there is none; the table of the documentation is written from the marks of the
tests, so that it names exactly the cells that exist.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import product

import pytest

STAGES = (
    "lock", "fetch", "convert, scan", "pack", "sign", "split, join", "verify", "unpack",
    "install: checks", "install: images", "install: start", "upgrade", "backup",
)  # fmt: skip
FAULTS = (
    "disk full", "kill -9", "SIGINT, SIGTERM", "read-only", "unreadable", "clock set back", "two at once", "dockerd dies",
    "power cut",
)  # fmt: skip

_NO_DOCKER = "Docker takes no part in it"
_WRITES_NOTHING = "it writes nothing"
_ABSENT = {
    **{
        (stage, "dockerd dies"): _NO_DOCKER
        for stage in ("convert, scan", "pack", "sign", "split, join", "verify", "unpack", "backup")
    },
    ("verify", "disk full"): _WRITES_NOTHING,
    ("verify", "power cut"): _WRITES_NOTHING,
}


@dataclass(frozen=True)
class Cell:
    """A fault that meets a stage, and what is promised for it."""

    stage: str
    fault: str
    promise: str

    def __post_init__(self) -> None:
        if self.stage not in STAGES or self.fault not in FAULTS:
            raise ValueError(f"no such stage or fault: {self.stage}, {self.fault}")


def cells(fault: str, promises: Mapping[str, str], quick: Collection[str] = ()) -> pytest.MarkDecorator:
    """Parametrizes a test over ``stage``: the stages that ``promises`` names, each a cell with its promise.

    All but those in ``quick`` are run by make test-long and make faults only.
    """
    given = []
    for name, promise in promises.items():
        marks = [pytest.mark.fault(name.split(":: ")[0], fault, promise), *([] if name in quick else [pytest.mark.long])]
        given.append(pytest.param(name, marks=marks))
    return pytest.mark.parametrize("stage", given)


def missing(found: Collection[Cell]) -> list[tuple[str, str]]:
    """Pairs that have neither a test nor a reason."""
    there = {(cell.stage, cell.fault) for cell in found}
    return [pair for pair in product(STAGES, FAULTS) if pair not in there and pair not in _ABSENT]


def table(results: Mapping[Cell, str]) -> str:
    """Markdown: a row a stage with ``results`` (such as ok), then what is promised for each cell."""
    reasons = list(dict.fromkeys(_ABSENT.values()))
    by_pair: dict[tuple[str, str], list[Cell]] = {}
    for cell in sorted(results, key=lambda cell: (STAGES.index(cell.stage), FAULTS.index(cell.fault), cell.promise)):
        by_pair.setdefault((cell.stage, cell.fault), []).append(cell)

    def shown(pair: tuple[str, str]) -> str:
        if pair not in by_pair:
            return f"({reasons.index(_ABSENT[pair]) + 1})" if pair in _ABSENT else "not tested"
        said = {results[cell] for cell in by_pair[pair]}
        return said.pop() if len(said) == 1 else "FAILED"

    lines = [f"| | {' | '.join(FAULTS)} |", f"| --- |{' --- |' * len(FAULTS)}"]
    lines += [f"| {stage} | {' | '.join(shown((stage, fault)) for fault in FAULTS)} |" for stage in STAGES]
    lines += ["", *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))]
    lines += ["", "| stage | fault | what holds afterwards |", "| --- | --- | --- |"]
    for (stage, fault), found in by_pair.items():
        lines.append(f"| {stage} | {fault} | {'; '.join(dict.fromkeys(cell.promise for cell in found))} |")
    return "\n".join(lines) + "\n"
