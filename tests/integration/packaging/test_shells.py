"""Completion in real shells, and the manual pages as man shows them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.testbed.cache import REPOSITORY

PROGRAMS = Path(sys.executable).parent
BASH = """
set -u
eval "$(_OFFLINE_KIT_COMPLETE=bash_source offline-kit)"
complete -p offline-kit >/dev/null || exit 1
COMP_WORDS=({words}) COMP_CWORD={last}
_offline_kit_completion offline-kit "" ""
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
ZSH = """
autoload -Uz compinit && compinit -D
eval "$(_OFFLINE_KIT_COMPLETE=zsh_source offline-kit)"
print -- ${_comps[offline-kit]}
"""
FISH = """
_OFFLINE_KIT_COMPLETE=fish_source offline-kit | source
complete -C "offline-kit bui"
complete -C "offline-kit build --lim"
"""


def shell(*command: str, home: Path) -> list[str]:
    surroundings = {**os.environ, "PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(command, capture_output=True, text=True, env=surroundings, timeout=60, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("offline-kit bui", "build"),
        ("offline-kit store ver", "verify"),
        ("offline-kit build --limit", "--limit-rate"),
        ("offline-kit build --format tar.z", "tar.zst"),
    ],
)
def test_bash(words: str, found: str, tmp_path: Path) -> None:
    program = BASH.format(words=words, last=len(words.split()) - 1)
    assert shell("bash", "--norc", "-c", program, home=tmp_path) == [found]


def test_zsh(tmp_path: Path) -> None:
    assert shell("zsh", "-f", "-c", ZSH, home=tmp_path) == ["_offline_kit_completion"]


def test_fish(tmp_path: Path) -> None:
    lines = [line.partition("\t")[0] for line in shell("fish", "-c", FISH, home=tmp_path)]
    assert lines == ["build", "--limit-rate"]


def test_a_broken_offline_kit_toml_does_not_break_completion(tmp_path: Path) -> None:
    (tmp_path / "offline-kit.toml").write_text("x = [")
    surroundings = {**os.environ, "COMP_WORDS": "offline-kit build --lock", "COMP_CWORD": "2"}
    surroundings["_OFFLINE_KIT_COMPLETE"] = "bash_complete"
    done = subprocess.run(
        [PROGRAMS / "offline-kit"], capture_output=True, text=True, env=surroundings, cwd=tmp_path, check=False
    )
    assert (done.stdout, done.stderr) == ("plain,--locked\n", "")


@pytest.mark.parametrize("page", sorted((REPOSITORY / "man/man1").glob("*.1")), ids=lambda page: page.stem)
def test_a_manual_page_is_sound_and_says_its_name(page: Path) -> None:
    done = subprocess.run(
        ["man", "--warnings", "--local-file", page],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "MANWIDTH": "90"},
    )
    assert done.stderr == ""
    assert page.stem in done.stdout.replace("\u2010", "-") and "SYNOPSIS" in done.stdout
