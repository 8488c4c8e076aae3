"""Which releases go, so that the newest N stay.

Rules: what a kept delta needs, directly or through other deltas, is kept too; files are removed only after the index no longer
names them as a release's, so that it never names what is not there; they stand in ``removing`` until they are gone.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.common.progress import Progress
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
    files = {name for release in index.releases if release not in left for name in release.files}
    removing = sorted(files.union(index.removing) - {name for release in left for name in release.files})
    return index.model_copy(update={"releases": left, "pruned": (*index.pruned, *gone), "removing": tuple(removing)})


def prune(folder: Path, index: Releases, keep: int, progress: Progress) -> Releases:
    """Removes all but the newest ``keep`` releases from ``folder``; the index as it is then. Raises DiskError."""
    left = split_off(index, keep)
    if left != index:
        write_index(folder, left)
        for gone in left.pruned[len(index.pruned) :]:
            progress.note(f"{gone} is pruned", event="pruned", version=gone)
    return remove_pruned(folder, left, progress)


def remove_pruned(folder: Path, index: Releases, progress: Progress) -> Releases:
    """Removes what ``removing`` names; the index without what is gone. A file that stays is no failure, but told."""
    stay = []
    for name in index.removing:
        path = folder / name
        try:
            if name not in index.files:
                path.unlink(missing_ok=True)
        except OSError as error:
            progress.note(f"warning: {path} of a pruned release stays: {error.strerror}", event="finding", where=str(path))
            stay.append(name)
    left = index.model_copy(update={"removing": tuple(stay)})
    if left != index:
        write_index(folder, left)
    return left
