"""JSON from outside, read within limits: what its sender may cost in memory is decided here.

Rules: the size and the number of values are bounded before anything is parsed; whatever is wrong is a ValueError, deep nesting,
numbers of thousands of digits and lone surrogates included, which would otherwise fail later and elsewhere.
"""

from __future__ import annotations

import json
import re
from typing import Any

AT_MOST = 8 << 20  # bytes of a document: a lock of over fifty thousand files
VALUES_AT_MOST = 1_000_000  # a list or an object costs some hundred bytes, however short its text is
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_json(data: bytes, at_most: int = AT_MOST) -> Any:
    """The value of the UTF-8 text ``data``. Raises ValueError that says what is wrong."""
    if len(data) > at_most:
        raise ValueError(f"has {len(data)} bytes, at most {at_most} are read")
    if sum(map(data.count, (b",", b"[", b"{"))) > VALUES_AT_MOST:
        raise ValueError(f"has more than {VALUES_AT_MOST} values")
    try:
        value = json.loads(data.decode("utf-8"))
        if _SURROGATE.search(data):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg}") from None
    except UnicodeError:
        raise ValueError("is not UTF-8, or holds half a character") from None
    except (ValueError, RecursionError):
        raise ValueError("is nested too deeply, or holds a number too long") from None
    return value
