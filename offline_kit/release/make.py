"""Make a release: resolve anew, and if anything changed, build, sign, describe and list it, then prune.

Rules: one run at a time in a folder, by a lock that dies with its process; nothing of an earlier release is touched before the
new one is proven and listed; a run that was cut off is taken up by the next: what it downloaded, and a bundle that is proven
and was not yet listed, are used again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from offline_kit import locking, pipeline
from offline_kit.bundle.format import parts
from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.signature.bases import check_base_signers
from offline_kit.bundle.signature.signers import Signer
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.staging import clear_stages
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleUnreadable, Busy, KitError, NotTrusted, Unchanged
from offline_kit.common.files import disk_errors, open_locked
from offline_kit.common.progress import Progress
from offline_kit.host.render import Origin, render
from offline_kit.intake.session import Session
from offline_kit.project import Policies, Project, open_project
from offline_kit.release.describe import Draft, Record, describe
from offline_kit.release.index import Release, Releases, read_index, write_index
from offline_kit.release.prune import prune, remove_pruned
from offline_kit.release.publish.destination import Destination
from offline_kit.release.publish.publish import publish, read_published
from offline_kit.release.version import check_scheme, is_older, next_version
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import canonical
from offline_kit.spec.rehearsal import Extent

_LOCK = ".releases.lock"


@dataclass(frozen=True)
class ReleaseOptions:
    """What is asked for. ``full_every``: a full release after so many, deltas between (None: always full); ``record``: with a
    transfer record, which numbers the parts by ``medium``; ``policies``: of the site, beside that of the manifest;
    ``rehearsal``: as ``build`` has it; ``destinations``: where all that lies there is published, too."""

    version: str = "auto"
    if_changed: bool = False
    locked: bool = False
    suffix: str = ".tar.gz"
    split: int | None = None
    full_every: int | None = None
    keep: int | None = None
    signer: Signer | None = None
    record: bool = False
    medium: Medium | None = None
    policies: Policies = ()
    rehearsal: Extent | None = None
    destinations: tuple[Destination, ...] = ()


def make_release(manifest: Path, output: Path, options: ReleaseOptions, session: Session) -> Release:
    """Makes the next release of ``manifest`` in ``output``, and publishes it and earlier ones that are not yet published.

    Raises Unchanged (also nothing to publish), Busy, and every error of a build and of a destination.
    """
    check_scheme(options.version)
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    with lock_folder(output):
        project = open_project(manifest, options.policies)
        index = remove_pruned(output, read_index(output, project.manifest.name), session.progress)
        clear_stages(output, f"{project.manifest.name}-")
        for destination in options.destinations:
            read_published(destination, index)  # what cannot be published is said before hours of work
        try:
            index = _make(project, manifest, output, index, options, session)
        except Unchanged:
            done = [publish(output, index, destination, session.progress) for destination in options.destinations]
            if not any(done):
                raise
        else:
            for destination in options.destinations:
                publish(output, index, destination, session.progress)
        return index.releases[-1]


def _make(
    project: Project, manifest: Path, output: Path, index: Releases, options: ReleaseOptions, session: Session
) -> Releases:
    """The index with one release more, pruned. Raises Unchanged."""
    lock = (
        locking.current_lock(project, session, locked=True)
        if options.locked
        else locking.lock_project(project, session, keep=None)
    )
    content = content_of(project, lock)
    if options.if_changed and index.last is not None and index.last.content == content:
        raise Unchanged(f"nothing changed since {index.last.version}", where=str(manifest))
    now = datetime.now(timezone.utc)
    version = next_version(options.version, index.versions, now.date())
    if index.last is not None and is_older(version, index.last.version):
        what = f"{version} comes before {index.last.version}: a host that has that takes it with --allow-downgrade alone"
        session.progress.note(f"warning: {what}", event="finding", where=version)
    earlier = _earlier(output, index, session.progress)
    shape = pipeline.Shape(options.suffix, options.split)
    if earlier is not None and options.full_every is not None and index.since_full() < options.full_every - 1:
        shape = _on_base(shape, earlier, output / index.releases[-1].file, project, session.progress)
    path = _finished(output, lock, version, shape, session)
    draft = Draft(project, lock, version, content, now, earlier, just_written=path is None)
    if path is None:
        order = pipeline.Order(
            manifest, version, output, shape, locked=True, policies=options.policies, rehearsal=options.rehearsal, replace=True
        )  # what lies there unlisted is of a run that was killed
        path = pipeline.build(order, session).path
    record = Record(options.medium) if options.record else None
    release = describe(draft, path, options.signer, record, session.progress)
    index = index.model_copy(update={"releases": (*index.releases, release)})
    write_index(output, index)
    if options.keep is not None:
        return prune(output, index, options.keep, session.progress)
    return index


@contextmanager
def lock_folder(output: Path) -> Iterator[None]:
    """Nobody else makes a release in this folder meanwhile. Raises Busy."""
    path = output / _LOCK
    with disk_errors(path):
        descriptor = open_locked(path)
    if descriptor is None:
        raise Busy("another run makes a release here", where=str(output), remedy="wait until it is done")
    try:
        yield
    finally:
        os.close(descriptor)


def content_of(project: Project, lock: Lock) -> Digest:
    """The digest of everything that a kit of this lock would hold, but for its version.

    What the layers hold follows from the lock, and need not be at hand.
    """
    texts, executables = render(lock, "0", project.config, project.services, Origin(project.manifest.digest))
    listed = {path: Digest.of(text).hex for path, text in texts.items()}
    return Digest.of(canonical({"lock": lock.text(), "files": listed, "executables": sorted(executables)}).encode())


def _earlier(output: Path, index: Releases, progress: Progress) -> Head | None:
    """The head of the last release; None where there is none, or its file is gone: then nothing can be made from it."""
    if index.last is None:
        return None
    try:
        return read_head(output / index.last.file)
    except BundleUnreadable as error:
        progress.note(f"warning: {error.where}: {error.what}; this release is a full one", event="finding", where=error.where)
        return None


def _on_base(shape: pipeline.Shape, base: Head, path: Path, project: Project, progress: Progress) -> pipeline.Shape:
    """``shape`` of a delta against the release at ``path``, or as it is where a policy wants that signed and it is not."""
    try:
        check_base_signers(path, project.policies)
    except NotTrusted as error:
        progress.note(f"warning: {error.where}: {error.what}; this release is a full one", event="finding", where=error.where)
        return shape
    return replace(shape, base=base, base_path=path)


def _finished(output: Path, lock: Lock, version: str, shape: pipeline.Shape, session: Session) -> Path | None:
    """The bundle of a run that was cut off between publishing and listing it, if it is this one and whole."""
    name = f"{lock.name}-{version}{'.delta' if shape.base else ''}{shape.suffix}"
    path = output / (parts.json_name(name) if shape.split else name)
    if not path.exists():
        return None
    try:
        head = read_head(path)
        if head.lock != lock or head.version != version:
            return None
        return path if verify(path, jobs=session.jobs, progress=session.progress).whole else None
    except KitError as error:
        session.progress.note(f"{path.name} is made anew: {error.what}")
        return None
