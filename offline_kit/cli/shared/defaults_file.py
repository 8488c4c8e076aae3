"""The file ``offline-kit.toml``: what options of commands are where nobody gives them.

Rules: it is the nearest one of the working directory and the folders above it, there but for those of other users; an option of
the command line wins, then a variable of the environment, then this file; paths in it are meant from its folder; only commands
that have such options read it; every mistake is one line with the key.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_kit.cli.shared.ownership import is_ours
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import DiskError, SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.common.redact import register_url
from offline_kit.runtime.settings.sizes import parse_bytes

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = "offline-kit.toml"
_BUILDING = ("lock", "build", "release", "rehearse", "context")
_STORING = (*_BUILDING, "plan", "init", "doctor", "store ls", "store verify", "store prune")
_FORMATS = ("text", "json")
_SHAPES = ("tar.gz", "tar.zst")
_MOST_JOBS = 64


@dataclass(frozen=True)
class Key:
    """One key: the parameter that it is the default of, of which commands, and what it takes."""

    parameter: str
    commands: tuple[str, ...]
    kind: str
    what: str


KEYS = {
    "manifest": Key("manifest", (*_BUILDING, "plan", "doctor"), "path", "the manifest to work from"),
    "store": Key("store", _STORING, "path", "folder that keeps blobs between builds"),
    "output": Key("output", ("build", "release", "doctor"), "path", "folder for bundles"),
    "policy": Key("policy", ("lock", "build", "release", "context"), "path", "the site's policy"),
    "format": Key("form", ("build", "release"), "shape", "tar.gz or tar.zst"),
    "jobs": Key("jobs", (*_BUILDING, "plan"), "count", f"transfers at once, 1 to {_MOST_JOBS}"),
    "limit-rate": Key("limit_rate", _BUILDING, "size", "most bytes a second, all transfers together"),
    "min-rate": Key("min_rate", _BUILDING, "size", "fewest bytes a second of a transfer; 0: any"),
    "registry-mirror": Key("mirrors", (*_BUILDING, "doctor"), "table", 'a table: "docker.io" = "mirror.example:5000"'),
    "log-format": Key("log_format", _BUILDING, "form", "text or json"),
}


@dataclass(frozen=True)
class Defaults:
    """What a file says: ``given`` by key as it stands there, ``options`` as click takes it: command -> parameter -> value."""

    path: Path
    given: Mapping[str, Any]
    options: Mapping[str, Any]


def reads_defaults(command: str) -> bool:
    """Whether options of ``command`` can be in the file."""
    return any(name.partition(" ")[0] == command for key in KEYS.values() for name in key.commands)


def find_defaults() -> Path | None:
    """The file that is meant here; none where the working directory is gone, or a folder may not be looked into."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None
    there = (folder / FILE for folder in (here, *here.parents) if _is_file(folder / FILE))
    return next((path for path in there if path.parent == here or is_ours(path, here)), None)


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113  it never raises, as is_file does of a folder that may not be looked into


def read_defaults(path: Path) -> Defaults:
    """What the file at ``path`` says. Raises SpecError, DiskError."""
    try:
        given = tomllib.loads(read_plain_file(path, SMALL_DOCUMENT, follow=True).decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"not valid TOML: {error}", where=str(path), remedy='lines of KEY = "VALUE"') from error
    except RecursionError as error:
        raise SpecError("is nested too deeply", where=str(path), remedy='lines of KEY = "VALUE"') from error
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=str(path)) from error
    options: dict[str, Any] = {}
    for name, value in given.items():
        key = KEYS.get(name)
        if key is None:
            near = difflib.get_close_matches(name, KEYS, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(KEYS)}"
            raise SpecError(f"{name}: unknown key", where=str(path), remedy=remedy)
        taken = _value(value, key, path.parent)
        if taken is None:
            raise SpecError(f"{name}: {value!r} is not {_KINDS[key.kind]}", where=str(path), remedy=key.what)
        for command in key.commands:
            group, _, own = command.partition(" ")
            place = options.setdefault(group, {})
            (place.setdefault(own, {}) if own else place)[key.parameter] = taken
    return Defaults(path, given, options)


_KINDS = {
    "path": "a path, as text in quotes",
    "count": f"a whole number from 1 to {_MOST_JOBS}",
    "size": 'a size, such as "20MiB"',
    "table": "a table of hosts",
    "form": "one of " + ", ".join(_FORMATS),
    "shape": "one of " + ", ".join(_SHAPES),
}


def _value(value: Any, key: Key, folder: Path) -> Any:
    """The value as the option takes it; None where it is none."""
    if key.kind == "path":
        return _path(value, folder) if isinstance(value, str) and value and "\0" not in value else None
    if key.kind == "count":
        return value if type(value) is int and 1 <= value <= _MOST_JOBS else None
    if key.kind == "size":
        return _size(value)
    if key.kind == "table":
        return _pairs(value)
    known = _FORMATS if key.kind == "form" else _SHAPES
    return value if isinstance(value, str) and value in known else None


def _path(text: str, folder: Path) -> str:
    """From the folder of the file; relative where it lies below the working directory, as a person would write it."""
    whole = Path(os.path.normpath(folder / os.path.expanduser(text)))  # noqa: PTH111  leaves an unknown ~USER as it is
    here = Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _size(value: Any) -> str | None:
    try:
        return str(value) if type(value) in (int, str) and parse_bytes(value) >= 0 else None
    except ValueError:
        return None


def _pairs(value: Any) -> list[str] | None:
    """HOST=MIRROR, as the option takes them."""
    if not isinstance(value, dict) or not all(isinstance(mirror, str) and mirror for mirror in value.values()):
        return None
    for mirror in value.values():
        register_url(mirror)
    return [f"{host}={mirror}" for host, mirror in value.items()]
