"""A bundle in parts: their names, NAME-VERSION.parts.json beside them, and finding all of them from any one.

Rules: the parts, put together in the order of their names, are the bundle, byte for byte: ``cat`` of exactly these reads them;
``.parts.json`` and ``.sha256`` of NAME-VERSION are not matched by ``NAME-*.tar.gz.*``; a part that is missing, cut or too many
is named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from offline_kit.bundle.format.report import Finding
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.common.json_text import parse_json
from offline_kit.spec.document import Frozen
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import safe_path

_PART = re.compile(r"(?P<whole>[^/]+)\.(?P<number>[0-9]{3,4})")
_JSON, _SUMS = ".parts.json", ".sha256"
_SUFFIX = re.compile(r"\.tar\.[a-z0-9]+\Z")  # of any compression
_JSON_AT_MOST = 4 << 20
_NAME_AT_MOST = 240  # bytes; a suffix and the dot of a partial file still fit
SMALLEST = 1 << 20
MOST = 9999


class Part(Frozen):
    """One part: the name of its file, its bytes and their digest."""

    name: str
    size: int = Field(ge=0)
    sha256: Digest


class Volumes(Frozen):
    """What .parts.json says; ``name``, ``size`` and ``sha256`` are those of the whole."""

    parts_format: Literal[1] = 1
    name: str
    size: int = Field(ge=0)
    sha256: Digest
    parts: tuple[Part, ...] = Field(min_length=1, max_length=MOST)

    @model_validator(mode="after")
    def _consistent(self) -> Volumes:
        safe_path(self.name)
        if len(self.name.encode()) > _NAME_AT_MOST or self.size >= 1 << 63:
            raise ValueError("its name or size is none that a file can have")
        names = [
            part_name(self.name, number, len(self.parts[0].name) - len(self.name) - 1)
            for number in range(1, len(self.parts) + 1)
        ]
        if "/" in self.name or [part.name for part in self.parts] != names or not _PART.fullmatch(names[0]):
            raise ValueError("the parts are not named after the whole, numbered from 1 on")
        if sum(part.size for part in self.parts) != self.size:
            raise ValueError("the sizes of the parts do not add up to that of the whole")
        return self

    def text(self) -> str:
        return canonical(self.model_dump(mode="json"))


@dataclass(frozen=True)
class LocatedBundle:
    """The files of one bundle. ``findings``: parts that are missing, of another size, or too many."""

    name: str
    files: tuple[Path, ...]
    volumes: Volumes | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def in_parts(self) -> bool:
        return self.volumes is not None or bool(_PART.fullmatch(self.files[0].name))


def part_name(name: str, number: int, digits: int) -> str:
    return f"{name}.{number:0{digits}}"


def digits_for(size: int, split: int) -> int:
    """How many digits the names need. Raises SpecError for parts too small or too many."""
    if split < SMALLEST or size > split * MOST:
        raise SpecError(f"parts of {split} bytes: at least {SMALLEST}, and at most {MOST} parts", remedy="choose a larger size")
    return 3 if size <= split * 999 else 4  # one width, so that the names sort as the parts follow


def json_name(name: str) -> str:
    """The name of the .parts.json of the bundle ``name``."""
    return _stem(name) + _JSON


def sums_name(name: str) -> str:
    """The name of the list, in the form of ``sha256sum``, of the file or the parts of the bundle ``name``."""
    return _stem(name) + _SUMS


def read_sums(located: LocatedBundle) -> dict[str, str]:
    """What the .sha256 beside the bundle says, by name: sums taken while its files were written. Raises OSError."""
    listing = located.files[0].with_name(sums_name(located.name))
    lines = read_plain_file(listing, _JSON_AT_MOST, follow=True).decode("utf-8", "replace").splitlines()
    return {name: digest for digest, name in (line.split("  ", 1) for line in lines)}


def _stem(name: str) -> str:
    return _SUFFIX.sub("", name)


def parts_of(folder: Path, name: str) -> list[Path]:
    """Every file in ``folder`` that is named like a part of the bundle ``name``, in order."""
    matches = ((path, _PART.fullmatch(path.name)) for path in folder.iterdir())
    return sorted(path for path, match in matches if match and match["whole"] == name)


def taken_by_glob(folder: Path, name: str) -> list[str]:
    """The names in ``folder`` that the shell's ``name.*`` takes, whatever stands behind the dot."""
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(f"{name}."))


def shown(name: str) -> str:
    """A name from outside, fit for a terminal."""
    return name if name.isprintable() else ascii(name)


def locate(path: Path, *more: Path) -> LocatedBundle:
    """The bundle at ``path``: a file, its .parts.json, or one of its parts (``more``: others, of the same bundle).

    Raises BundleUnreadable (nothing there, files of two bundles), BundleDamaged (an unreadable .parts.json), OSError.
    """
    if path.name.endswith(_JSON):
        found = _by_json(path)
    elif match := _PART.fullmatch(path.name):
        beside = path.with_name(json_name(match["whole"]))
        found = _by_json(beside) if beside.exists() else _by_names(path.parent, match["whole"])
    else:
        found = LocatedBundle(path.name, (path,))
    known = {file.name for file in found.files} | {finding.where for finding in found.findings} | {json_name(found.name)}
    for other in more:
        if other.name not in known or other.parent.resolve() != path.parent.resolve():
            raise BundleUnreadable(
                f"is no part of the bundle that {path} belongs to", where=str(other), remedy="one bundle at a time"
            )
    return found


def _by_json(path: Path) -> LocatedBundle:
    text = read_plain_file(path, _JSON_AT_MOST, follow=True)
    try:
        volumes = Volumes.model_validate(parse_json(text, _JSON_AT_MOST))
    except ValidationError as error:
        raise BundleDamaged(error.errors()[0]["msg"], where=str(path)) from error
    except ValueError as error:
        raise BundleDamaged(f"is not valid JSON: {error}", where=str(path)) from error
    findings = []
    if path.name != json_name(volumes.name):
        findings.append(Finding(path.name, f"is the .parts.json of {volumes.name}: it was renamed"))
    for part in volumes.parts:
        try:
            size = path.with_name(part.name).stat().st_size
        except FileNotFoundError:
            findings.append(Finding(part.name, "is missing"))
            continue
        if size != part.size:
            findings.append(Finding(part.name, f"has {size} bytes instead of {part.size}"))
    names = [part.name for part in volumes.parts]
    extra = [name for name in taken_by_glob(path.parent, volumes.name) if name not in names]
    findings += [Finding(shown(name), f"is extra: {path.name} does not name it, but 'cat' would take it") for name in extra]
    files = tuple(path.with_name(name) for name in names if path.with_name(name).exists())
    return LocatedBundle(volumes.name, files, volumes, tuple(findings))


def _by_names(folder: Path, name: str) -> LocatedBundle:
    """Without a .parts.json: every number up to the highest; whether the last one is there, the bundle's end mark tells."""
    files = parts_of(folder, name)
    if not files:
        raise BundleUnreadable("no such file or folder", where=str(folder / f"{name}.001"))
    digits = len(files[0].name) - len(name) - 1
    last = int(files[-1].name.rpartition(".")[2])
    there = {file.name for file in files}
    wanted = [part_name(name, number, digits) for number in range(1, last + 1)]
    findings = [Finding(part, "is missing") for part in wanted if part not in there]
    extra = [part for part in taken_by_glob(folder, name) if part not in wanted]
    findings += [
        Finding(shown(part), "is extra: it is not numbered as the parts are, but 'cat' would take it") for part in extra
    ]
    return LocatedBundle(name, tuple(files), None, tuple(findings))


def check(volumes: Volumes, whole: Digest, each: Sequence[Digest]) -> list[Finding]:
    """Which parts are not those of ``volumes``, by the digests of their bytes and of all bytes."""
    pairs = zip(volumes.parts, each, strict=True)
    findings = [
        Finding(part.name, f"is changed: {digest} instead of {part.sha256}") for part, digest in pairs if digest != part.sha256
    ]
    if not findings and whole != volumes.sha256:
        findings.append(Finding(json_name(volumes.name), f"names another whole: {whole} instead of {volumes.sha256}"))
    return findings
