"""YAML text to a checked record, with errors that name file, line and field.

Rules: every mistake in a document is reported, each in one line; an unknown key gets the nearest known one as a
suggestion; a key given twice is a mistake; the text itself is read by the one reader of YAML (``runtime.settings.yaml_text``).
"""

from __future__ import annotations

import difflib
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.runtime.settings.yaml_text import Document, YamlError, parse_yaml, position

Record = TypeVar("Record", bound=BaseModel)


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
        raise SpecError(error.what, where=f"{name}, line {error.line}" if error.line else name) from error
    if not isinstance(document.value, dict):
        raise SpecError("empty, or not a mapping of keys", where=name, remedy="'offline-kit init' writes an example")
    mistakes = [f", line {line}: '{path[-1]}' is given twice" for line, path in document.twice]
    try:
        record = kind.model_validate(document.value)
    except ValidationError as error:
        mistakes += [_explain(item, kind, document) for item in error.errors()]
    if mistakes:
        raise SpecError("\n".join(f"{name}{mistake}" for mistake in mistakes))
    return record


def _explain(item: Any, kind: type[BaseModel], document: Document) -> str:
    location = tuple(part for part in item["loc"] if part != "[key]")
    field = ".".join(str(part) for part in location)
    where = f", line {position(document, location)}: {field}: "
    if item["type"] == "missing":
        return where + "is required"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), _fields_at(kind, location[:-1]), n=1, cutoff=0.5)
        return where + "unknown key" + (f" -> did you mean '{near[0]}'?" if near else "")
    return where + str(item["msg"]).removeprefix("Value error, ")


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
