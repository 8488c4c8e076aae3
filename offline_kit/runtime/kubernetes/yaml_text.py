"""Objects as YAML that people read: a list and a key each on a line of its own, texts of several lines as they are.

Rules: the same data gives the same text, keys in the order given; whatever a reader of YAML 1.1 or 1.2 could take for something
other than a text is quoted; ASCII but for texts of several lines that are shown as they are. Pure, standard library only.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, Iterable, List

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def documents(objects: Iterable[Dict[str, Any]]) -> str:
    """The objects, one document each."""
    return "---\n".join(document(item) for item in objects)


def document(data: Dict[str, Any]) -> str:
    """One object as YAML."""
    return "".join(f"{line}\n" for line in _object(data, ""))


def _object(data: Dict[str, Any], indent: str) -> List[str]:
    lines: List[str] = []
    for key, value in data.items():
        name = f"{indent}{_scalar(key)}:"
        if isinstance(value, (dict, list)) and value:
            lines += [name, *(_object(value, f"{indent}  ") if isinstance(value, dict) else _list(value, indent))]
        else:
            first, *rest = _value(value, indent)
            lines += [f"{name} {first}", *rest]
    return lines


def _list(items: List[Any], indent: str) -> List[str]:
    lines: List[str] = []
    for item in items:
        if isinstance(item, dict) and item:
            inner = _object(item, f"{indent}  ")
            lines += [f"{indent}- {inner[0].lstrip()}", *inner[1:]]
        elif isinstance(item, list) and item:
            lines += [f"{indent}-", *_list(item, f"{indent}  ")]
        else:
            first, *rest = _value(item, indent)
            lines += [f"{indent}- {first}", *rest]
    return lines


def _value(value: Any, indent: str) -> List[str]:
    """The first line, which stands behind a key or a dash, and the others."""
    if not isinstance(value, str):
        return [json.dumps(value)]
    if _shows_as_it_is(value):
        return ["|", *(f"{indent}  {line}" if line else "" for line in value[:-1].split("\n"))]
    return [_scalar(value)]


def _shows_as_it_is(text: str) -> bool:
    """A text of lines that all end, with nothing that YAML would read in another way."""
    inside = text[:-1]
    plain = all(char.isprintable() or char in "\n\t" for char in inside) and "\ufeff" not in inside
    return text.endswith("\n") and "\n" in inside and inside[0] not in " \n\t" and inside[-1] != "\n" and plain


def _scalar(text: str) -> str:
    plain = _PLAIN.fullmatch(text) is not None and text.lower() not in _WORDS
    return text if plain else _quoted(text)


def _quoted(text: str) -> str:
    """As JSON writes it, but for characters beyond 16 bits: a pair of surrogates is two characters to YAML."""
    return '"' + "".join(json.dumps(char)[1:-1] if ord(char) < 0x10000 else f"\\U{ord(char):08x}" for char in text) + '"'
