"""YAML text to a checked record, with errors that name file, line and field.

Rules: every mistake in a document is reported, each in one line; an unknown key gets the nearest known one as a
suggestion; a key given twice is a mistake; nothing in a document is ever executed (safe loader).
"""

from __future__ import annotations

import difflib
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from offline_kit.errors import SpecError

Record = TypeVar("Record", bound=BaseModel)
Path = tuple[str | int, ...]


class Frozen(BaseModel):
    """Base of all records: immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse(text: str, kind: type[Record], name: str) -> Record:
    """The record of type ``kind`` in YAML ``text``; ``name`` is shown in errors. Raises SpecError with every mistake found."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or "not valid YAML"
        where = f"{name}, line {mark.line + 1}" if mark is not None else name
        raise SpecError(f"not valid YAML: {problem}", where=where) from error
    if not isinstance(data, dict):
        raise SpecError("empty, or not a mapping of keys", where=name, remedy="'offline-kit init' writes an example")
    lines: dict[Path, int] = {}
    mistakes = _walk(node, (), lines)
    try:
        record = kind.model_validate(data)
    except ValidationError as error:
        mistakes += [_explain(item, kind, lines) for item in error.errors()]
    if mistakes:
        raise SpecError("\n".join(f"{name}{mistake}" for mistake in mistakes))
    return record


def _walk(node: Any, path: Path, lines: dict[Path, int]) -> list[str]:
    """Notes the line of every key in ``lines``; returns the mistakes that the safe loader hides (keys given twice)."""
    mistakes: list[str] = []
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*path, str(key.value))
            if inner in lines:
                mistakes.append(f", line {key.start_mark.line + 1}: '{key.value}' is given twice")
            lines[inner] = key.start_mark.line + 1
            mistakes += _walk(value, inner, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            mistakes += _walk(value, (*path, index), lines)
    return mistakes


def _explain(item: Any, kind: type[BaseModel], lines: dict[Path, int]) -> str:
    location = tuple(part for part in item["loc"] if part != "[key]")
    known = location
    while known not in lines and known:
        known = known[:-1]
    field = ".".join(str(part) for part in location)
    where = f", line {lines.get(known, 1)}: {field}: "
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
