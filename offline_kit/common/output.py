"""The one way out: every line on stdout and stderr is written here.

Rules: whatever is written passes ``redact.shown`` first, for much of it comes from hubs, registries and bundles (of a path that
goes into a pipe, secrets alone are taken out); a line is written whole, also by several threads; what the terminal's encoding
lacks is written as its number; JSON is ASCII, and so is harmless; words at the beginning of a line are coloured on terminals
alone, and not where NO_COLOR is set.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from typing import Any, TextIO

from offline_kit.common.redact import redact, redact_value, shown

_RED, _GREEN, _YELLOW = "1;31", "32", "33"
_COLOURS = {
    "offline-kit:": _RED, "Error:": _RED, "FAIL": _RED, "does not start": _RED,
    "warning:": _YELLOW, "note": _YELLOW, "may not start": _YELLOW,
    "ok": _GREEN, "starts": _GREEN,
}  # fmt: skip
_WORDS = re.compile("^(?:" + "|".join(map(re.escape, _COLOURS)) + r")(?![\w-])", re.MULTILINE)
_SAYING = threading.Lock()  # one line at a time, whole: a line and its end are two writes otherwise


def _coloured(stream: TextIO) -> bool:
    """Whether colours are wanted there (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def say(text: str) -> None:
    """A line of talk, on stderr."""
    _write(sys.stderr, shown(text))


def answer(text: object) -> None:
    """A line of the result, on stdout. A path goes into a pipe or a file as the bytes that it has: a program will use it."""
    stream = sys.stdout
    if isinstance(text, os.PathLike) and not stream.isatty():
        with _SAYING:
            stream.flush()
            stream.buffer.write(os.fsencode(redact(str(text))) + b"\n")
            stream.flush()
    else:
        _write(stream, shown(str(text)))


def answer_json(value: Any) -> None:
    """The result as JSON, on stdout."""
    _write(sys.stdout, json.dumps(redact_value(value), indent=2))


def say_json(value: Any) -> None:
    """One object of talk as a line of JSON, on stderr."""
    _write(sys.stderr, json.dumps(redact_value(value)))


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    if _coloured(stream):
        text = _WORDS.sub(lambda match: f"\x1b[{_COLOURS[match[0]]}m{match[0]}\x1b[0m", text)
    line = f"{text}\n".encode(encoding, "backslashreplace").decode(encoding)
    with _SAYING:
        stream.write(line)
        stream.flush()
