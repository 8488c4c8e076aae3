"""``hf://``: models of a Hugging Face hub.

Rules: the hub that is asked is the manifest's ``endpoint``, HF_ENDPOINT or the public one, and no other (``hub_api``); its
login comes from huggingface_hub, bytes through our own transfer. The sha256 of every LFS file is demanded as the hub tells
it; of a small file the hub tells git's blob id only: it is fetched at resolve time, compared with that, and its sha256 taken
on the way; a file of which the hub tells neither is refused, unless the manifest says its sha256. Plain HTTP is for a hub on
the loopback, or where the manifest says ``insecure``.
"""

from __future__ import annotations

import dataclasses
import functools
import http.client
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from huggingface_hub import constants, get_token

from offline_kit.common import concurrency
from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DiskError, KitError, NetworkError, NotFound, SpecError
from offline_kit.intake.sources.base import Context, FetchTask, ModelSource
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.sources.hubs import hub_common, hub_tokens
from offline_kit.intake.sources.hubs.hub_api import HubApi, HubFile, from_headers
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_errors import refusal, server_words
from offline_kit.intake.transfer.messages import Reply
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.manifest import ModelSpec

_NAME = re.compile(r"(?!.*(?:--|\.\.))(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*", re.ASCII)
_LONGEST_NAME = 96
_PUBLIC = "https://huggingface.co"


class HubSource:
    """Models of a hub."""

    def resolve(self, key: str, entry: ModelSpec, digest: Digest, context: Context) -> LockedModel:
        """Raises KitError."""
        if not _NAME.fullmatch(entry.location) or len(entry.location) > _LONGEST_NAME:
            raise SpecError(f"not the name of a repository: {entry.location!r}", where=entry.source, remedy="hf://OWNER/NAME")
        endpoint, name = hub_url(entry), f"{entry.location}@{entry.revision}"
        if constants.HF_HUB_OFFLINE:
            raise NetworkError("HF_HUB_OFFLINE is set", where=endpoint, remedy="unset it to resolve models")
        explain = functools.partial(_explain_answer, entry, endpoint)
        api = HubApi(context.client, endpoint, entry.location, _login(endpoint), explain)
        model = api.model(entry.revision)
        if model.name != entry.location:
            remedy = f"write hf://{model.name} in the manifest: see {endpoint}/{model.name}"
            raise NotFound(f"is called {model.name} now", where=entry.location, remedy=remedy)
        listed = {file.path: file for file in api.files(model.commit, context.progress.note)}
        work = [
            functools.partial(self._lock, entry, endpoint, model.commit, listed[path], context)
            for path in hub_common.choose(listed, entry, name)
        ]
        files = tuple(concurrency.run_all(work, context.jobs, context.client.stop))
        item = functools.partial(_item, entry, endpoint, model.commit)
        return hub_common.lock(entry, digest, endpoint, model.commit, files, item, context)

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[FetchTask]:
        """The files that the store lacks."""
        item = functools.partial(_item, entry, hub_url(entry), locked.commit or "")
        return hub_common.pieces(key, locked, item, context)

    def local_path(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        return context.store.path(file.sha256)

    def _lock(self, entry: ModelSpec, endpoint: str, commit: str, reported: HubFile, context: Context) -> LockedFile:
        """The file with its sha256, fetched if the hub does not tell it."""
        request = _download(entry, endpoint, commit, reported.path)
        file = dataclasses.replace(reported, sha256=reported.sha256 or entry.sha256.get(reported.path))
        if file.size is None or (file.sha256 is None and file.blob_id is None):
            file = _probe(file, request, context)
        if file.size is not None and file.sha256 is not None:
            return LockedFile(path=file.path, size=file.size, sha256=file.sha256)
        if file.size is None or file.blob_id is None:
            what = f"the hub does not tell {'the size' if file.size is None else 'sha256 or git blob id'} of {file.path}"
            remedy = "write its sha256 under 'sha256' of the manifest, 'exclude' it, or name another hub as 'endpoint'"
            raise NotFound(what, where=entry.location, remedy=remedy)
        memo = f"git:{file.blob_id}"
        previous = context.store.get_memo(memo)
        if previous is None or not context.store.has(Digest(previous), file.size):
            request = dataclasses.replace(request, size=file.size, git_blob=file.blob_id)
            previous = str(download(context.client, context.store, request))
            context.store.put_memo(memo, previous)
        return LockedFile(path=file.path, size=file.size, sha256=Digest(previous))


def _probe(file: HubFile, request: DownloadRequest, context: Context) -> HubFile:
    """The file with what the headers of its own answer tell. Raises KitError."""

    def attempt() -> HubFile:
        headers = {**request.headers, "Range": "bytes=0-0"}
        with context.client.get(request.url, headers, request.auth) as response:
            if response.status_code not in (200, 206, 416):
                raise request.refuse(response)
            length = {"X-Linked-Size": response.headers.get("Content-Length", "")} if response.status_code == 200 else {}
            return from_headers(file, [*(item.headers for item in response.history), response.headers, length])

    return context.client.retrying(request.url, attempt)


def hub_url(entry: ModelSpec) -> str:
    """The hub's URL. Raises SpecError."""
    return hub_common.endpoint(entry.endpoint or os.environ.get("HF_ENDPOINT") or _PUBLIC, entry, "HF_ENDPOINT")


def _trusted_endpoints() -> tuple[str, ...]:
    """The hubs that HF_TOKEN is for."""
    return (os.environ.get("HF_ENDPOINT") or _PUBLIC, _PUBLIC)


def _login(endpoint: str) -> Fixed | None:
    try:
        token = get_token()
    except (OSError, ValueError) as error:
        raise DiskError(f"the token of 'hf auth login' cannot be read: {error}", where=constants.HF_TOKEN_PATH) from error
    return hub_tokens.login(endpoint, token, "HF_TOKEN", _trusted_endpoints())


def _advice(endpoint: str, whose: str = "a token of that account") -> str:
    return hub_tokens.advice(endpoint, "HF_TOKEN", _trusted_endpoints(), whose)


def _item(entry: ModelSpec, endpoint: str, commit: str, file: LockedFile) -> DownloadRequest:
    return _download(entry, endpoint, commit, file.path)


def _download(entry: ModelSpec, endpoint: str, commit: str, path: str) -> DownloadRequest:
    return DownloadRequest(
        url=f"{endpoint}/{entry.location}/resolve/{commit}/{urllib.parse.quote(path)}",
        title=f"{entry.location}: {path}",
        auth=_login(endpoint),
        explain=functools.partial(_explain, entry.location, endpoint),
    )


def _explain_answer(entry: ModelSpec, endpoint: str, reply: Reply) -> KitError:
    """The error for a refused question: the hub says in a header what is missing."""
    page, name, code, status = f"{endpoint}/{entry.location}", entry.location, reply.headers.get("X-Error-Code"), reply.status
    if code == "GatedRepo":
        return _gated(name, endpoint)
    if code == "RevisionNotFound":
        remedy = f"see {page}/commits/main for the revisions there are"
        return NotFound(f"has no revision '{entry.revision}'", where=name, remedy=remedy)
    if code == "RepoNotFound":
        remedy = f"check the name at {page}; if it is private, {_advice(endpoint)}"
        return NotFound("the hub has no such repository, or does not show it to us", where=name, remedy=remedy)
    if status in (401, 403):
        remedy = _advice(endpoint, f"a token that may read {page}")
        said = reply.headers.get("X-Error-Message") or server_words(reply.body)
        what = f"the hub refuses (HTTP {status})" + (f": {said[:200]}" if said else "")
        return AccessDenied(what, where=name, remedy=remedy)
    if status == 404:
        return NotFound("the hub has no such repository or revision", where=name, remedy=f"check {page}")
    return refusal(status, http.client.responses.get(status, ""), "its description", page, server_words(reply.body))


def _explain(repository: str, endpoint: str, status: int, headers: Mapping[str, str]) -> KitError | None:
    """The error for a refused file: the hub says in a header what is missing."""
    page, code = f"{endpoint}/{repository}", headers.get("X-Error-Code")
    if code == "RepoNotFound":
        what = "the hub has no such repository any more, or does not show it to us"
        return NotFound(what, where=repository, remedy=f"check {page}; if it is private, {_advice(endpoint)}")
    if code == "RevisionNotFound":
        what = "the hub no longer has the commit of the lock: the repository's history was rewritten"
        return NotFound(what, where=repository, remedy=f"see {page}/commits/main, then run 'offline-kit lock'")
    if status in (401, 403):
        return _gated(repository, endpoint)
    if status == 404:
        remedy = f"see {page}/tree/main, then run 'offline-kit lock' again"
        return NotFound("the hub has no such file any more", where=repository, remedy=remedy)
    return None


def _gated(repository: str, endpoint: str) -> AccessDenied:
    page = f"{endpoint}/{repository}"
    remedy = f"accept its terms at {page}, then {_advice(endpoint)}"
    return AccessDenied("the hub gives this model only to those who asked for it", where=repository, remedy=remedy)


SOURCE: ModelSource = HubSource()
