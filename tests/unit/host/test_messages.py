"""Others' text on a terminal: no sequence of it acts there, nothing of it is lost, and letters stay as they are.

Rules: each text goes through the function itself, with GNU's sed and with BusyBox's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.testbed.cache import REPOSITORY

COMMON = REPOSITORY / "scripts/lib/core/common.sh"
TEXTS = {
    b"a plain line\twith a tab": "a plain line\twith a tab",
    b"\x1b[2J\x1b]0;title\x07 gone": r"\u001b[2J\u001b]0;title\u0007 gone",
    b"ok\rFAIL, a bell \x07, backspace \x08, delete \x7f": r"ok\u000dFAIL, a bell \u0007, backspace \u0008, delete \u007f",
    b"a line of Windows\r": "a line of Windows",
    b"C1 in UTF-8: \xc2\x9b31m": r"C1 in UTF-8: \u009b31m",
    b"C1 as a byte: \x9b31m, cut letter \xe2\x82": "C1 as a byte: ?31m, cut letter ??",
    b"C1 too long: \xe0\x82\x9b and \xf0\x80\x82\x9b": "C1 too long: ??? and ????",
    "turned \u202egnp.exe\u2069 and a break\u2028here".encode(): r"turned \u202egnp.exe\u2069 and a break\u2028here",
    "unseen \u200b\ufeff\u061c".encode(): r"unseen \u200b\ufeff\u061c",
    "模型 été Ωmega 🙂 ﷽ 한국어 \u0080".encode(): r"模型 été Ωmega 🙂 ﷽ 한국어 \u0080",
    b"marks of our own: \x01 \x02": r"marks of our own: \u0001 \u0002",
}


@pytest.fixture(params=["sed", "busybox"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH whose sed is this one."""
    (tmp_path / "sed").symlink_to(shutil.which(request.param) or request.param)
    return str(tmp_path)


def shell(script: str, *arguments: bytes | str, path: str | None = None, data: bytes = b"") -> tuple[bytes, bytes]:
    """stdout and stderr of a script that has read core/common.sh, and whose PATH is `path` from then on."""
    text = f". '{COMMON}'; {f'PATH={path}; ' if path else ''}{script}"
    done = subprocess.run(["bash", "-c", text, "bash", *arguments], input=data, capture_output=True, check=True)
    return done.stdout, done.stderr


def test_controls_are_shown_as_their_numbers(path: str) -> None:
    said, _ = shell("reveal_controls", path=path, data=b"\n".join(TEXTS) + b"\n")
    assert said.decode().split("\n")[:-1] == list(TEXTS.values())


@pytest.mark.parametrize("how", ["say", "step", "warn", "indented '| '", "die 3", "die 3 'what is wrong'"])
def test_every_message_goes_through_it(how: str) -> None:
    said = subprocess.run(
        ["bash", "-c", f". '{COMMON}'; {how} \"$1\"", "bash", b"one \x1b[31m\ntwo \xc2\x9bm"],
        capture_output=True,
        check=False,
    ).stderr.decode()
    assert r"one \u001b[31m" in said and r"two \u009bm" in said


def test_a_text_keeps_its_meaning_in_json() -> None:
    text = 'quote " back \\ tab \t line \n escape \x1b C1 \x9b turn \u202e 模型'
    said, _ = shell('json "$1"; printf %s "$REPLY"', text)
    assert json.loads(said) == text and not re.search("[\x00-\x1f\x80-\x9f\u202e]", said.decode())
    said, _ = shell('json "$1"; printf %s "$REPLY"', b"no UTF-8: \xff\x9b")
    assert json.loads(said) == "no UTF-8: ??"


def test_a_line_is_shown_when_it_comes() -> None:
    """Not when a buffer is full: logs are followed through it."""
    script = f". '{COMMON}'; reveal_controls"
    with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin and process.stdout
        process.stdin.write(b"first \x1b\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"first \\u001b\n"
        process.stdin.close()
