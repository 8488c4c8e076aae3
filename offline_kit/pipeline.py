"""One manifest to one proven bundle, step by step.

Rules: each step gets what the one before left in the lock or on disk, and nothing else; the file under its final name is
always one that ``verify`` has read whole; a failed build leaves the store and an earlier bundle as they were.

It is long because the order of the steps is what it says, and each of them is a few lines of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from offline_kit.bundle import delta
from offline_kit.bundle.format.entries import Entry, lay_out
from offline_kit.bundle.format.parts import json_name
from offline_kit.bundle.read.inspect import Head
from offline_kit.bundle.signature.bases import check_base_signers
from offline_kit.bundle.verify.verify import Report, verify
from offline_kit.bundle.write.copy_unpacker import carry_unpacker
from offline_kit.bundle.write.kit_folder import lay_kit
from offline_kit.bundle.write.pack import pack
from offline_kit.bundle.write.staging import check_space, publish, stage
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, DiskError, LockStale, SpecError
from offline_kit.common.files import replace_file
from offline_kit.common.redact import find_secret
from offline_kit.common.units import size
from offline_kit.host.render import Origin, render
from offline_kit.host.target_check import check_target, engine_image, refused_numbers
from offline_kit.intake.fetch import Blobs, fetch, fetch_image, missing_bytes, payload_bytes
from offline_kit.intake.images.engine_facts import engine_facts
from offline_kit.intake.models import findings
from offline_kit.intake.resolve import regrouped_models, resolve, resolve_facts
from offline_kit.intake.scan.scan import scan
from offline_kit.intake.session import Session
from offline_kit.intake.sources.image_layers import can_be_read, contents_of
from offline_kit.intake.store.store import Store
from offline_kit.intake.store.work_folder import work_folder
from offline_kit.project import Policies, Project, open_project
from offline_kit.rehearsal.rehearse import kit_of, rehearse_kit
from offline_kit.runtime.gpu_plan.evaluate import Image
from offline_kit.spec.lock import Lock, LockedModel, ModelFacts
from offline_kit.spec.lock_fit import fits, stale
from offline_kit.spec.names import VERSION
from offline_kit.spec.policy_check import check_policy, check_rehearsal, check_scanners
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
class Built:
    """A finished build: the bundle's path (of parts: their .parts.json), its report, and the lock that it was made from."""

    path: Path
    report: Report
    lock: Lock


def lock_project(project: Project, session: Session, *, keep: Lock | None, read_engine: bool = False) -> Lock:
    """Resolves the manifest and writes the lock beside it. Entries of ``keep`` that still apply are not resolved again.

    ``read_engine``: the engine image is fetched where its layers have to be read for what it holds.
    """
    check = functools.partial(_check_alone, project)
    lock = resolve(project.manifest, project.folder, project.config, session, keep=keep, before_conversion=check)
    engine = lock.images["engine"]
    if read_engine or can_be_read(session.store, engine.layers):
        lock = _with_engine_facts(lock, project, session)
    elif engine.engine is None:
        left = size(sum(layer.size for layer in engine.layers if not session.store.has(layer.digest, layer.size)))
        what = f"what the engine image holds was not read ({left} to fetch): 'build' reads it before any weights"
        session.progress.note(f"{what}, 'lock --read-engine' now", event="engine not read")
    check_policies(project, lock)
    check_models(project, lock, session)
    if lock != project.lock:
        _refuse_secrets({project.lock_path.name: lock.text()})
        replace_file(project.lock_path, lock.text().encode())
    return lock


def check_policies(project: Project, lock: Lock) -> None:
    """Raises PolicyRefused where the manifest's policy, or that of the site, forbids what ``lock`` carries."""
    for name, policy in project.policies:
        check_policy(lock, policy, name)


def check_models(project: Project, lock: Lock, session: Session, *, said: Lock | None = None) -> None:
    """Says what speaks against serving the models of ``lock``, but for what was found in ``said`` already. Raises SpecError
    where no engine could start."""
    settings, services = project.services.settings, _services(project)
    known = findings.find(said, services) if said else []
    found = [finding for finding in findings.find(lock, services) if finding not in known]
    for finding in found:
        if not finding.refused:
            session.progress.note(f"warning: {finding}", event="finding", where=finding.where, what=finding.what)
    if project.manifest.target is None and said is None:
        for mistake in refused_numbers(lock, settings):
            where = f"{mistake.file}: {mistake.field}"
            session.progress.note(f"warning: {mistake}", event="finding", where=where, what=mistake.what)
    _refuse([finding for finding in found if finding.refused])


def _check_alone(project: Project, key: str, model: LockedModel) -> None:
    """What of one model alone no engine could serve, asked before its weights come to be converted. Raises SpecError.

    What its services name besides is asked when the lock is whole.
    """
    manifest, images = project.manifest, project.lock.images if project.lock else {}
    alone = Lock(
        name=manifest.name,
        platform=manifest.platform,
        accelerator=manifest.accelerator,
        images=images if project.lock and fits(project.lock, manifest, "images.engine") else {},
        models={key: model},
        config={},
    )
    found = findings.find(alone, [service for service in _services(project) if service.model == key])
    _refuse([finding for finding in found if finding.refused and "engine_args" not in finding.where])


def _services(project: Project) -> list[findings.Service]:
    settings = project.services.settings
    return [
        findings.Service(
            model.key,
            model.folder,
            model.type,
            {name.replace("-", "_"): value for name, value in {**settings.common, **model.engine_args}.items()},
            model.max_model_len,
        )
        for model in settings.models
    ]


def _refuse(refused: Sequence[findings.Finding]) -> None:
    if refused:
        more = [str(finding) for finding in refused[1:]]
        raise SpecError(refused[0].what, where=refused[0].where, remedy="\n".join([refused[0].remedy, *more]))


def current_lock(project: Project, session: Session, *, locked: bool) -> Lock:
    """The lock as it is when it is up to date, else a new one; under ``locked`` that is an error (LockStale)."""
    previous = project.lock
    changed = stale(previous, project.manifest, project.config) if previous else []
    if previous and not changed:
        changed = _regrouped(project, previous, session)
    if previous and not changed:
        check_policies(project, previous)
        check_models(project, previous, session)
        return previous
    if locked:
        what = f"the lock is stale ({', '.join(changed)} changed)" if previous else "there is no lock"
        raise LockStale(what, where=str(project.lock_path), remedy="run 'offline-kit lock' and commit the result")
    for name in changed:
        session.progress.note(f"{name} changed since the lock was made: locked again")
    return lock_project(project, session, keep=previous)


def _regrouped(project: Project, lock: Lock, session: Session) -> list[str]:
    """Models in local folders that were given files since they were locked, each with those files."""
    models = regrouped_models(project.manifest, project.folder, lock, session)
    return [f"models.{key}: {', '.join(files[:5])}{' ...' if len(files) > 5 else ''}" for key, files in models.items()]


def complete_lock(project: Project, lock: Lock, session: Session, *, locked: bool) -> Lock:
    """``lock`` with what its engine image holds, which is fetched for that; written where that is new.

    Under ``locked`` it stays as it is. Raises SpecError where that engine cannot serve a model, which is first seen now, or
    cannot run on the manifest's target.
    """
    completed = _with_engine_facts(lock, project, session)
    if completed == lock:
        return lock
    if not locked:
        _refuse_secrets({project.lock_path.name: completed.text()})
        replace_file(project.lock_path, completed.text().encode())
    check_models(project, completed, session, said=lock)
    _check_target(project, completed, session, said=lock)
    return lock if locked else completed


def _check_target(project: Project, lock: Lock, session: Session, *, said: Lock | None = None) -> None:
    """Warns of what may not run on the manifest's target, but for what was said of ``said``. Raises SpecError."""
    settings = project.services.settings
    known = check_target(project.manifest, said, settings) if said else ()
    for line in check_target(project.manifest, lock, settings):
        if line not in known:
            session.progress.note(f"warning: {line}")


def _with_engine_facts(lock: Lock, project: Project, session: Session) -> Lock:
    """``lock`` with what the layers of its engine image say; a lock of an earlier version knows versions alone."""
    image = lock.images["engine"]
    if not _is_unread(lock):
        return lock
    if not can_be_read(session.store, image.layers):
        fetch_image("engine", image, project.manifest, project.folder, session)
    facts = engine_facts(contents_of(session.store, image.layers, "engine"))
    if facts is None or facts == image.engine:
        return lock
    return lock.model_copy(update={"images": {**lock.images, "engine": image.model_copy(update={"engine": facts})}})


def _is_unread(lock: Lock) -> bool:
    """Whether it is not known what the engine image holds."""
    facts = lock.images["engine"].engine
    return facts is None or not facts.architectures


def plan_facts(project: Project, session: Session) -> tuple[dict[str, ModelFacts | None], Image]:
    """What the GPU plan needs: facts by model, and of the engine image what a lock says of it. Raises KitError.

    From the lock where that still applies; other models are resolved, which reads no weights; nothing is written.
    """
    previous = project.lock
    found: dict[str, ModelFacts | None] = {}
    missing = []
    for key in project.manifest.models:
        locked = previous.models.get(key) if previous else None
        current = previous is not None and fits(previous, project.manifest, f"models.{key}")
        if locked is not None and current and locked.facts is not None:
            found[key] = locked.facts
        else:
            missing.append(key)
    found |= resolve_facts(project.manifest, project.folder, missing, session)
    engine = previous.images.get("engine") if previous and fits(previous, project.manifest, "images.engine") else None
    return found, engine_image(engine)


def build(
    manifest_path: Path,
    version: str,
    output: Path,
    session: Session,
    *,
    shape: Shape = Shape(),
    locked: bool,
    policies: Policies = (),
    rehearsal: Extent | None = None,
) -> Built:
    """Makes ``output/NAME-VERSION.tar.gz``, or what ``shape`` says; ``rehearsal``: what is tried out before it is packed.

    Raises every error of ``common.errors`` that a step can meet.
    """
    if not VERSION.fullmatch(version):
        raise SpecError(f"not a version: {version!r}", remedy="letters, digits, '.', '_' and '-', 63 at most")
    project = open_project(manifest_path, policies)
    if shape.base and (shape.base.lock.name, shape.base.version) == (project.manifest.name, version):
        raise SpecError(f"{version} is the version of the base itself", remedy="give the new bundle another version")
    if shape.base_path:
        check_base_signers(shape.base_path, project.policies)
    lock = current_lock(project, session, locked=locked)
    _check_target(project, lock, session)
    for name, policy in project.policies:
        check_scanners({PICKLES, *(scanner.name for scanner in project.manifest.scan)}, policy, name)
        check_rehearsal(rehearsal, policy, name)
    top = f"{lock.name}-{version}"
    final = output / f"{top}{'.delta' if shape.base else ''}{shape.suffix}"
    _make_folder(output)
    store, progress = session.store, session.progress
    with store.in_use(), stage(final) as folder:
        if shape.base is None:
            _check_room(lock, store, folder)

        def read_engine() -> None:
            nonlocal lock
            lock = complete_lock(project, lock, session, locked=locked)

        unread = _is_unread(lock)
        for last_try in (False, True):
            blobs = fetch(lock, project.manifest, project.folder, session, engine_first=read_engine if unread else None)
            contents = {key: contents_of(store, image.layers, key) for key, image in lock.images.items()}
            record = scan(lock, project.manifest.scan, blobs.path, project.folder, session)
            origin = Origin(project.manifest.digest, contents, record)
            entries = _lay_out(project, lock, version, origin)
            if rehearsal:
                origin = replace(origin, rehearsal=_rehearse(entries, lock, blobs, session))
                entries = _lay_out(project, lock, version, origin)
            if shape.base:
                entries = delta.omit_base(entries, delta.compare(lock, shape.base))
            pack(entries, top, blobs.path, folder / final.name, split=shape.split, progress=progress)
            packed = folder / (json_name(final.name) if shape.split else final.name)
            report = verify(packed, jobs=session.jobs, progress=progress)
            if report.whole:
                path = publish(folder, final)
                carry_unpacker(output, progress)
                return Built(path, report, lock)
            damaged = _evict_damaged(lock, store)
            if last_try or not damaged:
                break
            progress.note(f"{len(damaged)} blob(s) of the store were damaged: fetching them again")
    found = "\n".join(f"{finding.where}: {finding.what}" for finding in report.findings)
    raise DigestMismatch(
        f"the packed file is not what the lock says; nothing was left at {final}\n{found}",
        remedy="a local file changed while it was packed, or a disk is failing; run the build again",
    )


def rehearse(source: Path, session: Session) -> RehearsalRecord:
    """Tries out what a manifest, a bundle or a kit would be on a host. Raises as ``build``, and RehearsalFailed."""
    if source.suffix not in (".yaml", ".yml"):
        with session.store.in_use(), work_folder(session.store.root, "rehearsal-") as work:
            kit, lock = kit_of(source, work, session.progress)
            return rehearse_kit(kit, lock, work, session.progress)
    project = open_project(source)
    lock = current_lock(project, session, locked=False)
    with session.store.in_use():
        blobs = fetch(lock, project.manifest, project.folder, session)
        lock = complete_lock(project, lock, session, locked=False)
        return _rehearse(_lay_out(project, lock, "rehearsal", Origin(project.manifest.digest)), lock, blobs, session)


def _rehearse(entries: tuple[Entry, ...], lock: Lock, blobs: Blobs, session: Session) -> RehearsalRecord:
    """What the bundle of these entries would be, unpacked beside the store's blobs and tried out."""
    with work_folder(session.store.root, "rehearsal-") as work:
        return rehearse_kit(lay_kit(entries, blobs.path, work / "kit"), lock, work, session.progress)


def _lay_out(project: Project, lock: Lock, version: str, origin: Origin) -> tuple[Entry, ...]:
    """Every file of the bundle. Raises SpecError where a secret of this run stands in one."""
    texts, executables = render(lock, version, project.config, project.services, origin)
    _refuse_secrets({**texts, "lock.json": lock.text()})
    return lay_out(lock, version, texts, executables)


def _refuse_secrets(texts: Mapping[str, str | bytes]) -> None:
    """A last search before anything is passed on. Raises SpecError: a secret of this run stands in a file."""
    for name, text in texts.items():
        place = find_secret(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        if place is not None:
            what = f"a password or token that this run uses stands in it ({place}), and would be passed on"
            raise SpecError(what, where=name, remedy="take it out of the manifest and its configuration, and change it")


def _check_room(lock: Lock, store: Store, folder: Path) -> None:
    """The bundle will fit into ``folder``, and what is fetched beside it where both lie on one disk. Raises DiskError."""
    same = folder.stat().st_dev == store.root.stat().st_dev
    left_behind = sum(path.stat().st_blocks * 512 for path in folder.iterdir() if path.is_file())
    check_space(folder, payload_bytes(lock) + (missing_bytes(lock, store) if same else 0), freed=left_behind)


def _evict_damaged(lock: Lock, store: Store) -> list[Digest]:
    """Removes the lock's blobs whose bytes are no longer those of their name from the store; returns them."""
    names = list(lock.image_blobs()) + [file.sha256 for model in lock.models.values() for file in model.files]
    names += [extra.sha256 for extra in lock.files.values()]
    damaged = [name for name in names if store.path(name).exists() and Digest.of_file(store.path(name)) != name]
    for name in damaged:
        store.evict(name)
    return damaged


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"cannot be made: {error.strerror}", where=str(folder), remedy="choose another --output") from error
