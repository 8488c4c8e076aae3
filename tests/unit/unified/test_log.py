"""What the log of the unified image shows of engines' lines."""

from __future__ import annotations

import sys

import pytest

from offline_kit.common import redact
from offline_kit.unified.log import escape, say


def test_it_is_harmless_as_all_else_is() -> None:
    """The image carries no ``common``: two functions, one rule."""
    text = "".join(map(chr, range(sys.maxunicode + 1)))
    assert escape(text) == redact.escape(text).replace("\n", "\\n")


def test_a_line_of_an_engine_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("chat", "a prompt: \x1b]0;owned\x07\x1b[2J\u202e\u00a0\t\u4f60\n[router] forged \x9b31m")
    assert capsys.readouterr().out == (
        "[chat] a prompt: \\x1b]0;owned\\x07\\x1b[2J\\u202e\u00a0\t\u4f60\\n[router] forged \\x9b31m\n"
    )
