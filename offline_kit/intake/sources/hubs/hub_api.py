"""What a hub says of a model: its commit and its files, asked over the hub's HTTP API within one endpoint.

Rules: every question goes through our own client and stays with the host that was chosen: no redirect and no ``Link`` leads
elsewhere, a mirror that names the hub which it mirrors is asked for the next page all the same; lists have a budget and an end;
every value is of the type that it must be, or the answer is refused as no hub's; a hub without ``/tree`` is asked for the list
in the model's own description.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offline_kit.common.budget import Budget, OverBudget
from offline_kit.common.digest import Digest
from offline_kit.common.errors import KitError, NetworkError, NotFound
from offline_kit.common.json_text import parse_json
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.messages import Reply
from offline_kit.spec.names import COMMIT

_NO_TREE = (400, 404, 405, 410, 501)
_PAGES = 2000  # of a list; the real hub's have a thousand entries each
_NEXT = re.compile(r'<([^<>]*)>\s*(?:;[^,]*?)?;\s*rel\s*=\s*"?next"?(?=[\s;,]|$)', re.IGNORECASE)
_BLOB_ID = re.compile("[0-9a-f]{40}")
_LARGEST = 1 << 62


@dataclass(frozen=True)
class HubFile:
    """A file as the hub tells it: None is what it does not tell. ``blob_id``: git's SHA-1 of a small file."""

    path: str
    size: int | None = None
    sha256: Digest | None = None
    blob_id: str | None = None


@dataclass(frozen=True)
class HubModel:
    """The description of a model: ``name`` as it is called now, and the files if they were told with it."""

    name: str
    commit: str
    files: tuple[HubFile, ...]


class HubApi:
    """One model of one hub. ``explain`` gives the error for a status that is no success."""

    def __init__(
        self, client: HttpClient, endpoint: str, name: str, auth: Fixed | None, explain: Callable[[Reply], KitError]
    ) -> None:
        self._client, self._auth, self._explain, self._name = client, auth, explain, name
        self._url = f"{endpoint}/api/models/{name}"

    def model(self, revision: str, *, files: bool = False) -> HubModel:
        """What the model is at ``revision``; ``files``: with sizes and digests of its files. Raises KitError."""
        url = f"{self._url}/revision/{urllib.parse.quote(revision, safe='')}{'?blobs=true' if files else ''}"
        reply = self._ask(url)
        if reply.status != 200:
            raise self._explain(reply)
        content = self._parse(reply)
        if not isinstance(content, dict):
            raise self._odd(url, "its description of the model is no object")
        commit, name = content.get("sha"), content.get("id", self._name)
        if not isinstance(commit, str) or not re.fullmatch(COMMIT, commit):
            raise NetworkError(f"the hub names a commit that is none: {ascii(commit)[:80]}", where=url, remedy="is this a hub?")
        if not isinstance(name, str):
            raise self._odd(url, "the model's name is no text")
        return HubModel(name, commit, tuple(self._siblings(content.get("siblings"), url) if files else ()))

    def files(self, commit: str, say: Callable[[str], None]) -> list[HubFile]:
        """All files of ``commit``. Raises KitError; ``say`` hears of it when the list had to be read another way."""
        start = f"{self._url}/tree/{commit}"
        first = f"{start}?recursive=true&expand=false"
        reply = self._ask(first)
        if reply.status in _NO_TREE:
            found = list(self.model(commit, files=True).files)
            if not found:
                raise NotFound(
                    f"the hub gives no list of files (HTTP {reply.status} for /tree, none in the model's description)",
                    where=start,
                    remedy="name another hub as 'endpoint', or take the model as dir://",
                )
            say(f"{self._name}: the hub has no /tree: its files are those of the model's description")
            return found
        try:
            return list(self._pages(start, first, reply))
        except OverBudget as error:
            raise self._odd(start, f"its list of files {error}") from error

    def _pages(self, start: str, url: str, reply: Reply) -> Iterator[HubFile]:
        budget, seen = Budget(kept=64 << 20), {url}
        while True:
            if reply.status != 200:
                raise self._explain(reply)
            budget.keep(len(reply.body))
            entries = self._parse(reply)
            if not isinstance(entries, list):
                raise self._odd(url, "its list of files is no list")
            for entry in entries:
                file = self._entry(entry, url, "path", "oid")
                budget.add_entry(file.path)
                if entry.get("type", "file") == "file":
                    yield file
            query = _next_query(reply.headers)
            if query is None:
                return
            url = f"{start}?{query}"
            if url in seen or len(seen) >= _PAGES:
                raise self._odd(url, "its list of files does not end")
            seen.add(url)
            reply = self._ask(url)

    def _siblings(self, entries: Any, url: str) -> Iterator[HubFile]:
        if not isinstance(entries, list):
            return
        budget = Budget()
        for entry in entries:
            file = self._entry(entry, url, "rfilename", "blobId")
            try:
                budget.add_entry(file.path)
            except OverBudget as error:
                raise self._odd(url, f"its list of files {error}") from error
            yield file

    def _entry(self, entry: Any, url: str, path_field: str, blob_field: str) -> HubFile:
        """One file; what has the wrong type is refused, what is missing is not told."""
        if not isinstance(entry, dict) or not isinstance(entry.get(path_field), str):
            raise self._odd(url, "an entry of its list of files has no path")
        path, lfs = entry[path_field], entry.get("lfs")
        if lfs is not None and not isinstance(lfs, dict):
            raise self._odd(url, f"'lfs' of {path[:80]!r} is no object")
        size = (lfs or entry).get("size", entry.get("size"))
        blob = entry.get(blob_field)
        if size is not None and (type(size) is not int or not 0 <= size <= _LARGEST):
            raise self._odd(url, f"the size of {path[:80]!r} is none: {ascii(size)[:40]}")
        if blob is not None and (not isinstance(blob, str) or (lfs is None and not _BLOB_ID.fullmatch(blob))):
            raise self._odd(url, f"the git blob id of {path[:80]!r} is none: {ascii(blob)[:60]}")
        if lfs is None:
            return HubFile(path, size, None, blob)
        reported = lfs.get("sha256", lfs.get("oid"))
        try:
            return HubFile(path, size, Digest(reported) if reported is not None else None, None)
        except (ValueError, TypeError):
            raise self._odd(url, f"the sha256 of {path[:80]!r} is none: {ascii(reported)[:80]}") from None

    def _ask(self, url: str) -> Reply:
        return self._client.read(url, auth=self._auth, stay=True)

    def _parse(self, reply: Reply) -> Any:
        try:
            return parse_json(reply.body)
        except ValueError as error:
            kind = reply.headers.get("Content-Type", "").partition(";")[0].strip()[:40] or "of no type"
            raise self._odd(reply.url, f"it answers with what is no JSON ({kind}; {error})") from error

    def _odd(self, url: str, what: str) -> NetworkError:
        remedy = "is this the hub's URL, or does a proxy or a login page answer in its place?"
        return NetworkError(f"does not answer as a hub does: {what}", where=url, remedy=remedy)


def _next_query(headers: Mapping[str, str]) -> str | None:
    """The query of the next page. Its host is not looked at: what is asked is the hub that was chosen."""
    found = _NEXT.search(headers.get("Link", "")[:8192])
    return found[1].partition("?")[2].partition("#")[0] if found else None


def from_headers(file: HubFile, passed: Sequence[Mapping[str, str]]) -> HubFile:
    """``file`` with what the headers of an answer, and of the redirects before it, tell of it."""
    size, sha256, blob_id = file.size, file.sha256, file.blob_id
    for headers in passed:
        tag = headers.get("X-Linked-Etag", headers.get("ETag", "")).removeprefix("W/").strip('"')
        reported = headers.get("X-Checksum-Sha256", tag)
        if sha256 is None and re.fullmatch("[0-9a-f]{64}", reported):
            sha256 = Digest(reported)
        if blob_id is None and _BLOB_ID.fullmatch(tag):
            blob_id = tag
        length = headers.get("X-Linked-Size", headers.get("Content-Range", "").rpartition("/")[2])
        if size is None and re.fullmatch("[0-9]{1,18}", length):
            size = int(length)
    return HubFile(file.path, size, sha256, blob_id)
