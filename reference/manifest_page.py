"""docs/manifest-reference.md: every field of a manifest with its type, default, example and meaning.

Rules: all of it is the JSON Schema that the program reads manifests by; an example is one that the program accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from offline_kit.spec.manifest import Manifest

_HEAD = """\
# Manifest reference

Made from the program by `make reference`. [models.md](models.md) explains models, [policy.md](policy.md) policies and scanners.
An editor completes and checks a manifest that begins with `# yaml-language-server: $schema=manifest.schema.json`
(`offline-kit schema` writes that file). Fields in bold are required.
"""
_TYPES = {"string": "text", "boolean": "true or false", "integer": "whole number", "array": "list", "object": "mapping"}


def manifest_page() -> str:
    """The page."""
    schema = Manifest.model_json_schema()
    named = schema["$defs"]
    lines = [_HEAD, "## The manifest", "", *_table(schema, named)]
    for name, definition in sorted(named.items(), key=lambda item: _ORDER.index(item[0])):
        lines += ["", f"## {_TITLES[name]}", "", definition["description"].replace("``", "`"), ""]
        lines += _table(definition, named)
    return "\n".join(lines) + "\n"


_TITLES = {
    "ImageSpec": "An image: `images.KEY`",
    "ModelSpec": "A model: `models.KEY`",
    "FileSpec": "A file: `files.PATH`, `models.KEY.add.PATH`, `models.KEY.chat_template`",
    "Target": "The host: `target`",
    "Policy": "Rules: `policy`, and the file of `--policy`",
    "Scanner": "A scanner: one of the list `scan`",
}
_ORDER = list(_TITLES)


def _table(definition: dict[str, Any], named: dict[str, Any]) -> Iterator[str]:
    required = definition.get("required", [])
    yield "| field | type | default | example | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for name, field in definition["properties"].items():
        shown = f"**`{name}`**" if name in required else f"`{name}`"
        default = "" if name in required or field.get("default") in (None, [], {}) else f"`{_yaml(field['default'])}`"
        example = f"`{_yaml(field['examples'][0])}`"
        yield f"| {shown} | {_type(field, named)} | {default} | {example} | {field['description']} |"


def _type(field: dict[str, Any], named: dict[str, Any]) -> str:
    if choices := [item for item in field.get("anyOf", []) if item.get("type") != "null"]:
        return _type(choices[0], named)
    if "$ref" in field:
        return f"mapping, see {_TITLES[field['$ref'].rpartition('/')[2]].partition(':')[0].lower()}"
    if fixed := field.get("enum", [field["const"]] if "const" in field else []):
        return " or ".join(f"`{item}`" for item in fixed)
    kind = "day" if field.get("format") == "date" else _TYPES[field["type"]]
    if field["type"] == "array":
        kind = f"list of {_type(field['items'], named)}".replace("list of mapping, see a scanner", "list of scanners")
    limits = [field[name] for name in ("minimum", "maximum") if name in field]
    return f"{kind}, {' to '.join(map(str, limits))}{'' if 'maximum' in field else ' or more'}" if limits else kind


def _yaml(value: Any) -> str:
    """The value in one line, as it may stand in a manifest."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
