"""From a manifest to its lock, and what speaks against serving what it names.

Rules: an entry that still applies is not resolved again; under ``--locked`` nothing is written and nothing resolved; what no
engine could start with is refused before any weights are fetched.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from offline_kit.common.errors import LockStale, SpecError
from offline_kit.common.files import replace_file
from offline_kit.common.redact import find_secret
from offline_kit.common.units import size
from offline_kit.host.target_check import check_target, engine_image, refused_numbers
from offline_kit.intake.fetch import fetch_image
from offline_kit.intake.images.engine_facts import engine_facts
from offline_kit.intake.models import findings
from offline_kit.intake.resolve import regrouped_models, resolve, resolve_facts
from offline_kit.intake.session import Session
from offline_kit.intake.sources.image_layers import can_be_read, contents_of
from offline_kit.project import Project
from offline_kit.runtime.gpu_plan.evaluate import Image
from offline_kit.spec.lock import Lock, LockedModel, parse_lock
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.lock_fit import fits, stale
from offline_kit.spec.policy_check import check_policy


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
    lock = _as_read(project, lock)
    check_policies(project, lock)
    check_models(project, lock, session)
    if lock != project.lock:
        refuse_secrets({project.lock_path.name: lock.text()})
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
    found += findings.empty_images(lock) if said is None else ()
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
            model.code,
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
    completed = _as_read(project, _with_engine_facts(lock, project, session))
    if completed == lock:
        return lock
    if not locked:
        refuse_secrets({project.lock_path.name: completed.text()})
        replace_file(project.lock_path, completed.text().encode())
    check_models(project, completed, session, said=lock)
    warn_of_target(project, completed, session, said=lock)
    return lock if locked else completed


def warn_of_target(project: Project, lock: Lock, session: Session, *, said: Lock | None = None) -> None:
    """Warns of what may not run on the manifest's target, but for what was said of ``said``. Raises SpecError."""
    settings = project.services.settings
    known = check_target(project.manifest, said, settings) if said else ()
    for line in check_target(project.manifest, lock, settings):
        if line not in known:
            session.progress.note(f"warning: {line}")


def _with_engine_facts(lock: Lock, project: Project, session: Session) -> Lock:
    """``lock`` with what the layers of its engine image say; a lock of an earlier version knows versions alone."""
    image = lock.images["engine"]
    if not is_unread(lock):
        return lock
    if not can_be_read(session.store, image.layers):
        fetch_image("engine", image, project.manifest, project.folder, session)
    facts = engine_facts(contents_of(session.store, image.layers, "engine"))
    if facts is None or facts == image.engine:
        return lock
    return lock.model_copy(update={"images": {**lock.images, "engine": image.model_copy(update={"engine": facts})}})


def _as_read(project: Project, lock: Lock) -> Lock:
    """``lock`` as whoever reads its file has it: in the order of the file, not of the manifest, so that a first build has the
    bytes of every later one."""
    return parse_lock(lock.text(), project.lock_path.name)


def is_unread(lock: Lock) -> bool:
    """Whether it is not known what the engine image holds."""
    facts = lock.images["engine"].engine
    return facts is None or not facts.architectures


def unserved_models(project: Project) -> list[str]:
    """A line for each model of the manifest that models.json does not serve, with the entry to add."""
    return [str(finding) for finding in findings.unserved(project.manifest.models, _services(project))]


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


def refuse_secrets(texts: Mapping[str, str | bytes]) -> None:
    """A last search before anything is passed on. Raises SpecError: a secret of this run stands in a file."""
    for name, text in texts.items():
        place = find_secret(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        if place is not None:
            what = f"a password or token that this run uses stands in it ({place}), and would be passed on"
            raise SpecError(what, where=name, remedy="take it out of the manifest and its configuration, and change it")
