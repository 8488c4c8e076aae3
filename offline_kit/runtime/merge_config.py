"""An operator's edits carried into the configuration of a new version: three-way, value by value.

Rules: what the operator changed stays, what only the new version changed is taken, and where both changed the same value the
operator's is used and the conflict is reported; a file whose values end as one side has them keeps that side's bytes, comments
included; files that are neither JSON nor YAML with fields are carried whole. Nothing is written: the answer on stdout says for
each file whose it is, and has the text of those that are of both; the host takes them (scripts/lib/verbs/receive.sh).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import yaml

from .settings.json_text import parse_json
from .settings.yaml_text import YamlError, parse_yaml

_ABSENT: Any = object()


def merge(orig: Any, mine: Any, new: Any, where: str, conflicts: List[str]) -> Any:
    """The value that a new version begins with; each conflict adds a line to ``conflicts``."""
    if _same(mine, orig):
        return new
    if _same(new, orig) or _same(mine, new):
        return mine
    if isinstance(mine, dict) and isinstance(new, dict):
        before = orig if isinstance(orig, dict) else {}
        merged = {}
        for key in [*new, *(key for key in mine if key not in new)]:
            place = f"{where}.{key}" if where else str(key)
            value = merge(before.get(key, _ABSENT), mine.get(key, _ABSENT), new.get(key, _ABSENT), place, conflicts)
            if value is not _ABSENT:
                merged[key] = value
        return merged
    conflicts.append(f"{where}: yours is used ({_shown(mine)}); the new default is {_shown(new)}")
    return mine


def carry(name: str, orig: Optional[bytes], mine: Optional[bytes], new: Optional[bytes]) -> Tuple[Optional[bytes], List[str]]:
    """The content of the file ``name`` in the new version (None: there is none), and the conflicts in it. Raises ValueError."""
    if mine == orig or new in (orig, mine):
        return (new if mine == orig else mine), []
    conflicts: List[str] = []
    if mine is None or new is None:
        gone, other = ("you removed it", "changed it") if mine is None else ("you changed it", "no longer has it")
        return mine, [f"{gone}, the new version {other}: as you have it"]
    values = [_parse(name, side) for side in (orig or b"", mine, new)]
    if not isinstance(values[1], dict) or not isinstance(values[2], dict):
        return mine, ["both changed it: yours is used"]
    value = merge(values[0], values[1], values[2], "", conflicts)
    for side, content in ((values[1], mine), (values[2], new)):
        if _same(value, side):
            return content, conflicts
    if name.endswith(".json"):
        return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n", conflicts
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text.encode(), conflicts


def tree(folder: Path) -> Dict[str, bytes]:
    """Every file below ``folder``: path -> content. Raises OSError."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def document(orig: Dict[str, bytes], mine: Dict[str, bytes], new: Dict[str, bytes]) -> bytes:
    """The answer: ``NEW NAME`` and ``MINE NAME`` for files of one side, ``MERGED LINES NAME`` and the text for those of both,
    ``CONFLICT NAME`` for each to look at, ``TELL TEXT`` for people. Raises ValueError, which names the file."""
    lines = [b"offline-kit-config 1"]
    for name in sorted({*orig, *mine, *new}):
        path = os.fsencode(name)
        try:
            if b"\n" in path:
                raise ValueError("its name has a line break")
            content, conflicts = carry(name, *(side.get(name) for side in (orig, mine, new)))
        except ValueError as error:
            raise ValueError(f"config/{name}: cannot be read: {' '.join(str(error).split())}") from error
        if content is not None and content in (new.get(name), mine.get(name)):
            lines.append((b"NEW " if content == new.get(name) else b"MINE ") + path)
        elif content is not None:
            lines += [b"MERGED %d %s" % (content.count(b"\n"), path), content[:-1]]
        told = [f"CONFLICT config/{name}: {conflict}" for conflict in conflicts]
        if content != new.get(name):
            told.insert(
                0, f"config/{name}: {'as you had it' if content == mine.get(name) else 'your edits and the new defaults'}"
            )
        lines += [b"TELL " + " ".join(line.split("\n")).encode("utf-8", "surrogateescape") for line in told]
        lines += [b"CONFLICT " + path] if conflicts else []
    return b"\n".join([*lines, b"END", b""])


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.merge_config", description="Carry edits over to a new version.")
    parser.add_argument("--kit", type=Path, metavar="DIR", help="the new kit as mounted; nothing in it is needed")
    for option, meaning in (("orig", "as the old version brought it"), ("mine", "as the operator has it"), ("new", "the new")):
        parser.add_argument(f"--{option}", required=True, type=Path, metavar="DIR", help=f"config/ {meaning}")
    options = parser.parse_args(arguments)
    try:
        answer = document(tree(options.orig), tree(options.mine), tree(options.new))
    except ValueError as error:
        print(error, file=sys.stderr)
        return 3
    sys.stdout.buffer.write(answer)
    return 0


def _same(one: Any, other: Any) -> bool:
    # True == 1 in Python, and not in a configuration.
    if one is _ABSENT or other is _ABSENT:
        return one is other
    return json.dumps(one, default=str) == json.dumps(other, default=str)


def _parse(name: str, content: bytes) -> Any:
    """The value of a JSON or YAML file, None for any other. Raises ValueError."""
    if name.endswith(".json"):
        return parse_json(content.decode("utf-8") or "{}")
    if name.endswith((".yaml", ".yml")):
        document = parse_yaml(content.decode("utf-8"))
        for line, path in document.twice:
            raise YamlError(f"{'.'.join(map(str, path))} is given twice", line)
        return document.value or {}
    return None


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False, default=str)[:80]


if __name__ == "__main__":
    sys.exit(main())
