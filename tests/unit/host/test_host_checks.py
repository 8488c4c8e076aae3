"""docs/host-checks.md and the checks of the scripts say the same: every finding has a row, and every row is a finding.

Rules: a finding is read where the scripts make it (`finding LEVEL NAME TEXT REMEDY`); what the shell fills in stands for
anything, so the manual can show it by a word of its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from tests.testbed.cache import REPOSITORY

CALL = re.compile(r'\bfinding (OK|WARN|FAIL|"\$level") ')
FILLED = "\0"  # what the shell fills in


class Finding(NamedTuple):
    """A level, the name of a check, what is seen and what to do."""

    level: str
    name: str
    text: str
    remedy: str


def words(text: str) -> list[str]:
    """The words of a command of bash up to its end, with FILLED for what it expands."""
    found: list[str] = []
    word, at = "", 0
    inside = False
    while at < len(text):
        character = text[at]
        if character == "'":
            end = text.index("'", at + 1)
            word, at, inside = word + text[at + 1 : end], end + 1, True
        elif character == '"':
            piece, at = double_quoted(text, at + 1)
            word, inside = word + piece, True
        elif text.startswith("\\\n", at):
            at += 2
        elif character in " \t":
            found, word, inside, at = ([*found, word] if inside else found), "", False, at + 1
        elif character in "\n;&|})":
            break
        elif character == "$":
            at, word, inside = expansion(text, at), word + FILLED, True
        else:
            word, at, inside = word + character, at + 1, True
    return [*found, word] if inside else found


def double_quoted(text: str, at: int) -> tuple[str, int]:
    """What stands between double quotes, and where they end."""
    piece = ""
    while text[at] != '"':
        if text[at] == "\\":
            piece, at = piece + text[at + 1], at + 2
        elif text[at] == "$":
            at, piece = expansion(text, at), piece + FILLED
        else:
            piece, at = piece + text[at], at + 1
    return piece, at + 1


def expansion(text: str, at: int) -> int:
    """Where an expansion ends that begins at a dollar sign."""
    if text[at + 1] not in "{(":
        return at + len(re.match(r"\$(\w+|.)", text[at:]).group())  # type: ignore[union-attr]
    depth = 0
    for end in range(at + 1, len(text)):
        depth += (text[end] in "{(") - (text[end] in "})")
        if depth == 0:
            return end + 1
    raise AssertionError(text[at : at + 80])


def findings() -> list[Finding]:
    """Those of the scripts that are no OK."""
    found = []
    for script in sorted((REPOSITORY / "scripts").rglob("*.sh")):
        text = script.read_text()
        for match in CALL.finditer(text):
            levels = ["FAIL", "WARN"] if "$" in match[1] else [match[1]]
            for level in levels:
                found += [Finding(level, *words(text[match.end() :]))] if level != "OK" else []
    return found


def rows() -> list[Finding]:
    """The rows of the manual."""
    text = (REPOSITORY / "docs/host-checks.md").read_text().split("\n## When a start fails\n")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    cells = [[cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [Finding(level, name, seen, remedy) for name, level, seen, remedy, _ in cells]


def fits(shown: str, made: str) -> bool:
    """A text of the manual is one that the script can make."""
    pattern = ".+".join(map(re.escape, made.split(FILLED)))
    return re.fullmatch(pattern, shown, re.S) is not None


def same(row: Finding, finding: Finding) -> bool:
    return row.level == finding.level and all(map(fits, row[1:], finding[1:]))


FINDINGS, ROWS = findings(), rows()


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda finding: f"{finding.name} {finding.text}".replace(FILLED, "_")[:60])
def test_every_finding_has_a_row(finding: Finding) -> None:
    assert any(same(row, finding) for row in ROWS), finding


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.name} {row.text}"[:60])
def test_every_row_is_a_finding(row: Finding) -> None:
    assert any(same(row, finding) for finding in FINDINGS), row


def test_each_has_a_remedy_and_there_are_enough() -> None:
    assert len(FINDINGS) > 80 and all(finding.text and finding.remedy for finding in FINDINGS)


def test_what_was_followed_is_named() -> None:
    text = (REPOSITORY / "docs/host-checks.md").read_text().split("\n## When a start fails\n")[0]
    for line in [line for line in text.splitlines() if line.startswith("| ")][2:]:
        followed = line.rstrip(" |").rsplit("| ", 1)[1].strip("` ")
        assert followed == "untested" or (REPOSITORY / followed).is_file(), line


def test_the_reader_of_this_test() -> None:
    """The control: what it makes of bash."""
    assert words("""'a b' "c $d ${e:-"x"} \\"f\\" $((g * 2))" \\\n    'h'"i" && no""") == [
        "a b",
        f'c {FILLED} {FILLED} "f" {FILLED}',
        "hi",
    ]
    assert fits("GPU N", f"GPU {FILLED}") and not fits("GPU", f"GPU {FILLED}") and not fits("a GPU N", f"GPU {FILLED}")
