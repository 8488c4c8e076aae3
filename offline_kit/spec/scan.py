"""Scanners of a manifest, and the record of what they said that a bundle carries.

Rules: pure; an exit code that the manifest does not name is a failure of the scanner, never "clean"; a record belongs to one
lock, whose digest it names, and has one line for every file of the payload and scanner; no time and no machine is in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from offline_kit.common.digest import Digest
from offline_kit.runtime.settings.sizes import parse_bytes
from offline_kit.spec.document import Frozen, from_json
from offline_kit.spec.names import KEY, KEY_AT_MOST, plain_text, safe_path

RECORD = "evidence/scan.json"
PICKLES = "picklescan"  # what always reads pickles; no scanner of a manifest may have its name
CLEAN = "clean"
FOLDER, FILE = "{path}", "{file}"


class Scanner(Frozen):
    """A program that looks at the payload before it is packed."""

    name: str = Field(pattern=KEY, max_length=KEY_AT_MOST, description="what the record calls it", examples=["clamav"])
    command: tuple[str, ...] = Field(
        min_length=1,
        description="program and arguments; {path}: one run over a folder of all files, {file}: a run for each",
        examples=[["clamscan", "--recursive", "{path}"]],
    )
    clean: tuple[int, ...] = Field(
        default=(0,), min_length=1, description="exit codes that mean: nothing found", examples=[[0]]
    )
    finding: tuple[int, ...] = Field(
        default=(1,), min_length=1, description="exit codes that mean: found something", examples=[[1]]
    )
    engine: tuple[str, ...] = Field(
        default=(),
        description="a command that prints its version and the date of its database",
        examples=[["clamscan", "--version"]],
    )
    largest: int | None = Field(
        default=None, ge=1, description="files above this size are not given to it: 2000MiB", examples=["2000MiB"]
    )
    timeout: int = Field(default=14400, ge=1, le=604800, description="seconds that one run may take", examples=[3600])

    @field_validator("largest", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator("command", "engine")
    @classmethod
    def _words(cls, command: Sequence[str]) -> Sequence[str]:
        if any("\0" in word for word in command) or not all(command[:1]):
            raise ValueError("a program and its arguments, without NUL")
        return command

    @model_validator(mode="after")
    def _whole(self) -> Scanner:
        text = " ".join(self.command[1:])
        if text.count(FOLDER) + text.count(FILE) != 1:
            raise ValueError(f"command: one argument holds {FOLDER} (one run over all files) or {FILE} (a run for each)")
        if both := set(self.clean) & set(self.finding):
            raise ValueError(f"{sorted(both)[0]} cannot mean both clean and finding")
        if self.name == PICKLES:
            raise ValueError(f"{PICKLES} is what offline-kit reads pickles with: choose another name")
        return self

    @property
    def each(self) -> bool:
        """Whether it is run for each file."""
        return any(FILE in word for word in self.command)

    def command_for(self, path: str) -> list[str]:
        """The command on this file or folder."""
        return [self.command[0], *(word.replace(FOLDER, path).replace(FILE, path) for word in self.command[1:])]


class ScanRecord(Frozen):
    """What scanners said of every file. ``lock``: digest of lock.json; ``scanners``: name -> engine and date of its database;
    ``files``: path in the kit -> name of a scanner -> its verdict."""

    format: Literal[1] = 1
    lock: Digest
    scanners: dict[str, str]
    files: dict[str, dict[str, str]]

    @field_validator("files")
    @classmethod
    def _safe(cls, files: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for path, verdicts in files.items():
            safe_path(path)
            for verdict in verdicts.values():
                plain_text(verdict)
        return files

    @field_validator("scanners")
    @classmethod
    def _plain(cls, scanners: dict[str, str]) -> dict[str, str]:
        for name, engine in scanners.items():
            if not re.fullmatch(KEY, name):
                raise ValueError(f"not a name of a scanner: {name!r}")
            plain_text(engine)
        return scanners

    def counts(self, scanner: str) -> dict[str, int]:
        """How many files have which verdict of this scanner."""
        found: dict[str, int] = {}
        for verdicts in self.files.values():
            if scanner in verdicts:
                found[verdicts[scanner]] = found.get(verdicts[scanner], 0) + 1
        return found


def parse_record(data: bytes) -> ScanRecord:
    """The record in ``data``. Raises ValueError in one line."""
    return from_json(data, ScanRecord)
