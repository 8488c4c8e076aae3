"""From a manifest to its lock.

Rules: an entry of the old lock whose manifest entry did not change is taken over without asking anybody, except a local
folder, which is looked at again (only what changed in it is read); configuration files are always taken as they are now;
entries are resolved in the order of the manifest, and the first error ends it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from offline_kit.common import concurrency
from offline_kit.common.digest import Digest
from offline_kit.intake.added_files import with_added
from offline_kit.intake.convert.convert import convert_model
from offline_kit.intake.session import Session
from offline_kit.intake.sources import IMAGES, MODELS, file
from offline_kit.intake.sources.base import Context, LocalFiles, UnhashedFacts, open_context
from offline_kit.intake.store.space import require_space
from offline_kit.spec.lock import Lock, LockedExtra, LockedImage, LockedModel, LockedText, spec_digest
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.lock_fit import check_names, fits
from offline_kit.spec.manifest import Manifest
from offline_kit.spec.names import converted_name


def resolve(
    manifest: Manifest,
    base: Path,
    config: Mapping[str, bytes],
    session: Session,
    *,
    keep: Lock | None = None,
    before_conversion: Callable[[str, LockedModel], None] | None = None,
) -> Lock:
    """The lock of ``manifest``, which lies in the folder ``base``; ``config``: name -> bytes of its configuration files.

    ``keep``: a lock whose entries are reused where they still fit; ``before_conversion``: is asked about a model, by its key,
    before its weights are fetched for that. Raises KitError.
    """
    with open_context(session, base, manifest.platform) as context:
        images: dict[str, LockedImage] = {}
        for key, image in manifest.images.items():
            digest = spec_digest(manifest, f"images.{key}")
            locked = keep.images.get(key) if keep and fits(keep, manifest, f"images.{key}") else None
            if locked is None:
                locked = IMAGES[image.scheme].resolve(key, image, digest, context)
                context.progress.note(f"{key}: {image.source} is {locked.manifest.digest}")
            images[key] = locked
        models: dict[str, LockedModel] = {}
        for key, model in manifest.models.items():
            kept = keep.models.get(key) if keep and fits(keep, manifest, f"models.{key}") else None
            if kept is None or model.scheme == "dir":
                found = _model(manifest, key, context)
                if model.convert and before_conversion:
                    before_conversion(key, found)
                kept = with_added(key, _converted(manifest, key, found, context), model, context)
            models[key] = kept
        files: dict[str, LockedExtra] = {}
        for path, entry in manifest.files.items():
            extra = keep.files.get(path) if keep and fits(keep, manifest, f"files.{path}") else None
            if extra is None:
                extra = file.resolve(f"files.{path}", entry, spec_digest(manifest, f"files.{path}"), context)
            files[path] = extra
    lock = Lock(
        name=manifest.name,
        platform=manifest.platform,
        accelerator=manifest.accelerator,
        images=images,
        models=models,
        files=files,
        config={name: LockedText(size=len(data), sha256=Digest.of(data)) for name, data in config.items()},
    )
    check_names(lock)
    return lock


def resolve_facts(manifest: Manifest, base: Path, keys: Iterable[str], session: Session) -> dict[str, ModelFacts | None]:
    """What the GPU plan needs of some models, which needs no images and no weights. Raises KitError."""
    with open_context(session, base, manifest.platform) as context:
        return {key: _facts(manifest, key, context) for key in keys}


def regrouped_models(manifest: Manifest, base: Path, lock: Lock, session: Session) -> dict[str, list[str]]:
    """Local models that hold files which ``lock`` does not name, or holds as wanted what no longer is: key -> those files.

    Raises KitError, also where a file that the lock names is gone or changed.
    """
    found: dict[str, list[str]] = {}
    with open_context(session, base, manifest.platform) as context:
        for key, entry in manifest.models.items():
            source = MODELS[entry.scheme]
            if isinstance(source, LocalFiles) and (files := source.regrouped(lock.models[key], entry, context)):
                found[key] = files
    return found


def _facts(manifest: Manifest, key: str, context: Context) -> ModelFacts | None:
    entry = manifest.models[key]
    source = MODELS[entry.scheme]
    if isinstance(source, UnhashedFacts):  # a hub tells digests, a folder would have to be hashed for them
        return source.facts(entry, context)
    return _model(manifest, key, context).facts


def _converted(manifest: Manifest, key: str, locked: LockedModel, context: Context) -> LockedModel:
    """The model with safetensors for its pickled weights, where the manifest says so: they are brought for that."""
    entry = manifest.models[key]
    if entry.convert is None:
        return locked
    source = MODELS[entry.scheme]
    weights = tuple(file for file in locked.files if converted_name(file.path))
    pieces = source.pieces(key, locked.model_copy(update={"files": weights}), entry, context)
    with context.progress.task(f"{key}: weights to convert", sum(piece.size for piece in pieces), len(pieces)) as task:
        require_space(context.store, sum(piece.room for piece in pieces), "weights to convert")
        concurrency.run_all([functools.partial(piece.run, task.advance) for piece in pieces], context.jobs, context.client.stop)
    return convert_model(key, locked, lambda file: source.local_path(file, entry, context), context.store, context.progress)


def _model(manifest: Manifest, key: str, context: Context) -> LockedModel:
    entry = manifest.models[key]
    locked = MODELS[entry.scheme].resolve(key, entry, spec_digest(manifest, f"models.{key}"), context)
    context.progress.note(f"{key}: {entry.source} is {locked.commit or f'{len(locked.files)} files'}")
    return locked
