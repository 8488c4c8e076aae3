"""``files:``: any other file that the kit carries, from ``https://`` or this machine.

Rules: the manifest says what its sha256 must be, so a server decides nothing but the size; plain HTTP is for the loopback only;
a local file stays where it is and is hashed once, as a model's folder is.
"""

from __future__ import annotations

import functools
import urllib.parse
from pathlib import Path

from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, NetworkError, NotFound, SpecError
from offline_kit.intake.item import Download
from offline_kit.intake.sources.base import Context, Piece, on_loopback
from offline_kit.intake.sources.local import digest_of, stat_of
from offline_kit.intake.transfer import Advance, download, probe
from offline_kit.spec.lock import LockedExtra
from offline_kit.spec.manifest import FileSpec


def resolve(path: str, entry: FileSpec, wanted: Digest, context: Context) -> LockedExtra:
    """The file with its size. Raises KitError."""
    size = _local(path, entry, context) if entry.local else _remote(path, entry, context)
    return LockedExtra(wanted=wanted, source=entry.source, size=size, sha256=entry.sha256)


def pieces(path: str, locked: LockedExtra, entry: FileSpec, context: Context) -> list[Piece]:
    """What has to be downloaded, or hashed to know that it is still the file of the lock."""
    title = f"files/{path}"
    if entry.local:
        file = place(locked, entry, context)
        if context.store.recall(file, stat_of(file)) == locked.sha256:
            return []
        return [Piece(f"file:{file}", title, locked.size, functools.partial(_compare, file, path, entry, context))]
    if context.store.has(locked.sha256, locked.size):
        return []
    item = Download(entry.location, title, locked.sha256, locked.size)
    return [Piece(str(locked.sha256), title, locked.size, functools.partial(_bring, item, context))]


def place(locked: LockedExtra, entry: FileSpec, context: Context) -> Path:
    """Where the file is, once its piece was brought."""
    return (context.base / entry.location).resolve() if entry.local else context.store.path(locked.sha256)


def _local(path: str, entry: FileSpec, context: Context) -> int:
    file = (context.base / entry.location).resolve()
    if not file.is_file():
        raise NotFound("no such file", where=f"files.{path} ({file})", remedy="correct 'source'")
    with context.progress.task(f"files/{path}", stat_of(file).st_size) as task:
        digest, size = digest_of(file, context, task.advance)
    if digest != entry.sha256:
        raise _other(path, digest, entry)
    return size


def _remote(path: str, entry: FileSpec, context: Context) -> int:
    parts = urllib.parse.urlsplit(entry.location)
    if parts.scheme == "http" and not on_loopback(parts.netloc):
        raise SpecError(f"{entry.source!r} is not https://", where=f"files.{path}", remedy="give an https:// URL")
    held = context.store.path(entry.sha256)
    if held.exists():
        return held.stat().st_size
    item = Download(entry.location, f"files/{path}", entry.sha256)
    size = probe(context.line, item)
    if size is None:  # only the whole file tells
        download(context.line, context.store, item)
        return held.stat().st_size
    if size == 0 and entry.sha256 != Digest.of(b""):
        raise NetworkError("the server says that it is empty", where=entry.source)
    return size


def _bring(item: Download, context: Context, advance: Advance) -> None:
    download(context.line, context.store, item, advance)


def _compare(file: Path, path: str, entry: FileSpec, context: Context, advance: Advance) -> None:
    digest, _ = digest_of(file, context, advance)
    if digest != entry.sha256:
        raise _other(path, digest, entry)


def _other(path: str, digest: Digest, entry: FileSpec) -> DigestMismatch:
    what = f"has sha256 {digest.hex}, the manifest demands {entry.sha256.hex}"
    return DigestMismatch(what, where=f"files.{path} ({entry.source})", remedy="correct 'sha256', or do not use this file")
