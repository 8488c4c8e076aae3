"""``dir://``: a model in a local folder.

Rules: the folder is the store of its own files: nothing is copied; a file is hashed once and not again until its size, times
or inode change; a link that leads out of the folder, or to another folder, is refused, for a bundle carries files only.
A file of the lock that is gone or has other bytes is refused, never locked again unasked: it may be damage. A file that was
added is somebody's decision.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

from offline_kit.common.digest import Digest, Hasher, read_chunks
from offline_kit.common.errors import DigestMismatch, DiskError, Interrupted, NotFound, SpecError
from offline_kit.common.files import disk_error
from offline_kit.intake.models import check_weights, model_card, model_needs, plan_facts, select_files
from offline_kit.intake.sources.base import Context, FetchTask, ModelSource
from offline_kit.intake.transfer.download import Advance
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import ModelSpec
from offline_kit.spec.names import safe_path

_PULL = "git -C {} lfs pull"
_SMALL = 16 << 20  # bytes of a file that is compared at once; larger ones are hashed with the fetch


class FolderSource:
    """Models in local folders."""

    def resolve(self, key: str, entry: ModelSpec, digest: Digest, context: Context) -> LockedModel:
        """Raises KitError."""
        root = _root(entry, context)
        paths = select_files.choose(_walk(root, entry), entry, entry.source)
        sizes = {path: stat_of(root / path).st_size for path in paths}
        with context.progress.task(key, sum(sizes.values())) as task:
            files = tuple(_locked(root, path, context, task.advance) for path in paths)
        for file in files:
            if file.path in entry.sha256 and file.sha256 != entry.sha256[file.path]:
                what = f"has sha256 {file.sha256.hex}, the manifest demands {entry.sha256[file.path].hex}"
                raise DigestMismatch(what, where=str(root / file.path), remedy="correct 'sha256', or do not use this file")
        read = plan_facts.FromDisk(lambda file: root / file.path)
        needs = model_needs.read_needs(files, read, entry.source, _PULL.format(root))
        check_weights.check_model(files, lambda file: root / file.path, entry.source, check_weights.COPIED)
        facts = plan_facts.facts(files, read, context.store, context.client, context.jobs)
        card = model_card.read_card(files, read)
        return LockedModel(spec_digest=digest, source=entry.source, files=files, facts=facts, needs=needs, card=card)

    def facts(self, entry: ModelSpec, context: Context) -> ModelFacts | None:
        """What the GPU plan needs, without hashing the weights. Raises KitError."""
        root = _root(entry, context)
        paths = select_files.choose(_walk(root, entry), entry, entry.source)
        sizes = {path: stat_of(root / path).st_size for path in paths}
        model_needs.refuse_pointers(sizes, lambda path: (root / path).read_bytes(), entry.source, _PULL.format(root))
        check_weights.check_indexes(root, paths, entry.source)
        return plan_facts.facts_in_folder(root, paths)

    def regrouped(self, locked: LockedModel, entry: ModelSpec, context: Context) -> list[str]:
        """Files that a lock of today would name and this one does not, or the other way round.

        Raises DiskError and DigestMismatch where a file of the lock is gone or changed (large ones by their size alone).
        """
        root = _root(entry, context)
        for file in locked.source_files:
            if stat_of(root / file.path).st_size != file.size or file.size <= _SMALL:
                _compare(root, file, context, lambda _amount: None)
        return sorted(
            {file.path for file in locked.source_files} ^ set(select_files.choose(_walk(root, entry), entry, entry.source))
        )

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[FetchTask]:
        """The files that have to be hashed to know that they are still those of the lock."""
        root = _root(entry, context)
        found = []
        for file in locked.files:
            path = root / file.path
            if context.store.cached_digest(path, stat_of(path)) != file.sha256:
                bring = functools.partial(_compare, root, file, context)
                found.append(FetchTask(f"file:{path}", f"{key}: {file.path}", file.size, bring))
        return found

    def local_path(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        return _root(entry, context) / file.path


def _root(entry: ModelSpec, context: Context) -> Path:
    """The folder, absolute and without links; a relative one starts at the manifest. Raises NotFound."""
    root = (context.base / entry.location).resolve()
    if not root.is_dir():
        raise NotFound("no such folder", where=f"{entry.source} ({root})", remedy="correct 'source'")
    return root


def _walk(root: Path, entry: ModelSpec) -> list[str]:
    """The paths of all files below ``root`` that are not excluded.

    Raises SpecError on links that lead out, DiskError on unreadable folders.
    """

    def refuse(error: OSError) -> None:
        raise disk_error(error, root)

    found = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        for name in sorted(folders + files):
            path = Path(folder) / name
            relative = path.relative_to(root).as_posix()
            if select_files.is_excluded(relative, entry):
                if name in folders:
                    folders.remove(name)
                continue
            if path.is_symlink() and (path.is_dir() or not path.resolve().is_relative_to(root)):
                remedy = "replace the link by what it points to (cp -rL makes such a copy of a whole folder)"
                raise SpecError("is a link out of the folder, or to a folder", where=str(path), remedy=remedy)
            if name in folders:
                continue
            if not path.is_file():
                raise SpecError(
                    "is neither a file nor a folder", where=str(path), remedy="remove it, or the link that is broken"
                )
            try:
                found.append(safe_path(relative))
            except ValueError as error:
                raise SpecError(str(error), where=str(root), remedy="rename the file") from error
    return found


def _locked(root: Path, path: str, context: Context, advance: Advance) -> LockedFile:
    digest, size = digest_of(root / path, context, advance)
    return LockedFile(path=path, size=size, sha256=digest)


def _compare(root: Path, file: LockedFile, context: Context, advance: Advance) -> None:
    same = stat_of(root / file.path).st_size == file.size
    if not same or digest_of(root / file.path, context, advance) != (file.sha256, file.size):
        raise DigestMismatch("has changed since the lock was made", where=str(root / file.path), remedy="offline-kit lock")


def digest_of(path: Path, context: Context, advance: Advance) -> tuple[Digest, int]:
    """Digest and size; hashed unless that was done before. Raises DiskError, DigestMismatch (changed meanwhile)."""
    before = stat_of(path)
    known = context.store.cached_digest(path, before)
    if known is not None:
        advance(before.st_size)
        return known, before.st_size
    hasher = Hasher()
    try:
        with path.open("rb", buffering=0) as stream:
            for chunk in read_chunks(stream):
                hasher.update(chunk)
                advance(len(chunk))
                if context.client.stopped.is_set():
                    raise Interrupted("stopped")
    except OSError as error:
        raise disk_error(error, path) from error
    after = stat_of(path)
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or hasher.size != before.st_size:
        raise DigestMismatch("changed while it was read", where=str(path), remedy="run the command again when it is at rest")
    context.store.cache_digest(path, before, hasher.digest())
    return hasher.digest(), hasher.size


def stat_of(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError as error:
        raise DiskError("the file is gone", where=str(path), remedy="put it back, or run 'offline-kit lock'") from error
    except OSError as error:
        raise disk_error(error, path) from error


SOURCE: ModelSource = FolderSource()
