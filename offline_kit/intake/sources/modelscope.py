"""``modelscope://``: models of ModelScope, for those who cannot reach the hub.

Rules: its public HTTP API is spoken directly (its own package would bring the whole of its framework): ``GET
/api/v1/models/OWNER/NAME/repo/files`` lists every file with size and sha256, ``.../repo?Revision=&FilePath=`` gives one, by a
redirect to its store where it is large; the sha256 of every file is demanded, so a branch that moves is noticed even where the
answer does not name the commit; answers of 200 that say ``"Success": false``, or list nothing, are errors.
"""

from __future__ import annotations

import functools
import os
import re
import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from offline_kit.common.budget import Budget, OverBudget
from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, KitError, NetworkError, NotFound, SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.intake.sources.base import Context, FetchTask, ModelSource
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.sources.hubs import hub_common, hub_tokens
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.manifest import ModelSpec

_DEFAULT = "https://www.modelscope.cn"
_TOKEN = "MODELSCOPE_API_TOKEN"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class ModelScopeSource:
    """Models of ModelScope."""

    def resolve(self, key: str, entry: ModelSpec, digest: Digest, context: Context) -> LockedModel:
        """Raises KitError."""
        if not _NAME.fullmatch(entry.location):
            raise SpecError(
                f"not the name of a model: {entry.location!r}", where=entry.source, remedy="modelscope://OWNER/NAME"
            )
        place, revision, name = hub_url(entry), _revision(entry), f"{entry.location}@{_revision(entry)}"
        answer = _ask(entry, place, revision, context)
        listed = _listed(answer, name, f"{place}/models/{entry.location}")
        commit = _commit(answer, listed.values())
        files = tuple(_locked(listed[path], name) for path in hub_common.choose(listed, entry, name))
        return hub_common.lock(entry, digest, place, commit, files, functools.partial(_item, entry, place, commit), context)

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[FetchTask]:
        """The files that the store lacks."""
        item = functools.partial(_item, entry, hub_url(entry), locked.commit)
        return hub_common.pieces(key, locked, item, context)

    def local_path(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        return context.store.path(file.sha256)


def hub_url(entry: ModelSpec) -> str:
    """The hub's URL. Raises SpecError."""
    domain = os.environ.get("MODELSCOPE_DOMAIN")
    chosen = entry.endpoint or (f"https://{domain}" if domain else _DEFAULT)
    return hub_common.endpoint(chosen, entry, "MODELSCOPE_DOMAIN")


def _trusted_endpoints() -> tuple[str, ...]:
    """The hubs that the token is for."""
    domain = os.environ.get("MODELSCOPE_DOMAIN")
    return (f"https://{domain}" if domain else _DEFAULT, _DEFAULT)


def _advice(page: str) -> str:
    return hub_tokens.advice(page, _TOKEN, _trusted_endpoints(), "a token of that account")


def _revision(entry: ModelSpec) -> str:
    """What the manifest says; where it says nothing, the branch that every model here has."""
    return entry.revision if "revision" in entry.model_fields_set else "master"


def _login(place: str) -> tuple[Mapping[str, str], Fixed | None]:
    """The token, in the header and in the cookie that older answers of the API still want; neither follows a redirect."""
    login = hub_tokens.login(place, os.environ.get(_TOKEN), _TOKEN, _trusted_endpoints())
    token = (login.header() or "").removeprefix("Bearer ") if login else ""
    return ({"Cookie": f"m_session_id={token}"}, login) if login else ({}, None)


def _item(entry: ModelSpec, place: str, commit: str | None, file: LockedFile) -> DownloadRequest:
    query = urllib.parse.urlencode({"Revision": commit or _revision(entry), "FilePath": file.path})
    headers, auth = _login(place)
    return DownloadRequest(
        url=f"{place}/api/v1/models/{entry.location}/repo?{query}",
        title=f"{entry.location}: {file.path}",
        headers=headers,
        auth=auth,
        explain=functools.partial(_explain, entry.location, f"{place}/models/{entry.location}"),
    )


def _ask(entry: ModelSpec, place: str, revision: str, context: Context) -> Mapping[str, Any]:
    """The ``Data`` of the list of files. Raises KitError."""
    page, headers, auth = f"{place}/models/{entry.location}", *_login(place)
    query = urllib.parse.urlencode({"Revision": revision, "Recursive": "true"})
    url = f"{place}/api/v1/models/{entry.location}/repo/files?{query}"
    reply = context.client.read(url, headers=headers, auth=auth, stay=True)
    if reply.status in (401, 403, 404):
        raise _refused(reply.status, entry.location, page)
    try:
        answer = parse_json(reply.body)
        data: Any = answer.get("Data") if answer.get("Success", True) and reply.status == 200 else None
        said = str(answer.get("Message") or "")
    except (ValueError, AttributeError) as error:
        raise NetworkError(f"does not answer in the way of ModelScope (HTTP {reply.status})", where=url) from error
    if not isinstance(data, dict) or not data.get("Files"):
        what = f"has no revision '{revision}'" if isinstance(data, dict) else f"refuses: {said or f'HTTP {reply.status}'}"
        raise NotFound(what, where=entry.location, remedy=f"see {page}/files for the branches and tags there are")
    return data


def _listed(data: Mapping[str, Any], name: str, page: str) -> dict[str, Mapping[str, Any]]:
    found, budget = {}, Budget()
    try:
        for item in data["Files"]:
            path = item["Path"]
            if not isinstance(path, str):
                raise TypeError("a path that is no text")
            budget.add_entry(path)
            if item["Type"] == "blob":
                found[path] = item
    except (TypeError, KeyError, OverBudget) as error:
        what = f"its list of files {error if isinstance(error, OverBudget) else 'cannot be read'}"
        raise NetworkError(what, where=name, remedy=f"see {page}/files") from error
    return found


def _locked(item: Mapping[str, Any], name: str) -> LockedFile:
    try:
        return LockedFile(path=item["Path"], size=item["Size"], sha256=Digest(item["Sha256"]))
    except (ValueError, TypeError, KeyError) as error:
        what = f"does not tell size and sha256 of {item.get('Path')}"
        raise NotFound(what, where=name, remedy="take the model from hf:// or dir://, or 'exclude' this file") from error


def _commit(data: Mapping[str, Any], files: Any) -> str | None:
    """The commit behind the revision, as far as the answer tells it: whole, or as the start of a file's own."""
    latest = data.get("LatestCommitter")
    latest = latest if isinstance(latest, dict) else {}
    known = [str(latest.get("Id") or ""), *(str(item.get("Revision") or "") for item in files)]
    start = str(latest.get("ShortId") or known[0])
    return next((text for text in known if start and text.startswith(start) and _COMMIT.fullmatch(text)), None)


def _explain(model: str, page: str, status: int, headers: Mapping[str, str]) -> KitError | None:
    """The error for a refused file."""
    if status == 404:
        return NotFound(
            "ModelScope has no such file any more", where=model, remedy=f"see {page}/files, then 'offline-kit lock'"
        )
    return _refused(status, model, page) if status in (401, 403) else None


def _refused(status: int, model: str, page: str) -> KitError:
    if status == 404:
        what = "ModelScope has no such model, or does not show it to us"
        return NotFound(what, where=model, remedy=f"check the name at {page}; if it is private, {_advice(page)}")
    remedy = f"ask for it at {page}, then {_advice(page)}"
    return AccessDenied(f"ModelScope refuses (HTTP {status})", where=model, remedy=remedy)


SOURCE: ModelSource = ModelScopeSource()
