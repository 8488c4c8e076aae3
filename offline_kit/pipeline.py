"""The hall: one manifest to one proven bundle, step by step.

Rules: each step gets what the one before left in the lock or on disk, and nothing else; the file under its final name is
always one that ``verify`` has read whole; a failed build leaves the store and an earlier bundle as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle import delta
from offline_kit.bundle.carry import carry_unpacker
from offline_kit.bundle.inspect import Head
from offline_kit.bundle.layout import lay_out
from offline_kit.bundle.pack import pack
from offline_kit.bundle.stage import publish, stage
from offline_kit.bundle.verify import Report, verify
from offline_kit.bundle.volumes import json_name
from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, DiskError, LockStale, SpecError
from offline_kit.host.fit import check_target
from offline_kit.host.render import render
from offline_kit.host.services import check_services
from offline_kit.intake.fetch import fetch
from offline_kit.intake.line import Options
from offline_kit.intake.resolve import resolve, resolve_models
from offline_kit.intake.store import Store
from offline_kit.progress import Progress
from offline_kit.spec.lock import Lock, ModelFacts, parse_lock, stale, wanted
from offline_kit.spec.manifest import Manifest, parse_manifest
from offline_kit.spec.names import VERSION

_TRANSFERS = Options()


@dataclass(frozen=True)
class Project:
    """A manifest with the files around it, read once."""

    manifest: Manifest
    folder: Path
    config: dict[str, bytes]
    lock_path: Path
    lock: Lock | None


@dataclass(frozen=True)
class Shape:
    """How a bundle is written: its ``suffix``, in parts of ``split`` bytes, without what the earlier kit ``base`` has."""

    suffix: str = ".tar.gz"
    split: int | None = None
    base: Head | None = None


@dataclass(frozen=True)
class Built:
    """A finished build: the bundle's path (of parts: their .parts.json), its report, and the lock that it was made from."""

    path: Path
    report: Report
    lock: Lock


def open_project(manifest_path: Path) -> Project:
    """Reads and checks a manifest, its two configuration files and its lock. Raises SpecError, DiskError."""
    manifest = parse_manifest(_read(manifest_path, "manifest").decode("utf-8", "replace"), str(manifest_path))
    folder = manifest_path.parent
    config = {
        "models.json": _read(folder / manifest.services, f"'services' of {manifest_path}"),
        "vllm_config.yaml": _read(folder / manifest.engine_config, f"'engine_config' of {manifest_path}"),
    }
    check_services(config, manifest.models.keys(), manifest.accelerator)
    lock_path = manifest_path.with_suffix(".lock.json")
    lock = parse_lock(lock_path.read_text(encoding="utf-8"), str(lock_path)) if lock_path.exists() else None
    return Project(manifest, folder, config, lock_path, lock)


def lock_project(
    project: Project, store: Store, *, keep: Lock | None, jobs: int, options: Options = _TRANSFERS, progress: Progress
) -> Lock:
    """Resolves the manifest and writes the lock beside it. Entries of ``keep`` that still apply are not resolved again."""
    lock = resolve(
        project.manifest, project.folder, project.config, store, keep=keep, jobs=jobs, options=options, progress=progress
    )
    if lock != project.lock:
        _replace(project.lock_path, lock.text())
    return lock


def current_lock(
    project: Project, store: Store, *, locked: bool, jobs: int, options: Options = _TRANSFERS, progress: Progress
) -> Lock:
    """The lock as it is when it is up to date, else a new one; under ``locked`` that is an error (LockStale)."""
    held = project.lock
    changed = stale(held, project.manifest, project.config) if held else []
    if held and not changed:
        return held
    if locked:
        what = f"the lock is stale ({', '.join(changed)} changed)" if held else "there is no lock"
        raise LockStale(what, where=str(project.lock_path), remedy="run 'offline-kit lock' and commit the result")
    return lock_project(project, store, keep=held, jobs=jobs, options=options, progress=progress)


def plan_facts(
    project: Project, store: Store, *, jobs: int, progress: Progress
) -> tuple[dict[str, ModelFacts | None], str | None]:
    """What the GPU plan needs: facts by model, and CUDA of the engine image where a lock names it. Raises KitError.

    From the lock where that still applies; other models are resolved, which reads no weights; nothing is written.
    """
    held = project.lock
    found: dict[str, ModelFacts | None] = {}
    missing = []
    for key in project.manifest.models:
        locked = held.models.get(key) if held else None
        current = locked is not None and locked.wanted == wanted(project.manifest, f"models.{key}")
        if locked is not None and current and locked.facts is not None:
            found[key] = locked.facts
        else:
            missing.append(key)
    resolved = resolve_models(project.manifest, project.folder, store, missing, jobs=jobs, progress=progress)
    found |= {key: model.facts for key, model in resolved.items()}
    engine = held.images.get("engine") if held else None
    return found, engine.environment.get("CUDA_VERSION") if engine else None


def build(
    manifest_path: Path,
    version: str,
    output: Path,
    store: Store,
    *,
    shape: Shape = Shape(),
    locked: bool,
    jobs: int,
    options: Options = _TRANSFERS,
    progress: Progress,
) -> Built:
    """Makes ``output/NAME-VERSION.tar.gz``, or what ``shape`` says. Raises every error of ``offline_kit.errors`` that a
    step can meet."""
    if not VERSION.fullmatch(version):
        raise SpecError(f"not a version: {version!r}", remedy="letters, digits, '.', '_' and '-', 63 at most")
    project = open_project(manifest_path)
    if shape.base and (shape.base.lock.name, shape.base.version) == (project.manifest.name, version):
        raise SpecError(f"{version} is the version of the base itself", remedy="give the new bundle another version")
    lock = current_lock(project, store, locked=locked, jobs=jobs, options=options, progress=progress)
    check_target(project.manifest, lock, project.config)
    top = f"{lock.name}-{version}"
    final = output / f"{top}{'.delta' if shape.base else ''}{shape.suffix}"
    _make_folder(output)
    with store.in_use(), stage(final) as folder:
        for last_try in (False, True):
            blobs = fetch(lock, project.manifest, project.folder, store, jobs=jobs, options=options, progress=progress)
            texts, executables = render(lock, version, project.config)
            entries = lay_out(lock, version, texts, executables)
            if shape.base:
                entries = delta.thin_out(entries, delta.compare(lock, shape.base))
            pack(entries, top, blobs.path, folder / final.name, split=shape.split, progress=progress)
            packed = folder / (json_name(final.name) if shape.split else final.name)
            report = verify(packed, jobs=jobs, progress=progress)
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


def _evict_damaged(lock: Lock, store: Store) -> list[Digest]:
    """Removes the lock's blobs whose bytes are no longer those of their name from the store; returns them."""
    names = list(lock.image_blobs()) + [file.sha256 for model in lock.models.values() for file in model.files]
    names += [extra.sha256 for extra in lock.files.values()]
    damaged = [name for name in names if store.path(name).exists() and Digest.of_file(store.path(name)) != name]
    for name in damaged:
        store.evict(name)
    return damaged


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SpecError(f"no such file ({what})", where=str(path), remedy="'offline-kit init' writes an example") from error
    except OSError as error:
        raise DiskError(f"cannot be read ({what}): {error.strerror}", where=str(path)) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"cannot be made: {error.strerror}", where=str(folder), remedy="choose another --output") from error


def _replace(path: Path, text: str) -> None:
    """Writes ``path`` whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DiskError(f"cannot be written: {error.strerror}", where=str(path)) from error
