"""``releases.json``: the releases that lie in a folder, oldest first.

Rules: a release is in it only when all of its files are there and proven; it is replaced whole; what it names are files of its
own folder. Nothing is read from it that a signature should vouch for: it is a list for people and schedulers.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.common.files import disk_errors, read_plain_file, replace_file
from offline_kit.common.json_text import parse_json
from offline_kit.spec.document import Frozen
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import VERSION

NAME = "releases.json"


class Release(Frozen):
    """One release. ``content``: digest of all that is in it but its version; ``base``: the version that a delta needs."""

    version: str
    made: str = Field(description="UTC, ISO 8601")
    content: Digest
    lock: Digest
    fingerprint: str
    file: str = Field(description="what to hand on: the bundle, or the .parts.json of its parts")
    files: tuple[str, ...] = Field(description="every file of the release, all in this folder")
    size: int = Field(ge=0, description="bytes of the bundle, all parts together")
    sha256: dict[str, str] = Field(description="file or part -> its digest")
    base: str | None = None
    signed_by: str | None = Field(default=None, description="the key's id")
    changes: tuple[str, ...] = Field(default=(), description="against the release before, a line each")

    @field_validator("version")
    @classmethod
    def _is_version(cls, text: str) -> str:
        if not VERSION.fullmatch(text):
            raise ValueError("not a version")
        return text

    @model_validator(mode="after")
    def _in_this_folder(self) -> Release:
        check_names((self.file, *self.files, *self.sha256))
        return self


def check_names(names: Iterable[str]) -> None:
    """Raises ValueError where one of these is not the name of a file in the folder of the index."""
    for name in names:
        if "/" in name or "\0" in name or name in ("", ".", ".."):
            raise ValueError(f"not the name of a file of this folder: {name!r}")


class Releases(Frozen):
    """All that are there, and the versions that were (``pruned``): none is given twice.

    ``removing``: files of pruned releases; a run that was cut off may have left them, and the next one removes them.
    """

    releases_format: Literal[1] = 1
    name: str
    releases: tuple[Release, ...] = ()
    pruned: tuple[str, ...] = ()
    removing: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _removes_only_here(self) -> Releases:
        check_names(self.removing)
        return self

    @property
    def last(self) -> Release | None:
        return self.releases[-1] if self.releases else None

    @property
    def versions(self) -> tuple[str, ...]:
        """Of every release that ever was."""
        return (*self.pruned, *(release.version for release in self.releases))

    @property
    def files(self) -> frozenset[str]:
        """Of every release that is there."""
        return frozenset(name for release in self.releases for name in release.files)

    def since_full(self) -> int:
        """How many releases came after the last one that needs no other."""
        bases = [release.base for release in self.releases]
        return next((number for number, base in enumerate(reversed(bases)) if base is None), len(bases))


def read_index(folder: Path, name: str) -> Releases:
    """The releases of the kit ``name`` in ``folder``; none where there is no index. Raises SpecError, DiskError."""
    path = folder / NAME
    with disk_errors(path):
        if not path.exists():
            return Releases(name=name)
        return parse_index(read_plain_file(path, SMALL_DOCUMENT, follow=True), name, str(path))


def parse_index(data: bytes, name: str, place: str) -> Releases:
    """The index in ``data``, which was read at ``place``. Raises SpecError: not an index, or of another kit than ``name``."""
    try:
        found = Releases.model_validate(parse_json(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "no object" if first["type"] == "model_type" else first["msg"].removeprefix("Value error, ")
        raise SpecError(f"is no list of releases: {where}{': ' if where else ''}{what}", where=place, remedy=_REMEDY) from error
    except ValueError as error:
        raise SpecError(f"not valid JSON: {error}", where=place, remedy=_REMEDY) from error
    if found.name != name:
        raise SpecError(f"is of the kit {found.name!r}, this is {name!r}", where=place, remedy=_OTHER)
    return found


def write_index(folder: Path, releases: Releases) -> None:
    """Replaces the index. Raises DiskError."""
    replace_file(folder / NAME, index_bytes(releases))


def index_bytes(releases: Releases) -> bytes:
    """What stands in ``releases.json``."""
    return canonical(releases.model_dump(mode="json")).encode()


_OTHER = "choose another --output, or another place to publish to"
_REMEDY = "put back the file of a backup, or move it away: then the releases begin anew, beside what lies there"
