"""One manifest to one proven bundle, step by step.

Rules: each step gets what the one before left in the lock or on disk, and nothing else; the file under its final name is
always one that ``verify`` has read whole; a failed build leaves the store and an earlier bundle as they were.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from offline_kit.bundle import delta
from offline_kit.bundle.format.entries import Entry, lay_out
from offline_kit.bundle.format.parts import digits_for, json_name
from offline_kit.bundle.read.inspect import Head
from offline_kit.bundle.signature.bases import check_base_signers
from offline_kit.bundle.signature.sign import remove_stale_signatures
from offline_kit.bundle.verify.verify import Report, verify
from offline_kit.bundle.write.build_context import base_of, lay_context
from offline_kit.bundle.write.copy_unpacker import carry_unpacker
from offline_kit.bundle.write.kit_folder import lay_kit
from offline_kit.bundle.write.pack import pack
from offline_kit.bundle.write.staging import publish, stage
from offline_kit.common.errors import DigestMismatch, SpecError
from offline_kit.common.files import disk_errors
from offline_kit.host import assets
from offline_kit.host.render import Origin, render
from offline_kit.intake.fetch import Blobs, fetch, missing_bytes, payload_bytes
from offline_kit.intake.scan.scan import scan
from offline_kit.intake.session import Session
from offline_kit.intake.sources.image_layers import contents_of
from offline_kit.intake.store.work_folder import work_folder
from offline_kit.intake.store_maintenance import evict_damaged
from offline_kit.locking import complete_lock, current_lock, is_unread, refuse_secrets, warn_of_target
from offline_kit.output_checks import check_room, check_version, check_writable
from offline_kit.project import Policies, Project, open_project
from offline_kit.rehearsal.rehearse import kit_of, rehearse_kit
from offline_kit.spec.lock import Lock
from offline_kit.spec.names import VERSION, ImageReference
from offline_kit.spec.policy_check import check_base, check_rehearsal, check_scanners
from offline_kit.spec.rehearsal import Extent, RehearsalRecord
from offline_kit.spec.scan import PICKLES


@dataclass(frozen=True)
class Shape:
    """How a bundle is written: its ``suffix``, in parts of ``split`` bytes, without what the earlier kit ``base`` has.

    ``base_path``: where that kit or bundle lies.
    """

    suffix: str = ".tar.gz"
    split: int | None = None
    base: Head | None = None
    base_path: Path | None = None


@dataclass(frozen=True)
class Order:
    """What is to be built of ``manifest``, in which ``shape``, and where. ``locked``: only of a lock that fits.

    ``rehearsal``: what is tried out before it is packed; ``replace``: also a bundle of this version that has other content.
    """

    manifest: Path
    version: str
    output: Path
    shape: Shape = Shape()
    locked: bool = False
    policies: Policies = ()
    rehearsal: Extent | None = None
    replace: bool = False


@dataclass(frozen=True)
class Built:
    """A finished build: the bundle's path (of parts: their .parts.json), its report, and the lock that it was made from."""

    path: Path
    report: Report
    lock: Lock


def build(order: Order, session: Session) -> Built:
    """Makes ``output/NAME-VERSION.tar.gz``, or what the shape says. Raises every error of ``common.errors`` of its steps."""
    version, shape, locked = order.version, order.shape, order.locked
    if not VERSION.fullmatch(version):
        raise SpecError(f"not a version: {version!r}", remedy="letters, digits, '.', '_' and '-', 63 at most")
    project = open_project(order.manifest, order.policies)
    if shape.base and (shape.base.lock.name, shape.base.version) == (project.manifest.name, version):
        raise SpecError(f"{version} is the version of the base itself", remedy="give the new bundle another version")
    if shape.base_path:
        check_base_signers(shape.base_path, project.policies)
    check_writable(order.output)
    lock = current_lock(project, session, locked=locked)
    warn_of_target(project, lock, session)
    _check_policies(project, order.rehearsal)
    top, final = f"{lock.name}-{version}", _final(order, lock)
    _check_shape(order, lock, final)
    with disk_errors(order.output):
        order.output.mkdir(parents=True, exist_ok=True)
    store, progress = session.store, session.progress
    with store.in_use(), stage(final) as folder:
        if shape.base is None:
            check_room(lock, store, folder)

        def read_engine() -> None:
            nonlocal lock
            lock = complete_lock(project, lock, session, locked=locked)

        unread = is_unread(lock)
        for last_try in (False, True):
            blobs = fetch(lock, project.manifest, project.folder, session, engine_first=read_engine if unread else None)
            contents = {key: contents_of(store, image.layers, key) for key, image in lock.images.items()}
            record = scan(lock, project.manifest.scan, blobs.path, project.folder, session)
            origin = Origin(project.manifest.digest, contents, record)
            entries = _lay_out(project, lock, version, origin)
            if order.rehearsal:
                origin = replace(origin, rehearsal=_rehearse(entries, lock, order.rehearsal, blobs, session))
                entries = _lay_out(project, lock, version, origin)
            if shape.base:
                entries = delta.omit_base(entries, delta.compare(lock, shape.base))
            pack(entries, top, blobs.path, folder / final.name, split=shape.split, progress=progress)
            packed = folder / (json_name(final.name) if shape.split else final.name)
            report = verify(packed, jobs=session.jobs, progress=progress)
            if report.whole:
                path = publish(folder, final)
                for name in remove_stale_signatures(path):
                    progress.note(
                        f"{name} is removed: it belonged to an earlier bundle of this name", event="removed", file=name
                    )
                carry_unpacker(order.output, progress)
                return Built(path, report, lock)
            damaged = evict_damaged(store, lock)
            if last_try or not damaged:
                break
            progress.note(f"{len(damaged)} blob(s) of the store were damaged: fetching them again")
    found = "\n".join(f"{finding.where}: {finding.what}" for finding in report.findings)
    raise DigestMismatch(
        f"the packed file is not what the lock says; nothing was left at {final}\n{found}",
        remedy="a local file changed while it was packed, or a disk is failing; run the build again",
    )


@dataclass(frozen=True)
class Preview:
    """What a build would do. Bytes; ``fetch``: into the store; ``write``: of the bundle, at most; ``free``: at the output."""

    name: str
    fetch: int
    write: int
    free: int
    free_store: int
    together: bool

    @property
    def fits(self) -> bool:
        """Whether there is room for both, which may lie on one disk."""
        if self.together:
            return self.fetch + self.write <= self.free
        return self.write <= self.free and self.fetch <= self.free_store


def preview(order: Order, session: Session) -> Preview:
    """What a build would fetch, and write at most, from the lock, which is made as by a build. Raises as ``build``."""
    if not VERSION.fullmatch(order.version):
        raise SpecError(f"not a version: {order.version!r}", remedy="letters, digits, '.', '_' and '-', 63 at most")
    project = open_project(order.manifest, order.policies)
    folder = check_writable(order.output)
    lock = current_lock(project, session, locked=order.locked)
    warn_of_target(project, lock, session)
    _check_policies(project, order.rehearsal)
    _check_shape(order, lock, _final(order, lock))
    root = session.store.root
    return Preview(
        f"{lock.name}-{order.version}",
        missing_bytes(lock, session.store),
        payload_bytes(lock),
        shutil.disk_usage(folder).free,
        shutil.disk_usage(root).free,
        folder.stat().st_dev == root.stat().st_dev,
    )


def _final(order: Order, lock: Lock) -> Path:
    """Where the bundle will lie."""
    return order.output / f"{lock.name}-{order.version}{'.delta' if order.shape.base else ''}{order.shape.suffix}"


def _check_shape(order: Order, lock: Lock, final: Path) -> None:
    """The parts are not too many, and no other content has this version. Raises SpecError, DiskError."""
    if order.shape.split:
        digits_for(0 if order.shape.base else payload_bytes(lock), order.shape.split)
    if not order.replace:
        check_version(final, lock)


def _check_policies(project: Project, rehearsal: Extent | None) -> None:
    """What policies demand of the scanners and the rehearsal. Raises PolicyRefused."""
    for name, policy in project.policies:
        check_scanners({PICKLES, *(scanner.name for scanner in project.manifest.scan)}, policy, name)
        check_rehearsal(rehearsal, policy, name)


def _check_base(image: str, project: Project) -> None:
    """``image`` is a name that Docker takes, and policies allow it. Raises SpecError, PolicyRefused."""
    try:
        for name, policy in project.policies:
            check_base(image, policy, name)
        ImageReference.parse(image)
    except ValueError as error:
        raise SpecError(str(error), where="--base", remedy="give the name of an engine image, REPOSITORY:TAG") from error


def rehearse(source: Path, extent: Extent, session: Session, *, dummy: bool = False) -> RehearsalRecord:
    """Tries out what a manifest, a bundle or a kit would be on a host; ``dummy``: with random weights.

    Raises as ``build``, and RehearsalFailed.
    """
    if source.suffix not in (".yaml", ".yml"):
        with session.store.in_use(), work_folder(session.store.root, "rehearsal-") as work:
            kit, lock = kit_of(source, work, session.progress)
            return rehearse_kit(kit, lock, extent, work, session.progress, dummy=dummy)
    project = open_project(source)
    lock = current_lock(project, session, locked=False)
    with session.store.in_use():
        blobs = fetch(lock, project.manifest, project.folder, session)
        lock = complete_lock(project, lock, session, locked=False)
        entries = _lay_out(project, lock, "rehearsal", Origin(project.manifest.digest))
        return _rehearse(entries, lock, extent, blobs, session, dummy=dummy)


def lay_image_context(
    manifest_path: Path,
    version: str,
    folder: Path,
    session: Session,
    *,
    locked: bool,
    models: bool,
    base: str | None = None,
    policies: Policies = (),
) -> Path:
    """Makes ``folder``, from which ``docker build`` makes the image that serves all models alone; gives it back.

    ``models``: whether they are in it, each file proven, a layer a shard; ``base``: in place of the manifest's engine image.
    Raises as ``build``.
    """
    project = open_project(manifest_path, policies)
    with disk_errors(folder):
        there = folder.exists()
    if there:
        raise SpecError("is there already", where=str(folder), remedy="name a folder that is not there, or remove it")
    if base:
        _check_base(base, project)
    lock = current_lock(project, session, locked=locked)
    _check_policies(project, None)
    with session.store.in_use(), stage(folder) as made:
        lock = complete_lock(project, lock, session, locked=locked)
        wanted: dict[str, dict[str, object]] = {"images": {}, "files": {}, **({} if models else {"models": {}})}
        asked = project.manifest.model_copy(update=wanted)
        part = lock.model_copy(update=wanted)
        blobs = fetch(part, asked, project.folder, session)
        scan(part, project.manifest.scan, blobs.path, project.folder, session)
        entries = _lay_out(project, lock, version, Origin(project.manifest.digest))
        image = base or base_of(lock.images["engine"])
        settings = project.services.settings
        ports = (settings.router_port, *(model.port for model in settings.models))
        with disk_errors(folder):
            lay_context(entries, assets.unified(), blobs.path, made / folder.name, image, version, ports, models=models)
            (made / folder.name).rename(folder)
    return folder


def _rehearse(
    entries: tuple[Entry, ...], lock: Lock, extent: Extent, blobs: Blobs, session: Session, *, dummy: bool = False
) -> RehearsalRecord:
    """What the bundle of these entries would be, unpacked beside the store's blobs and tried out."""
    with work_folder(session.store.root, "rehearsal-") as work:
        return rehearse_kit(lay_kit(entries, blobs.path, work / "kit"), lock, extent, work, session.progress, dummy=dummy)


def _lay_out(project: Project, lock: Lock, version: str, origin: Origin) -> tuple[Entry, ...]:
    """Every file of the bundle. Raises SpecError where a secret of this run stands in one."""
    texts, executables = render(lock, version, project.config, project.services, origin)
    refuse_secrets({**texts, "lock.json": lock.text()})
    return lay_out(lock, version, texts, executables)
