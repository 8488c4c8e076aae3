"""``files:``, and ``add:`` of a model: any other file that the kit carries, from ``https://`` or this machine.

Rules: the manifest says what its sha256 must be, so a server decides nothing but the size; plain HTTP is for the loopback only;
a local file stays where it is and is hashed once, as a model's folder is.
"""

from __future__ import annotations

import functools
from pathlib import Path

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, NetworkError, NotFound, SpecError
from offline_kit.intake.sources.base import Context, FetchTask, on_loopback
from offline_kit.intake.sources.local import digest_of, stat_of
from offline_kit.intake.transfer.download import Advance, download, probe
from offline_kit.intake.transfer.origins import origin
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.lock import LockedExtra
from offline_kit.spec.manifest import FileSpec


def resolve(where: str, entry: FileSpec, digest: Digest, context: Context) -> LockedExtra:
    """The file with its size; ``where``: its place in the manifest. Raises KitError."""
    size = _local(where, entry, context) if entry.local else _remote(where, entry, context)
    return LockedExtra(spec_digest=digest, source=entry.public_source, size=size, sha256=entry.sha256)


def pieces(where: str, locked: LockedExtra, entry: FileSpec, context: Context) -> list[FetchTask]:
    """What has to be downloaded, or hashed to know that it is still the file of the lock."""
    title = _title(where)
    if entry.local:
        file = local_path(locked, entry, context)
        if context.store.cached_digest(file, stat_of(file)) == locked.sha256:
            return []
        return [FetchTask(f"file:{file}", title, locked.size, functools.partial(_compare, file, where, entry, context))]
    if context.store.has(locked.sha256, locked.size):
        return []
    item = DownloadRequest(entry.location, title, locked.sha256, locked.size)
    room = locked.size - context.store.partial_size(locked.sha256)
    return [FetchTask(str(locked.sha256), title, locked.size, functools.partial(_bring, item, context), room)]


def local_path(locked: LockedExtra, entry: FileSpec, context: Context) -> Path:
    """Where the file is, once its piece was brought."""
    return (context.base / entry.location).resolve() if entry.local else context.store.path(locked.sha256)


def _title(where: str) -> str:
    """``files.PATH`` as the kit has it: ``files/PATH``."""
    return where.replace(".", "/", 1)


def _local(where: str, entry: FileSpec, context: Context) -> int:
    file = (context.base / entry.location).resolve()
    if not file.is_file():
        raise NotFound("no such file", where=f"{where} ({file})", remedy="correct 'source'")
    with context.progress.task(_title(where), stat_of(file).st_size) as task:
        digest, size = digest_of(file, context, task.advance)
    if digest != entry.sha256:
        raise _other(where, digest, entry)
    return size


def _remote(where: str, entry: FileSpec, context: Context) -> int:
    try:
        scheme, host, _ = origin(entry.location)
    except ValueError as error:
        raise SpecError(f"its URL {error}", where=where, remedy="correct 'source'") from error
    if scheme == "http" and not on_loopback(host):
        raise SpecError(f"{entry.source!r} is not https://", where=where, remedy="give an https:// URL")
    blob = context.store.path(entry.sha256)
    if blob.exists():
        return blob.stat().st_size
    item = DownloadRequest(entry.location, _title(where), entry.sha256)
    size = probe(context.client, item)
    if size is None:  # only the whole file tells
        download(context.client, context.store, item)
        return blob.stat().st_size
    if size == 0 and entry.sha256 != Digest.of(b""):
        raise NetworkError("the server says that it is empty", where=entry.source)
    return size


def _bring(item: DownloadRequest, context: Context, advance: Advance) -> None:
    download(context.client, context.store, item, advance)


def _compare(file: Path, where: str, entry: FileSpec, context: Context, advance: Advance) -> None:
    digest, _ = digest_of(file, context, advance)
    if digest != entry.sha256:
        raise _other(where, digest, entry)


def _other(where: str, digest: Digest, entry: FileSpec) -> DigestMismatch:
    what = f"has sha256 {digest.hex}, the manifest demands {entry.sha256.hex}"
    return DigestMismatch(what, where=f"{where} ({entry.source})", remedy="correct 'sha256', or do not use this file")
