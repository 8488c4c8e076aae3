"""JSON on the host, read within limits: what a file may cost in memory and depth is decided here.

Rules: whatever is wrong is a JsonError, deep nesting, numbers of thousands of digits, NaN, lone surrogates and NUL included,
which would otherwise fail later and elsewhere. ``common.json_text`` does the same on the build machine for hubs and bundles.
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, List, Optional, Tuple

AT_MOST = 1 << 20  # characters of a file that a person writes
DEEPEST = 64
Pairs = List[Tuple[str, Any]]
_BAD = re.compile("[\x00\ud800-\udfff]")


class JsonError(ValueError):
    """What is wrong with a document, and where. ``line`` 0: in no one line."""

    def __init__(self, what: str, line: int = 0) -> None:
        self.what, self.line = what, line
        super().__init__(f"line {line}: {what}" if line else what)


def parse_json(
    text: str, pairs: Optional[Callable[[Pairs], Any]] = None, *, at_most: int = AT_MOST, infinite: bool = False
) -> Any:
    """The value of ``text``; ``pairs`` makes each object; ``infinite``: NaN and Infinity are numbers. Raises JsonError."""
    if len(text) > at_most:
        raise JsonError(f"has more than {at_most} characters")
    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=None if infinite else _refuse)
    except json.JSONDecodeError as error:
        raise JsonError(error.msg, error.lineno) from None
    except JsonError:
        raise
    except ValueError:
        raise JsonError("a number is too long") from None
    except RecursionError:
        raise JsonError(f"is nested more than {DEEPEST} deep") from None
    _check(value, DEEPEST)
    return value


def text_fault(text: str) -> Optional[str]:
    """What no program could be given: NUL, and half a character."""
    found = _BAD.search(text)
    return None if found is None else "holds a NUL character" if found.group() == "\0" else "holds half a character"


def _refuse(name: str) -> Any:
    raise JsonError(f"{name} is no number of JSON")


def _check(value: Any, depth: int) -> None:
    if not depth:
        raise JsonError(f"is nested more than {DEEPEST} deep")
    if isinstance(value, dict):
        for name, item in value.items():
            _check(name, depth)
            _check(item, depth - 1)
    elif isinstance(value, list):
        for item in value:
            _check(item, depth - 1)
    elif isinstance(value, str) and (fault := text_fault(value)):
        raise JsonError(f"a text {fault}")
