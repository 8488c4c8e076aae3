"""Which releases go, so that the newest N stay.

Rules: what a kept delta needs, directly or through other deltas, is kept too; files are removed only after the index no longer
names them, so that it never names what is not there.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.common.files import disk_errors
from offline_kit.release.index import Releases, write_index


def split_off(index: Releases, keep: int) -> Releases:
    """The index with the newest ``keep`` releases and whatever these need; the others are in ``pruned``."""
    by_version = {release.version: release for release in index.releases}
    kept: set[str] = set()
    for release in index.releases[-keep:]:
        version: str | None = release.version
        while version is not None and version not in kept:
            kept.add(version)
            version = by_version[version].base if version in by_version else None
    gone = tuple(release.version for release in index.releases if release.version not in kept)
    left = tuple(release for release in index.releases if release.version in kept)
    return index.model_copy(update={"releases": left, "pruned": (*index.pruned, *gone)})


def prune(folder: Path, index: Releases, keep: int) -> tuple[str, ...]:
    """Removes all but the newest ``keep`` releases from ``folder``; returns the versions that went. Raises DiskError."""
    left = split_off(index, keep)
    if left == index:
        return ()
    write_index(folder, left)
    named = {name for release in left.releases for name in release.files}
    for release in index.releases:
        if release not in left.releases:
            for name in release.files:
                if name not in named:
                    with disk_errors(folder / name):
                        (folder / name).unlink(missing_ok=True)
    return left.pruned[len(index.pruned) :]
