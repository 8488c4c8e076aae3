"""What the hubs of models have in common, once each has told its list of files.

Rules: a path that is not safe is refused before anything is chosen; what the manifest demands by sha256 is compared when the
lock is made; weights that are known to be incomplete are refused then, not on the host; plain HTTP is for the loopback,
or where the manifest says so.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterable

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, NetworkError, SpecError
from offline_kit.intake.models import check_weights, model_card, model_needs, plan_facts, select_files
from offline_kit.intake.sources.base import Context, FetchTask, on_loopback
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.origins import origin
from offline_kit.intake.transfer.request import Advance, DownloadRequest
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.manifest import ModelSpec
from offline_kit.spec.names import COMMIT, safe_path

Item = Callable[[LockedFile], DownloadRequest]


def endpoint(url: str, entry: ModelSpec, variable: str) -> str:
    """``url`` without a final slash. Raises SpecError: not an URL, or plain HTTP where nobody allowed it."""
    remedy = f"correct 'endpoint' or {variable}"
    try:
        scheme, host, _ = origin(url)
        if "?" in url or "#" in url:
            raise ValueError("has a query, which belongs elsewhere")
    except ValueError as error:
        remedy += "; a token belongs into HF_TOKEN, MODELSCOPE_API_TOKEN or OFFLINE_KIT_HUB_TOKENS"
        raise SpecError(f"the hub's URL {error}", where=entry.source, remedy=remedy) from error
    if scheme == "http" and not on_loopback(host) and not entry.insecure:
        remedy += ", or say 'insecure: true' where its network may be trusted"
        raise SpecError(f"the hub's URL {url!r} is not https://", where=entry.source, remedy=remedy)
    return url.rstrip("/")


def choose(paths: Iterable[str], entry: ModelSpec, name: str) -> list[str]:
    """The files that are wanted of those that the hub lists. Raises SpecError."""
    listed = list(paths)
    for path in listed:
        if not select_files.is_wanted(path, entry):
            continue  # what is left out can do no harm
        try:
            safe_path(path)
        except ValueError as error:
            raise SpecError(str(error), where=name, remedy="leave the file out with 'exclude'") from error
    return select_files.choose(listed, entry, name)


def lock(
    entry: ModelSpec,
    digest: Digest,
    place: str,
    commit: str | None,
    files: tuple[LockedFile, ...],
    item: Item,
    context: Context,
) -> LockedModel:
    """The model with these files, of the hub at ``place``; ``item``: how each is downloaded. Raises KitError."""
    name, store = f"{entry.location}@{entry.revision}", context.store
    if commit is not None and not re.fullmatch(COMMIT, commit):
        raise NetworkError(f"the hub names a commit that is none: {ascii(commit)[:80]}", where=name, remedy="is this a hub?")
    for file in files:
        if file.path in entry.sha256 and file.sha256 != entry.sha256[file.path]:
            what = f"has sha256 {file.sha256.hex}, the manifest demands {entry.sha256[file.path].hex}"
            raise DigestMismatch(what, where=f"{name}: {file.path}", remedy="correct 'sha256', or do not use this file")
    read = plan_facts.FromWeb(item, store, context.client)
    needs = model_needs.read_needs(files, read, name, "use another revision, or tell its publisher")
    check_weights.check_model(files, lambda file: store.path(file.sha256) if store.has(file.sha256, file.size) else None, name)
    facts = plan_facts.facts(files, read, store, context.client, context.jobs)
    return LockedModel(
        spec_digest=digest,
        source=entry.source,
        endpoint=place,
        commit=commit,
        files=files,
        facts=facts,
        needs=needs,
        card=model_card.read_card(files, read),
    )


def pieces(key: str, locked: LockedModel, item: Item, context: Context) -> list[FetchTask]:
    """The files that the store lacks."""
    found = []
    for file in locked.files:
        if not context.store.has(file.sha256, file.size):
            request = dataclasses.replace(item(file), title=f"{key}: {file.path}", digest=file.sha256, size=file.size)
            room = file.size - context.store.partial_size(file.sha256)
            found.append(
                FetchTask(str(file.sha256), request.title, file.size, functools.partial(_bring, request, context), room)
            )
    return found


def _bring(item: DownloadRequest, context: Context, advance: Advance) -> None:
    download(context.client, context.store, item, advance)
