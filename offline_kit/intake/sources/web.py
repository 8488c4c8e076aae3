"""What the hubs of models have in common, once each has told its list of files.

Rules: a path that is not safe is refused before anything is chosen; what the manifest demands by sha256 is compared when the
lock is made; weights that are known to be incomplete are refused then, not on the host; plain HTTP is for the loopback
only.
"""

from __future__ import annotations

import dataclasses
import functools
import urllib.parse
from collections.abc import Callable, Iterable

from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, SpecError
from offline_kit.intake import headers, safetensors, weights
from offline_kit.intake.item import Advance, Download
from offline_kit.intake.sources.base import Context, Piece, on_loopback
from offline_kit.intake.transfer import download
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.manifest import ModelSpec
from offline_kit.spec.names import safe_path

Item = Callable[[LockedFile], Download]


def endpoint(url: str, entry: ModelSpec, variable: str) -> str:
    """``url`` without a final slash. Raises SpecError on plain HTTP beyond the loopback."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and on_loopback(parts.netloc)):
        remedy = f"correct 'endpoint' or {variable}"
        raise SpecError(f"the hub's URL {url!r} is not https://", where=entry.source, remedy=remedy)
    return url.rstrip("/")


def choose(paths: Iterable[str], entry: ModelSpec, name: str) -> list[str]:
    """The files that are wanted of those that the hub lists. Raises SpecError."""
    listed = list(paths)
    for path in listed:
        try:
            safe_path(path)
        except ValueError as error:
            raise SpecError(str(error), where=name, remedy="leave the file out with 'exclude'") from error
    return weights.choose(listed, entry, name)


def lock(
    entry: ModelSpec,
    wanted: Digest,
    place: str,
    commit: str | None,
    files: tuple[LockedFile, ...],
    item: Item,
    context: Context,
) -> LockedModel:
    """The model with these files, of the hub at ``place``; ``item``: how each is downloaded. Raises KitError."""
    name, store = f"{entry.location}@{entry.revision}", context.store
    for file in files:
        if file.path in entry.sha256 and file.sha256 != entry.sha256[file.path]:
            what = f"has sha256 {file.sha256.hex}, the manifest demands {entry.sha256[file.path].hex}"
            raise DigestMismatch(what, where=f"{name}: {file.path}", remedy="correct 'sha256', or do not use this file")
    safetensors.check_model(files, lambda file: store.path(file.sha256) if store.has(file.sha256, file.size) else None, name)
    facts = headers.facts(files, headers.from_web(item, store, context.line), store, context.line, context.jobs)
    return LockedModel(wanted=wanted, source=entry.source, endpoint=place, commit=commit, files=files, facts=facts)


def pieces(key: str, locked: LockedModel, item: Item, context: Context) -> list[Piece]:
    """The files that the store lacks."""
    found = []
    for file in locked.files:
        if not context.store.has(file.sha256, file.size):
            wish = dataclasses.replace(item(file), title=f"{key}: {file.path}", digest=file.sha256, size=file.size)
            found.append(Piece(str(file.sha256), wish.title, file.size, functools.partial(_bring, wish, context)))
    return found


def _bring(item: Download, context: Context, advance: Advance) -> None:
    download(context.line, context.store, item, advance)
