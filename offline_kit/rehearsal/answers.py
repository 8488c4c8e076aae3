"""What programs in the engine image answer in a rehearsal: lines of JSON, read as what anybody may have written.

Rules: the image is not trusted; a line that is not what the kit's own programs write is a finding and no fault of ours; what is
told or recorded of it is one printable line of bounded length.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from offline_kit.common.errors import RehearsalFailed
from offline_kit.common.json_text import parse_json

_WHERE = "rehearsal"
_LONGEST = 400  # characters of a text that is told
_REMEDY = "do not use this image: 'offline-kit verify' says whether the kit is as it was built"
Record = TypeVar("Record", bound=BaseModel)


def plain(text: str) -> str:
    """``text`` as one printable line."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:_LONGEST]


Line = Annotated[str, AfterValidator(plain)]


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)


class Noted(_Read):
    """A question for a name or a connection, as the process that made it noted it. ``place``: FILE:LINE."""

    pid: int
    target: Line
    step: Line
    place: Line


class Failed(_Read):
    """At which step a model failed, and what was said; ``log`` is as it was written."""

    step: Line
    error: Line
    log: str


class Answer(_Read):
    """What came of one model; without one, ``start`` has what was asked for before the first."""

    model: Line = ""
    pid: int
    done: dict[Line, Line] = {}
    failed: Failed | None = None
    asked: list[Noted] = []
    start: list[Noted] = []


class Captured(_Read):
    """A line of the capture: an attempt (``asked``: name or address), or that it is ready or has ended."""

    asked: Line = ""
    target: Line = ""
    pid: int = 0
    command: Line = ""
    parents: list[int] = []
    ended: bool = False
    lost: int = 0


class Check(_Read):
    """A question of the smoke test."""

    name: Line
    ok: bool


class Smoke(_Read):
    """What the smoke test said."""

    checks: list[Check] = []


class Receipt(_Read):
    """What of a receipt of install.sh comes from the engine image."""

    smoke: Smoke | None = None


def read_receipt(data: bytes) -> set[str]:
    """The names of the questions that were answered. Raises RehearsalFailed."""
    smoke = _read(data, Receipt).smoke
    return {check.name for check in smoke.checks if check.ok} if smoke else set()


def read_lines(text: str, kind: type[Record]) -> list[Record]:
    """The records in ``text``, a line each; other lines are somebody's talk. Raises RehearsalFailed."""
    return [_read(line.encode(), kind) for line in text.split("\n") if line.startswith("{")]


def _read(data: bytes, kind: type[Record]) -> Record:
    try:
        return kind.model_validate(parse_json(data))
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except ValueError as error:
        why = str(error)
    raise RehearsalFailed(f"the engine image answers what this kit never writes: {plain(why)}", where=_WHERE, remedy=_REMEDY)
