"""Attempts to reach a network, as a capture and the audit hook of a process saw them, and how they are told.

Rules: pure; the capture decides that there was one, the hook only adds the step and the line of code; each is one line with a
remedy, and names the process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from offline_kit.rehearsal.answers import Answer, Captured

REMEDY = "carry what it asks for in the bundle, or switch it off: on the host nobody answers"


@dataclass(frozen=True)
class Attempt:
    """``kind``: name or address; ``pid``: 0 where the process was gone before it was looked up; ``parents``: who started it."""

    kind: str
    target: str
    pid: int
    command: str
    parents: tuple[int, ...] = ()

    @staticmethod
    def of(seen: Captured) -> Attempt:
        """From a line of the capture."""
        return Attempt(seen.asked, seen.target, seen.pid, seen.command, tuple(seen.parents))

    @property
    def asked(self) -> str:
        """What it asked for, in words."""
        return f"asked for the address of {self.target}" if self.kind == "name" else f"wanted to connect to {self.target}"


@dataclass(frozen=True)
class Place:
    """Where in a process' own code an attempt was made: the model that was tried, the step, FILE:LINE."""

    model: str
    step: str
    line: str


def places(answers: Sequence[Answer]) -> dict[tuple[int, str], Place]:
    """What audit hooks noted, by process and target."""
    found: dict[tuple[int, str], Place] = {}
    for answer in answers:
        for noted in (*answer.asked, *answer.start):
            found.setdefault((noted.pid, noted.target), Place(answer.model, noted.step, noted.place))
    return found


def tell(
    attempts: Sequence[Attempt], noted: Mapping[tuple[int, str], Place], models: Mapping[int, str], container: str
) -> Iterator[str]:
    """A line for each attempt. ``models``: process -> the model that it tried; ``container``: where all of it ran."""
    for attempt in attempts:
        place = noted.get((attempt.pid, attempt.target))
        model = next((models[pid] for pid in (attempt.pid, *attempt.parents) if pid in models), "")
        step = f": {place.step}" if place and model else ""
        who = f"process {attempt.pid}, {attempt.command}" if attempt.pid else "a process that was gone at once"
        line = f", at {place.line}" if place and place.line else ""
        yield f"{model or container}{step}: {attempt.asked} (container {container}, {who}{line}) -> {REMEDY}"
