"""A place that releases are published to, and what it is asked.

Rules: a place never shows a release before all of it is there; what proves who we are comes from the environment and stands in
no address; the bytes of a bundle are read once, on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch
from offline_kit.common.files import disk_errors
from offline_kit.common.progress import Progress
from offline_kit.release.index import Release, Releases


@dataclass(frozen=True)
class Upload:
    """A file to be uploaded under its name; ``digest``: of its content, as the index has it or as it was read."""

    path: Path
    size: int
    digest: Digest


def changed(file: Upload, found: Digest) -> DigestMismatch:
    """The error for a file whose bytes have the digest ``found``."""
    what = f"is {found}, and the index of the releases says {file.digest}"
    return DigestMismatch(what, where=str(file.path), remedy="put back the file of a backup, or make the release anew")


class Destination(Protocol):
    """Where releases go. Every method raises AccessDenied, NotFound, NetworkError, SpecError."""

    @property
    def address(self) -> str:
        """As it was given, for people."""

    def read_index(self) -> bytes | None:
        """The index that is shown there; None where there is none yet."""

    def upload(self, release: Release, files: Sequence[Upload], progress: Progress) -> None:
        """Brings all of a release there; what is there already is not sent again. Raises DigestMismatch, DiskError."""

    def show(self, index: Releases) -> None:
        """Replaces the index that is shown."""

    def remove(self, pruned: Mapping[str, Sequence[str]], progress: Progress) -> list[str]:
        """Removes pruned releases (version -> its files); what is gone already is no error.

        The files that stay and may go another time: what keeps them is told, and raises nothing.
        """


def uploads(folder: Path, release: Release, beside: Sequence[str]) -> Iterator[Upload]:
    """The files of ``release``, and those of ``beside`` that lie in ``folder``. Raises DiskError.

    The bytes of the bundle are not read: its digests stand in the index.
    """
    for name in (*release.files, *(name for name in beside if (folder / name).is_file())):
        path = folder / name
        with disk_errors(path):
            size = path.stat().st_size
            known = release.sha256.get(name)
            yield Upload(path, size, Digest(known) if known else Digest.of_file(path))
