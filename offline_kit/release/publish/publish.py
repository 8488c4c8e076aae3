"""Publish releases: what the folder has and the other place does not is uploaded, and shown when all of it is there.

Rules: ``releases.json`` goes last, release by release, so that a run that was cut off leaves whole releases and no other;
what lies there already and is of somebody else is never replaced; what was published and is pruned here, and nothing else that
the index there may name, is removed there, once it is not shown, and what stays is tried again by the next run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from offline_kit.bundle.write.copy_unpacker import CHECKER, NAME
from offline_kit.common.errors import SpecError
from offline_kit.common.progress import Progress
from offline_kit.common.redact import register_url
from offline_kit.release.index import Releases, parse_index
from offline_kit.release.publish.destination import Destination, uploads
from offline_kit.release.publish.registry import Registry
from offline_kit.release.publish.s3 import S3

_BESIDE = (NAME, CHECKER, f"{CHECKER}.sha256")
_OTHER = "choose another prefix or repository for this folder; or bring its releases.json and bundles here first"
DESTINATIONS: Mapping[str, Callable[[str, int], Destination]] = {"s3": S3, "oci": Registry}


def open_destination(address: str, jobs: int) -> Destination:
    """What ``address`` means. Raises SpecError; asks nothing yet."""
    scheme = address.partition("://")[0]
    if "@" in address:
        register_url(address)
        what = "an address to publish to holds no name, password or digest"
        raise SpecError(what, remedy="AWS_ACCESS_KEY_ID and the like for s3://, docker login for oci://")
    if scheme not in DESTINATIONS:
        raise SpecError(f"not a place to publish to: {address!r}", remedy="s3://BUCKET/PREFIX or oci://REGISTRY/REPOSITORY")
    return DESTINATIONS[scheme](address, jobs)


def read_published(destination: Destination, index: Releases) -> Releases:
    """What ``destination`` shows. Raises SpecError where that is not of this kit or this folder."""
    data = destination.read_index()
    if data is None:
        return Releases(name=index.name)
    shown = parse_index(data, index.name, f"{destination.address}/releases.json")
    here = {release.version: release.sha256 for release in index.releases}
    for release in shown.releases:
        if release.version not in index.versions:
            raise SpecError(
                f"has {release.version}, which this folder knows nothing of", where=destination.address, remedy=_OTHER
            )
        if here.get(release.version, release.sha256) != release.sha256:
            raise SpecError(f"has another {release.version} than this folder", where=destination.address, remedy=_OTHER)
    return shown


def publish(folder: Path, index: Releases, destination: Destination, progress: Progress) -> tuple[str, ...]:
    """The versions that were published now. Raises every error of ``destination``."""
    shown = read_published(destination, index)
    wanted = index.model_copy(update={"removing": ()})  # there, it names what is to be removed there
    if shown == wanted:
        return ()
    there = {release.version for release in shown.releases}
    published = []
    for release in index.releases:
        if release.version in there:
            continue
        destination.upload(release, tuple(uploads(folder, release, _BESIDE)), progress)
        shown = shown.model_copy(update={"releases": (*shown.releases, release)})
        destination.show(shown)
        published.append(release.version)
        line = f"{release.version} is published at {destination.address}"
        progress.note(line, event="published", version=release.version, where=destination.address)
    pruned = _by_version(index, sorted(shown.files.union(shown.removing) - index.files))
    for name in pruned.pop("", ()):  # whoever can write the index there decides nothing of ours
        line = (
            f"warning: {name}, which the index at {destination.address} names, is of no release that was pruned here: it stays"
        )
        progress.note(line, event="finding", where=destination.address)
    gone = tuple(sorted(name for names in pruned.values() for name in names))
    told = wanted.model_copy(update={"removing": gone})
    if shown != told:
        destination.show(told)
    if gone and (stay := tuple(sorted(destination.remove(pruned, progress)))) != gone:
        destination.show(wanted.model_copy(update={"removing": stay}))
    return tuple(published)


def _by_version(index: Releases, names: Iterable[str]) -> dict[str, list[str]]:
    """Files of versions that were pruned here, by version; under "" those that are named after none."""
    found = dict[str, list[str]]()
    for name in names:
        named = [version for version in index.pruned if name.startswith(f"{index.name}-{version}.")]
        found.setdefault(max(named, key=len, default=""), []).append(name)
    return found
