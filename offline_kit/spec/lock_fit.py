"""Whether a lock fits a manifest: asked before a lock is used for anything.

Rules: a lock is written by a machine and seldom reviewed, so nothing in it is believed that the manifest says otherwise: each
demand (``digest``, ``sha256``), the source, the name of an image, the endpoint and the commit are held against it, not only the
digest that ties an entry to the manifest. Where bytes came from is no part of what they are: a lock's ``endpoint`` is a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.spec.document import Frozen
from offline_kit.spec.lock import Lock, LockedExtra, LockedImage, LockedModel, spec_digest
from offline_kit.spec.manifest import FileSpec, ImageSpec, Manifest, ModelSpec
from offline_kit.spec.names import COMMIT, PICKLES, converted_name, matches, same_names


def stale(lock: Lock, manifest: Manifest, config: Mapping[str, bytes]) -> list[str]:
    """What of the lock does not follow from the manifest and its configuration files, by name; empty: it fits."""
    names = [field for field in ("name", "platform", "accelerator") if getattr(lock, field) != getattr(manifest, field)]
    for group in ("images", "models", "files"):
        wanted: Mapping[str, Frozen] = getattr(manifest, group)
        locked: Mapping[str, Frozen] = getattr(lock, group)
        names += [f"{group}.{key}" for key in sorted(locked.keys() - wanted.keys())]
        names += [f"{group}.{key}" for key in wanted if not fits(lock, manifest, f"{group}.{key}")]
    for file, content in config.items():
        if file not in lock.config or lock.config[file].sha256 != Digest.of(content):
            names.append(f"config/{file}")
    return names + [f"config/{file}" for file in sorted(lock.config.keys() - config.keys())]


def fits(lock: Lock, manifest: Manifest, key: str) -> bool:
    """Whether the lock's entry ``key`` (images.KEY, models.KEY, files.PATH) is one that the manifest's entry allows."""
    group, _, name = key.partition(".")
    locked = getattr(lock, group).get(name)
    if locked is None or locked.spec_digest != spec_digest(manifest, key):
        return False
    if isinstance(locked, LockedImage):
        return image_fits(locked, manifest.images[name])
    if isinstance(locked, LockedModel):
        return model_fits(locked, manifest.models[name])
    return isinstance(locked, LockedExtra) and file_fits(locked, manifest.files[name])


def image_fits(locked: LockedImage, entry: ImageSpec) -> bool:
    """Source, name and every digest that the manifest demands of an image."""
    known = {locked.index, locked.manifest.digest}
    if entry.scheme != "docker":
        known.add(locked.config.digest)  # an engine of this machine knows an image by this one
    demands = [entry.digest] if entry.digest else []
    if entry.scheme == "docker" and entry.reference.digest:
        demands.append(Digest(entry.reference.digest))
    same = locked.source == entry.source and locked.reference == entry.reference.tagged
    return same and all(demand in known for demand in demands)


def model_fits(locked: LockedModel, entry: ModelSpec) -> bool:
    """Source, endpoint, commit and the files of a model."""
    if locked.source != entry.source or (entry.endpoint and locked.endpoint != entry.endpoint.rstrip("/")):
        return False
    if entry.scheme == "dir" and (locked.endpoint or locked.commit):
        return False
    if entry.scheme == "hf" and locked.commit is None:
        return False
    if re.fullmatch(COMMIT, entry.revision) and locked.commit not in (None, entry.revision):
        return False
    if bool(locked.converted) != (entry.convert is not None) or not _results_fit(locked) or not _added_fit(locked, entry):
        return False
    files = {file.path: file.sha256 for file in locked.source_files}
    demanded = all(files.get(path) == digest for path, digest in entry.sha256.items())
    return demanded and len(files) == len(locked.source_files) and all(_chosen(path, entry) for path in files)


def _added_fit(locked: LockedModel, entry: ModelSpec) -> bool:
    """What was added is what the manifest demands, and is among the files as that."""
    files = {file.path: (file.size, file.sha256) for file in locked.files}
    same = locked.added.keys() == entry.added.keys()
    return same and all(
        file_fits(extra, entry.added[path]) and files.get(path) == (extra.size, extra.sha256)
        for path, extra in locked.added.items()
    )


def _results_fit(locked: LockedModel) -> bool:
    """What was converted has the one name that follows from its source, and is among the files; the source is not."""
    files = set(locked.files)
    return all(
        pair.result.path == converted_name(pair.source.path) and pair.result in files and pair.source not in files
        for pair in locked.converted
    )


def _chosen(path: str, entry: ModelSpec) -> bool:
    included = not entry.include or matches(path, entry.include)
    allowed = entry.allow_pickle or PurePosixPath(path).suffix.lower() not in PICKLES
    allowed = allowed or (entry.convert is not None and converted_name(path) is not None)
    return included and allowed and not matches(path, entry.exclude)


def file_fits(locked: LockedExtra, entry: FileSpec) -> bool:
    """Source and digest of a further file."""
    return locked.source == entry.public_source and locked.sha256 == entry.sha256


def check_names(lock: Lock) -> None:
    """No two files of a model, or below files/, have names that are one on some host. Raises SpecError."""
    groups = {f"models.{key}": [file.path for file in model.files] for key, model in lock.models.items()}
    for where, paths in {**groups, "files": list(lock.files)}.items():
        if pair := same_names(paths):
            raise SpecError(
                f"{pair[0]!r} and {pair[1]!r} are one name on some hosts",
                where=where,
                remedy="leave one out with 'exclude'" if where != "files" else "rename one",
            )
