"""From a manifest to its lock.

Rules: an entry of the old lock whose manifest entry did not change is taken over without asking anybody, except a local
folder, which is looked at again (only what changed in it is read); configuration files are always taken as they are now;
entries are resolved in the order of the manifest, and the first error ends it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from offline_kit.digest import Digest
from offline_kit.intake.line import Line, Options
from offline_kit.intake.sources import IMAGES, MODELS, file
from offline_kit.intake.sources.base import Context
from offline_kit.intake.store import Store
from offline_kit.progress import Progress, Silent
from offline_kit.spec.lock import Lock, LockedExtra, LockedImage, LockedModel, LockedText, wanted
from offline_kit.spec.manifest import Manifest

_SILENT = Silent()


def resolve(
    manifest: Manifest,
    base: Path,
    config: Mapping[str, bytes],
    store: Store,
    *,
    keep: Lock | None = None,
    jobs: int = 4,
    options: Options = Options(),  # noqa: B008  frozen
    progress: Progress = _SILENT,
) -> Lock:
    """The lock of ``manifest``, which lies in the folder ``base``; ``config``: name -> bytes of its configuration files.

    ``keep``: a lock whose entries are reused where they still fit. Raises KitError.
    """
    with Line(options, jobs) as line:
        context = Context(store, line, base, manifest.platform, progress, jobs)
        images: dict[str, LockedImage] = {}
        for key, image in manifest.images.items():
            digest = wanted(manifest, f"images.{key}")
            held = keep.images.get(key) if keep else None
            if held is None or held.wanted != digest:
                held = IMAGES[image.scheme].resolve(key, image, digest, context)
                progress.note(f"{key}: {image.source} is {held.manifest.digest}")
            images[key] = held
        models: dict[str, LockedModel] = {}
        for key, model in manifest.models.items():
            kept = keep.models.get(key) if keep else None
            if kept is None or kept.wanted != wanted(manifest, f"models.{key}") or model.scheme == "dir":
                kept = _model(manifest, key, context)
            models[key] = kept
        files: dict[str, LockedExtra] = {}
        for path, entry in manifest.files.items():
            extra = keep.files.get(path) if keep else None
            if extra is None or extra.wanted != wanted(manifest, f"files.{path}"):
                extra = file.resolve(path, entry, wanted(manifest, f"files.{path}"), context)
            files[path] = extra
    return Lock(
        name=manifest.name,
        platform=manifest.platform,
        accelerator=manifest.accelerator,
        images=images,
        models=models,
        files=files,
        config={name: LockedText(size=len(data), sha256=Digest.of(data)) for name, data in config.items()},
    )


def resolve_models(
    manifest: Manifest,
    base: Path,
    store: Store,
    keys: Iterable[str],
    *,
    jobs: int = 4,
    options: Options = Options(),  # noqa: B008  frozen
    progress: Progress = _SILENT,
) -> dict[str, LockedModel]:
    """Some of the models alone, for a question that needs no images. Raises KitError."""
    with Line(options) as line:
        context = Context(store, line, base, manifest.platform, progress, jobs)
        return {key: _model(manifest, key, context) for key in keys}


def _model(manifest: Manifest, key: str, context: Context) -> LockedModel:
    entry = manifest.models[key]
    locked = MODELS[entry.scheme].resolve(key, entry, wanted(manifest, f"models.{key}"), context)
    context.progress.note(f"{key}: {entry.source} is {locked.commit or f'{len(locked.files)} files'}")
    return locked
