"""What a bundle holds: every file with its path, size, digest and mode, in the order of the archive.

Rules: pure; the same lock, version, texts and offline-kit give the same entries; everything that follows from the lock is made
here, so that ``verify`` can make it again and compare; SHA256SUMS is written from digests that are already known.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from offline_kit import __version__
from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import contents_of
from offline_kit.bundle.format.oci_layout import layout_files
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, SpecError
from offline_kit.spec.lock import Lock
from offline_kit.spec.names import VERSION, safe_path, shell_name

MADE_BY = f"offline-kit {__version__}"
_NOT_FREE = (paths.IMAGES, paths.MODELS, paths.FILES, paths.DELTA, paths.ENV, paths.STATE)


@dataclass(frozen=True)
class Entry:
    """One file of the bundle. ``path`` is relative to the top folder; ``content`` None: a blob, opened by its digest."""

    path: str
    size: int
    digest: Digest
    mode: int
    content: bytes | None


def lay_out(lock: Lock, version: str, texts: Mapping[str, bytes], executables: Collection[str]) -> tuple[Entry, ...]:
    """Every file of the bundle in the order of the archive.

    ``texts``: the small files that do not follow from the lock, by path; ``executables``: those that get mode 755.
    Raises SpecError (a version, path or tag that cannot be used) and DigestMismatch (a configuration file is not the lock's).
    """
    if not VERSION.fullmatch(version):
        raise SpecError(f"not a version: {version!r}", remedy="use up to 63 letters, digits, '.', '_' and '-'")
    _check_texts(lock, texts, executables)
    blobs = {paths.blob(blob.digest): (blob.size, blob.digest) for blob in lock.image_blobs().values()}
    for key, model in lock.models.items():
        blobs |= {paths.model_file(key, file.path): (file.size, file.sha256) for file in model.files}
    blobs |= {paths.extra_file(path): (extra.size, extra.sha256) for path, extra in lock.files.items()}
    named = {*texts, paths.LOCK, *derived_texts(lock, version, MADE_BY, 0), *blobs}
    small = {**texts, paths.LOCK: lock.text().encode(), **derived_texts(lock, version, MADE_BY, len(named))}
    entries = [Entry(path, size, digest, 0o644, None) for path, (size, digest) in blobs.items()]
    entries += [small_entry(path, content, path in executables) for path, content in small.items()]
    entries.append(small_entry(paths.SUMS, sums_text((entry.path, entry.digest) for entry in entries)))
    _check_nesting([entry.path for entry in entries])
    return in_order(entries)


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """As they follow each other in the archive."""
    return tuple(sorted(entries, key=lambda entry: paths.place(entry.path)))


def derived_texts(lock: Lock, version: str, made_by: str, files: int) -> dict[str, bytes]:
    """The small files that follow from the lock and the version; ``files``: how many SHA256SUMS names."""
    contents = contents_of(lock, version, made_by, files)
    return {
        **layout_files(lock),
        paths.BUNDLE: contents.text().encode(),
        paths.KIT_ENV: _kit_env(lock, version, files).encode(),
    }


def sums_text(files: Iterable[tuple[str, Digest]]) -> bytes:
    """SHA256SUMS as coreutils and BusyBox check it, sorted by path in byte order."""
    return "".join(f"{digest.hex}  {path}\n" for path, digest in sorted(files, key=lambda file: file[0].encode())).encode()


def small_entry(path: str, content: bytes, executable: bool = False) -> Entry:
    """A file whose content is at hand."""
    return Entry(path, len(content), Digest.of(content), 0o755 if executable else 0o644, content)


def _kit_env(lock: Lock, version: str, files: int) -> str:
    tags: dict[str, str] = {}
    for key, image in sorted(lock.images.items()):
        name = f"KIT_IMAGE_{shell_name(key)}"
        if name in tags:
            raise SpecError(f"two images would both be {name} for the scripts", where=f"images.{key}", remedy="rename one key")
        tags[name] = image.tag(key)
    facts: dict[str, str | int] = {
        "KIT_FORMAT": paths.FORMAT,
        "KIT_NAME": lock.name,
        "KIT_VERSION": version,
        "KIT_PLATFORM": lock.platform,
        "KIT_ACCELERATOR": lock.accelerator,
        "KIT_IMAGES": ",".join(sorted(lock.images)),
        **tags,
        "KIT_IMAGES_BYTES": sum(blob.size for blob in lock.image_blobs().values()),
        "KIT_MODELS_BYTES": sum(model.size for model in lock.models.values()),
        "KIT_EXTRA_BYTES": sum(extra.size for extra in lock.files.values()),
        "KIT_FILES": files,
    }
    return "".join(f"{name}={value}\n" for name, value in facts.items())


def _check_texts(lock: Lock, texts: Mapping[str, bytes], executables: Collection[str]) -> None:
    made_here = {paths.SUMS, paths.LOCK, *derived_texts(lock, "0", MADE_BY, 0)}
    for path in texts:
        try:
            safe_path(path)
        except ValueError as error:
            raise SpecError(str(error), where="files of the kit") from error
        if path in made_here or path.split("/")[0] in _NOT_FREE:
            raise SpecError("this path is not free for a file of the kit", where=path)
    if unknown := set(executables) - set(texts):
        raise SpecError(f"no such file to be executable: {', '.join(sorted(unknown))}", where="files of the kit")
    for name, locked in lock.config.items():
        path = f"{paths.CONFIG}/{name}"
        if Digest.of(texts.get(path, b"")) != locked.sha256:
            remedy = "run 'offline-kit lock' to take the file as it is now into the lock"
            raise DigestMismatch(f"is missing or not the file of the lock ({locked.sha256})", where=path, remedy=remedy)


def _check_nesting(files: Collection[str]) -> None:
    """No path is both a file and a folder."""
    folders = {name.strip("/") for name in paths.with_folders("", files) if name.endswith("/")}
    if both := sorted(folders & set(files)):
        raise SpecError("is both a file and a folder", where=both[0])
