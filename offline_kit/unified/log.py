"""The log of the unified image: lines on stdout, with who says them before.

Rules: engines write what clients and models make them write, and ``docker logs`` shows it as it is: what a terminal obeys, and
what hides or reorders text, is written as its number (as ``common.redact.escape`` does, which the image does not carry).
"""

from __future__ import annotations

import re
import sys

_CONTROL = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def escape(line: str) -> str:
    """``line`` as one harmless line."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), line)


def say(who: str, line: str) -> None:
    """One line of the log."""
    sys.stdout.write(f"[{who}] {escape(line)}\n")
    sys.stdout.flush()
