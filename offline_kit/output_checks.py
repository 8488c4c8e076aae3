"""What is known of the place that a bundle is written to before anything is fetched for it.

Rules: a version stands for one content: a bundle of the same name that holds something else is replaced only on demand; what
cannot be read is no content. Nothing is written but a file without a name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from offline_kit.bundle.diff import Change, compare
from offline_kit.bundle.format.parts import json_name
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.write.staging import check_space
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DiskError, KitError
from offline_kit.intake.fetch import missing_bytes, payload_bytes
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import Lock

_SHOWN = 4  # changes that are named


def check_writable(output: Path) -> Path:
    """The nearest folder of ``output`` that there is. Raises DiskError where nothing can be written into it."""
    whole = output.resolve()
    try:
        folder = next(place for place in (whole, *whole.parents) if place.exists())
    except OSError as error:
        what = f"nothing can be written there: {error.strerror}"
        raise DiskError(what, where=str(whole), remedy="name another folder with --output") from error
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        what = f"nothing can be written there: {error.strerror}"
        raise DiskError(what, where=str(folder), remedy="name another folder with --output") from error


def check_room(lock: Lock, store: Store, folder: Path) -> None:
    """The bundle will fit into ``folder``, and what is fetched beside it where both lie on one disk. Raises DiskError."""
    same = folder.stat().st_dev == store.root.stat().st_dev
    left_behind = sum(path.stat().st_blocks * 512 for path in folder.iterdir() if path.is_file())
    check_space(folder, payload_bytes(lock) + (missing_bytes(lock, store) if same else 0), freed=left_behind)


def check_version(final: Path, lock: Lock) -> None:
    """What lies at ``final``, whole or in parts, is what ``lock`` says, or cannot be read. Raises DiskError."""
    for path in (final, final.with_name(json_name(final.name))):
        if not path.exists():
            continue
        try:
            changes = compare(read_head(path), Head(lock, Digest.of(lock.text().encode()), None, None)).changes
        except KitError:  # damaged, or no bundle: nothing that anybody could have installed
            continue
        if changes:
            raise DiskError(
                f"this version is there already, with other content: {_named(changes)}",
                where=str(path),
                remedy="give the new one another --version, or say --replace",
            )


def _named(changes: Iterable[Change]) -> str:
    """The first of what differs, in words."""
    found = [f"{change.kind} {change.name} {change.how}" for change in changes]
    return ", ".join(found[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
