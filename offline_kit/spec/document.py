"""YAML text to a checked record, with errors that name file, line and field.

Rules: every mistake in a document is reported, each in one line; an unknown key gets the nearest known one as a
suggestion; a key given twice is a mistake; the text itself is read by the one reader of YAML (``runtime.settings.yaml_text``).
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.runtime.settings.yaml_text import Document, YamlError, parse_yaml, position
from offline_kit.spec.names import KEY

Record = TypeVar("Record", bound=BaseModel)
_FIRST_FIELDS = {"Target": "gpus", "ModelSpec": "source", "ImageSpec": "source", "FileSpec": "source"}  # by kind of record
_YAML_REMEDIES = (
    (r"\\t", "blanks instead of tabs, as many as in the lines beside it"),
    (
        r"block|indent|mapping values",
        "indent it as the lines beside it, with blanks; text with ': ' or '#' in it stands in quotes",
    ),
)


class Frozen(BaseModel):
    """Base of all records: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def decode_text(content: bytes, name: str) -> str:
    """``content`` as text. Raises SpecError where it is no UTF-8: what is named in another encoding would become another."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise SpecError("is not UTF-8 text", where=f"{name}, line {line}", remedy="save it as UTF-8") from error


def parse(text: str, kind: type[Record], name: str) -> Record:
    """The record of type ``kind`` in YAML ``text``; ``name`` is shown in errors. Raises SpecError with every mistake found."""
    try:
        document = parse_yaml(text)
    except YamlError as error:
        remedy = next((remedy for words, remedy in _YAML_REMEDIES if re.search(words, error.what)), "")
        raise SpecError(error.what, where=f"{name}, line {error.line}" if error.line else name, remedy=remedy) from error
    if not isinstance(document.value, dict):
        raise SpecError("empty, or not a mapping of keys", where=name, remedy="'offline-kit init' writes an example")
    mistakes = [f", line {line}: '{path[-1]}' is given twice" for line, path in document.twice]
    try:
        record = kind.model_validate(document.value)
    except ValidationError as error:
        mistakes += [_explain(item, kind, document) for item in error.errors()]
    if mistakes:
        head = f"{len(mistakes)} mistakes in {name}:\n" if len(mistakes) > 1 else ""
        raise SpecError(head + "\n".join(f"{name}{mistake}" for mistake in mistakes))
    return record


def _explain(item: Any, kind: type[BaseModel], document: Document) -> str:
    location = tuple(part for part in item["loc"] if part != "[key]")
    field = ".".join(str(part) for part in location)
    if not location and item["type"] == "value_error":  # the message names the field itself
        words = str(item["msg"]).removeprefix("Value error, ")
        return f", line {position(document, (words.partition(':')[0],))}: {words}"
    where = f", line {position(document, location)}: {field}: "
    if item["type"] == "missing":
        return where + "is required"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _fields_at(kind, location[:-1]), n=1, cutoff=0.5)
        return where + "unknown key" + (f" -> did you mean '{near[0]}'?" if near else "")
    return where + (_plain_text(item) or str(item["msg"]).removeprefix("Value error, "))


def _plain_text(item: Any) -> str:
    """What the validator would say of values of the wrong form, as a person writes it; empty where it says it well itself."""
    kind, value, context = item["type"], item["input"], item.get("ctx", {})
    shown = json.dumps(value, ensure_ascii=False, default=str)[:100]
    if kind == "string_pattern_mismatch" and context.get("pattern") == KEY:
        return f"{shown}: lower case letters and digits, with . _ or - between them"
    if kind in ("tuple_type", "list_type"):
        return "must be a list" + (f", such as [{shown}]" if isinstance(value, str) else "")
    if kind in ("model_type", "dict_type"):
        field = _FIRST_FIELDS.get(str(context.get("class_name")))
        return "must be a mapping" + (f", such as {{{field}: {shown}}}" if field and isinstance(value, str) else "")
    if kind == "string_type":
        return "must be text" + (f"; write {shown} in quotes" if isinstance(value, int | float) else "")
    return f"{shown} is not one of {context.get('expected')}" if kind == "literal_error" else ""


def _fields_at(kind: Any, path: tuple[Any, ...]) -> list[str]:
    """The names of the fields that the record at ``path`` below ``kind`` knows."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        inner = [arg for arg in get_args(kind) if arg is not type(None)]
        return _fields_at(inner[-1], path[1:] if path and not _is_optional(kind) else path) if inner else []
    if not path:
        return [field.alias or name for name, field in kind.model_fields.items()]
    for name, field in kind.model_fields.items():
        if path[0] in (name, field.alias):
            return _fields_at(field.annotation, path[1:])
    return []


def _is_optional(kind: Any) -> bool:
    return type(None) in get_args(kind)


def from_json(data: bytes, kind: type[Record]) -> Record:
    """The record of type ``kind`` in a small JSON document. Raises ValueError in one line."""
    try:
        return kind.model_validate(parse_json(data, SMALL_DOCUMENT))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error
