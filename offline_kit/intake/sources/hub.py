"""``hf://``: models of a Hugging Face hub.

Rules: metadata, endpoint, login and errors come from huggingface_hub's public API, bytes through our own transfer, because
the library compares sizes only. The sha256 of every LFS file is demanded as the hub tells it; of a small file the hub tells
git's blob id only: it is fetched at resolve time, compared with that, and its sha256 taken on the way. Plain HTTP is for a
hub on the loopback only.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from huggingface_hub import HfApi, constants, get_token, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging as hub_logging

from offline_kit.digest import Digest
from offline_kit.errors import AccessDenied, KitError, NetworkError, NotFound, SpecError
from offline_kit.intake import crew
from offline_kit.intake.sources import web
from offline_kit.intake.sources.base import Context, Piece
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.transfer import Download, download
from offline_kit.intake.words import Again
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.manifest import ModelSpec

T = TypeVar("T")
_quiet: Callable[[], None] = hub_logging.set_verbosity_error
_PATIENCE = 120.0  # seconds for one question: the library itself waits for ever on a silent socket
# huggingface_hub 1.x speaks through httpx, 2.x through httpx2: the base of its own error class is that of whichever it is.
_HttpError: type[Exception] = HfHubHTTPError.__bases__[0]


class HubSource:
    """Models of a hub."""

    def resolve(self, key: str, entry: ModelSpec, wanted: Digest, context: Context) -> LockedModel:
        """Raises KitError."""
        _quiet()  # what goes wrong is said once, by our own errors
        endpoint, name = _endpoint(entry), f"{entry.location}@{entry.revision}"
        api = HfApi(endpoint=endpoint, library_name="offline-kit", token=get_token() or False)
        ask = functools.partial(_ask, context, endpoint, entry)
        info = ask(lambda: api.model_info(entry.location, revision=entry.revision, timeout=_PATIENCE))
        commit = info.sha
        if not commit:
            raise NotFound("the hub names no commit", where=name)
        # This call, unlike the one before, tries again by itself.
        tree = ask(lambda: list(api.list_repo_tree(entry.location, recursive=True, revision=commit)), retries=0)
        listed = {item.path: item for item in tree if isinstance(item, RepoFile)}
        if info.id and info.id != entry.location:
            remedy = f"write hf://{info.id} in the manifest: see {endpoint}/{info.id}"
            raise NotFound(f"is called {info.id} now", where=entry.location, remedy=remedy)
        work = [
            functools.partial(self._lock, entry, endpoint, commit, listed[path], context)
            for path in web.choose(listed, entry, name)
        ]
        files = tuple(crew.run(work, context.jobs, context.line.stop))
        return web.lock(entry, wanted, endpoint, commit, files, functools.partial(_item, entry, endpoint, commit), context)

    def pieces(self, key: str, locked: LockedModel, entry: ModelSpec, context: Context) -> list[Piece]:
        """The files that the store lacks."""
        item = functools.partial(_item, entry, locked.endpoint or _endpoint(entry), locked.commit or "")
        return web.pieces(key, locked, item, context)

    def place(self, file: LockedFile, entry: ModelSpec, context: Context) -> Path:
        return context.store.path(file.sha256)

    def _lock(self, entry: ModelSpec, endpoint: str, commit: str, item: RepoFile, context: Context) -> LockedFile:
        """The file with its sha256, fetched if the hub does not tell it."""
        if item.lfs is not None:
            return LockedFile(path=item.path, size=item.lfs.size, sha256=Digest(item.lfs.sha256))
        memo = f"git:{item.blob_id}"
        held = context.store.noted(memo)
        if held is None or not context.store.has(Digest(held), item.size):
            wish = _download(entry, endpoint, commit, item.path)
            wish = dataclasses.replace(wish, size=item.size, git_blob=item.blob_id)
            held = str(download(context.line, context.store, wish))
            context.store.note(memo, held)
        return LockedFile(path=item.path, size=item.size, sha256=Digest(held))


def _endpoint(entry: ModelSpec) -> str:
    """The hub's URL. Raises SpecError on plain HTTP beyond the loopback."""
    return web.endpoint(entry.endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT, entry, "HF_ENDPOINT")


def _item(entry: ModelSpec, endpoint: str, commit: str, file: LockedFile) -> Download:
    return _download(entry, endpoint, commit, file.path)


def _download(entry: ModelSpec, endpoint: str, commit: str, path: str) -> Download:
    token = get_token()
    return Download(
        url=hf_hub_url(entry.location, path, revision=commit, endpoint=endpoint),
        title=f"{entry.location}: {path}",
        auth=Fixed(f"Bearer {token}") if token else None,
        explain=functools.partial(_explain, entry.location, endpoint),
    )


def _explain(repository: str, endpoint: str, status: int, headers: Mapping[str, str]) -> KitError | None:
    """The error for a refused file: the hub says in a header what is missing."""
    page, code = f"{endpoint}/{repository}", headers.get("X-Error-Code")
    if code == "RepoNotFound":
        what = "the hub has no such repository any more, or does not show it to us"
        return NotFound(what, where=repository, remedy=f"check {page}; if it is private, set HF_TOKEN")
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
    remedy = f"accept its terms at {page}, then set HF_TOKEN to a token of that account"
    return AccessDenied("the hub gives this model only to those who asked for it", where=repository, remedy=remedy)


def _ask(context: Context, endpoint: str, entry: ModelSpec, question: Callable[[], T], retries: int | None = None) -> T:
    """The answer of the hub's API, tried again where that may help. Raises KitError."""
    page, name = f"{endpoint}/{entry.location}", entry.location

    def attempt() -> T:
        try:
            return _within(_PATIENCE, question)
        except GatedRepoError as error:
            raise _gated(name, endpoint) from error
        except RevisionNotFoundError as error:
            remedy = f"see {page}/commits/main for the revisions there are"
            raise NotFound(f"has no revision '{entry.revision}'", where=name, remedy=remedy) from error
        except RepositoryNotFoundError as error:
            remedy = f"check the name at {page}; if it is private, set HF_TOKEN"
            raise NotFound("the hub has no such repository, or does not show it to us", where=name, remedy=remedy) from error
        except HFValidationError as error:
            raise SpecError(f"not the name of a repository: {name!r}", where=entry.source, remedy="hf://OWNER/NAME") from error
        except OfflineModeIsEnabled as error:
            raise NetworkError("HF_HUB_OFFLINE is set", where=endpoint, remedy="unset it to resolve models") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in (401, 403):
                remedy = f"set HF_TOKEN to a token that may read {page}"
                raise AccessDenied(f"the hub refuses (HTTP {status})", where=name, remedy=remedy) from error
            if status == 404:
                raise NotFound("the hub has no such repository or revision", where=name, remedy=f"check {page}") from error
            if status in (408, 429) or status >= 500:
                raise Again(f"HTTP {status}") from error
            raise NetworkError(f"the hub answers HTTP {status}", where=page) from error
        except (_HttpError, OSError) as error:
            raise Again(str(error) or type(error).__name__) from error

    return context.line.persist(endpoint, attempt, retries=retries)


def _within(seconds: float, question: Callable[[], T]) -> T:
    """The answer, or TimeoutError; the thread of a question that is never answered dies with the process."""
    answers: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(question())
        except BaseException as error:  # noqa: BLE001  handed over to the thread that asked
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answers[0]
