"""Blobs on their way into a repository, over the OCI distribution API.

Rules: a file is read once, as it is sent, and nobody but the registry hashes it again: it takes a blob only under its digest;
after a break the blob is sent anew, for common registries take no rest of one; what a registry has is not sent; uploads go to
the registry's own origin and to no other.
"""

from __future__ import annotations

import http.client
import io
import urllib.parse
from collections.abc import Collection, Mapping
from pathlib import Path

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, KitError, NetworkError
from offline_kit.common.files import disk_errors
from offline_kit.common.progress import Silent, Task
from offline_kit.intake.sources.registry_api import Repository
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import refusal, server_words
from offline_kit.intake.transfer.messages import Body, Reply
from offline_kit.intake.transfer.origins import REDIRECTS, redirect_target, same_origin
from offline_kit.release.publish.destination import Upload

_BINARY = {"Content-Type": "application/octet-stream"}
_GONE_ON = "the next run goes on with what is there; ask whoever runs the registry, and look at its limits of size and time"


class _Rest:
    """The rest of a file from where it stands, which counts what is taken. Raises DiskError: the fault is not the network's."""

    def __init__(self, stream: io.FileIO | io.BytesIO, path: Path, size: int, task: Task) -> None:
        self._stream, self._path, self._left, self._task = stream, path, size, task

    def __len__(self) -> int:
        return self._left

    def read(self, size: int = -1) -> bytes:
        with disk_errors(self._path):
            data = self._stream.read(max(0, min(self._left, 1 << 20 if size < 0 else max(size, 1 << 18))))
        self._left -= len(data)
        self._task.advance(len(data))
        return data


class BlobUploader:
    """Sends blobs to one repository."""

    def __init__(self, repository: Repository, client: HttpClient, where: str) -> None:
        self._repository, self._client, self._where = repository, client, where

    def send(self, data: bytes, title: str) -> None:
        """A small blob, if it is not there. Raises as ``request``."""
        self._send(io.BytesIO(data), Digest.of(data), len(data), Path(title), Silent().task("", 0))

    def send_file(self, file: Upload, task: Task) -> None:
        """A file, if it is not there. Raises DigestMismatch, DiskError, and as ``request``."""
        with disk_errors(file.path), file.path.open("rb", buffering=0) as stream:
            self._send(stream, file.digest, file.size, file.path, task)

    def request(
        self,
        method: str,
        url: str,
        wanted: Collection[int],
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] = {},
    ) -> Reply:
        """An answer with one of the statuses ``wanted``, tried again where that may help. Raises AccessDenied, NetworkError."""

        def attempt() -> Reply:
            return self._once(method, url, wanted, data, headers)

        return self._client.retrying(self._where, attempt)

    def _send(self, stream: io.FileIO | io.BytesIO, digest: Digest, size: int, path: Path, task: Task) -> None:
        there = self.request("HEAD", f"{self._repository.base}/blobs/{digest}", (200, 404, *REDIRECTS))
        if there.status != 404:  # sent on: to where its bytes are
            task.advance(size)
            return

        def attempt() -> None:
            stream.seek(0)
            begin = f"{self._repository.base}/blobs/uploads/"
            place = _location(begin, self._once("POST", begin, (202,), None, {}))
            if size:
                rest = _Rest(stream, path, size, task)
                place = _location(place, self._once("PATCH", place, (201, 202, 204), rest, _BINARY))
            self._finish(place, digest, path.name)

        self._client.retrying(f"{self._where}: {path.name}", attempt)

    def _finish(self, place: str, digest: Digest, title: str) -> None:
        url = f"{place}{'&' if '?' in place else '?'}{urllib.parse.urlencode({'digest': str(digest)})}"
        answer = self._once("PUT", url, (200, 201, 202, 204, 400), None, {})
        if answer.status == 400:
            raise DigestMismatch(
                f"{title} is not what the index of the releases says ({digest}), or was changed on its way: "
                f"the registry refuses it ({server_words(answer.body)})",
                where=self._where,
                remedy="verify the bundle; put back the file of a backup, or make the release anew",
            )

    def _once(
        self, method: str, url: str, wanted: Collection[int], data: bytes | Body | None, headers: Mapping[str, str]
    ) -> Reply:
        if not same_origin(url, self._repository.base):
            what = f"sends uploads to another address: {url.partition('?')[0][:200]}"
            remedy = "whoever runs it has to set its external URL to the address that is used here"
            raise NetworkError(what, where=self._where, remedy=remedy)
        answer = self._client.send(method, url, headers, self._repository.auth, data)
        if answer.status in wanted:
            return answer
        raise refused(answer, method, url, self._repository)


def refused(answer: Reply, method: str, url: str, repository: Repository) -> KitError:
    """The error for an answer that nobody wanted."""
    said = server_words(answer.body)
    if answer.status in (401, 403):
        return repository.auth.denied(said)
    error = refusal(answer.status, http.client.responses.get(answer.status, ""), f"{method} of an upload", url, said)
    return NetworkError(error.what, where=url.partition("?")[0], remedy=_GONE_ON) if isinstance(error, NetworkError) else error


def _location(url: str, answer: Reply) -> str:
    """Where the upload goes on. Raises NetworkError where that is no address."""
    return redirect_target(url, answer.headers.get("Location", url))
