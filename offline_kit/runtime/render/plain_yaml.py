"""Data as YAML of the plainest form, so that a program without a YAML reader can read it line by line.

Rules: one key or one item a line, two spaces a level, items one level below their key; a text is always in double quotes, ASCII
only; a number and true or false are bare; an empty object is a key with nothing behind it; no anchors, tags, flow style or
folded lines. ``scripts/lib/services/compose_grammar.sh`` reads it. Pure.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List


def text(data: Dict[str, Any]) -> str:
    """The object ``data`` as YAML: objects, lists that are not empty, texts, whole numbers and booleans."""
    return "".join(f"{line}\n" for line in _object(data, ""))


def _object(data: Dict[str, Any], indent: str) -> List[str]:
    lines: List[str] = []
    for key, value in data.items():
        if isinstance(value, (dict, list)):
            lines += [f"{indent}{key}:", *_within(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(value)}")
    return lines


def _within(value: Any, indent: str) -> List[str]:
    if isinstance(value, dict):
        return _object(value, indent)
    lines: List[str] = []
    for item in value:
        if isinstance(item, dict):
            # The first key stands behind the dash, the others below it.
            inner = _object(item, f"{indent}  ")
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        else:
            lines.append(f"{indent}- {json.dumps(item)}")
    return lines
