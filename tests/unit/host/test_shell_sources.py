"""The libraries of the scripts: each file sources, itself or through another, what it calls; in no circle."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.testbed.cache import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"
FILES = sorted(SCRIPTS.rglob("*.sh"))
LIBRARIES = sorted((SCRIPTS / "lib").rglob("*.sh"))
SOURCED = re.compile(r'^\. "(?:\$\{BASH_SOURCE\[0\]%/\*\}|\$LIB)/(\S+\.sh)"', re.M)
# where a word is a command: at the start of a line or behind what starts a new command
COMMAND = (
    r"(?:^|[;&|{{!`]|\$\(|\b(?:then|do|else|if|while|until|elif)\s|\brun_foreground\s(?:\w+\s)?)\s*{}(?=\s|$|;|\))(?!\s*\))"
)


def code(path: Path) -> str:
    """The file's text without comments, quoted words and here-documents."""
    text = re.sub(r"<<-?'?(\w+)'?\n.*?^\1$", "", path.read_text(), flags=re.S | re.M)
    text = re.sub(r"'[^'\n]*'", "''", text)
    return re.sub(r"(?m)(^|\s)#.*$", "", text)


def sourced(path: Path) -> set[Path]:
    home = path.parent if path.parent != SCRIPTS else SCRIPTS / "lib"
    return {Path(os.path.normpath(home / name)) for name in SOURCED.findall(path.read_text())}


def reached(path: Path) -> set[Path]:
    """All that is sourced with ``path``."""
    found: set[Path] = set()
    waiting = [path]
    while waiting:
        new = sourced(waiting.pop()) - found
        found |= new
        waiting += new
    return found


FUNCTIONS = {name: path for path in LIBRARIES for name in re.findall(r"^(\w+)\(\)", path.read_text(), flags=re.M)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_what_is_called_is_sourced(path: Path) -> None:
    text, at_hand = code(path), {path, *reached(path)}
    for name, home in FUNCTIONS.items():
        if re.search(COMMAND.format(name), text, flags=re.M):
            own = f"\n{name}()" in text  # a copy, in a script that may source nothing
            assert own or home in at_hand, f"{name} is called, and {home.relative_to(SCRIPTS)} is not sourced"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_no_file_comes_to_itself_again(path: Path) -> None:
    assert all(other.exists() for other in sourced(path))
    assert path not in reached(path)


def test_no_check_is_off_for_a_whole_file() -> None:
    for path in FILES:
        head = path.read_text().split("\n\n")[0]
        assert "shellcheck disable" not in head, path


@pytest.mark.parametrize("path", LIBRARIES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_what_keeps_a_library_from_being_read_twice_has_its_name(path: Path) -> None:
    guard = f"{path.stem.upper()}_SH"
    assert f'[[ -z "${{{guard}:-}}" ]] || return 0\n{guard}=yes\n' in path.read_text()
