"""One repository of a registry that is pushed to, over the OCI distribution API.

Rules: a blob is asked for before it is sent, and goes as ``registry_upload`` says; uploads go to the registry's own origin and
to no other.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Collection, Mapping

from offline_kit.common.digest import Digest, Hasher
from offline_kit.common.errors import DigestMismatch, Interrupted, KitError, NetworkError, NotFound
from offline_kit.intake.sources.registry_api import ACCEPT, Repository
from offline_kit.intake.sources.registry_upload import Upload, UploadRun
from offline_kit.intake.transfer.body import iter_body
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import RetryableError, refusal, server_words
from offline_kit.intake.transfer.messages import Body, Reply
from offline_kit.intake.transfer.origins import same_origin
from offline_kit.spec.names import ImageReference

_CHANGED = "its storage or something before it changes bytes"


class Target(Repository):
    """The repository; ``chunk``: bytes that one request carries at most."""

    def __init__(self, reference: ImageReference, client: HttpClient, *, insecure: bool, chunk: int) -> None:
        super().__init__(reference, client, insecure=insecure)
        self.chunk, self.name = chunk, f"{reference.registry}/{reference.repository}"

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the registry has the blob. Raises DigestMismatch where it has one of another size."""
        reply = self._ask("HEAD", f"{self.base}/blobs/{digest}")
        if reply.status == 200:
            told = reply.headers.get("Content-Length", str(size))
            if told != str(size):
                what = f"has {digest} with {told[:20]} bytes, it must be {size}"
                raise DigestMismatch(what, where=self.name, remedy="its storage is damaged: whoever runs it has to look")
            return True
        if reply.status in (301, 302, 303, 307, 308):  # to where its bytes are
            return True
        if reply.status == 404:
            return False
        raise self.refuse(reply, f"a question for {digest.short}")

    def tagged(self, tag: str) -> Digest | None:
        """The digest of the manifest that the tag names, as its bytes are; None where there is none."""
        reply = self._client.read(f"{self.base}/manifests/{tag}", headers={"Accept": ACCEPT}, auth=self.auth)
        if reply.status == 404:
            return None
        if reply.status != 200:
            raise self.refuse(reply, f"the manifest {tag}")
        return Digest.of(reply.body)

    def put_manifest(self, tag: str, content: bytes, media_type: str) -> None:
        """Puts the manifest under ``tag``. Raises KitError."""
        reply = self._ask("PUT", f"{self.base}/manifests/{tag}", {"Content-Type": media_type}, content)
        if reply.status not in (200, 201, 202):
            raise self.refuse(reply, f"the manifest {tag}")

    def remove_manifest(self, digest: Digest, keeps: Collection[int]) -> int:
        """Removes the manifest, if it is there; the status of the answer. ``keeps``: other statuses that are no error.

        Raises KitError.
        """
        reply = self._ask("DELETE", f"{self.base}/manifests/{digest}")
        if reply.status not in (200, 202, 204, 404, *keeps):
            raise self.refuse(reply, f"removing {digest.short}")
        return reply.status

    def mount(self, digest: Digest, origin: str) -> bool:
        """Whether the registry takes the blob from the repository ``origin`` of its own."""
        query = urllib.parse.urlencode({"mount": str(digest), "from": origin})
        reply = self._ask("POST", f"{self.base}/blobs/uploads/?{query}", body=b"")
        return reply.status == 201

    def push(self, upload: Upload, advance: Callable[[int], None]) -> None:
        """Sends the blob. Raises KitError."""
        run = UploadRun(self, upload, advance)
        self._client.retrying(f"{self.name} {upload.title}", run.attempt, lambda: run.furthest)

    def read_back(self, digest: Digest, size: int, advance: Callable[[int], None]) -> None:
        """Reads the blob from the registry and proves it. Raises DigestMismatch, NetworkError."""

        def attempt() -> Digest:
            hasher = Hasher()
            with self._client.get(f"{self.base}/blobs/{digest}", {}, self.auth) as response:
                if response.status_code != 200:
                    raise refusal(response.status_code, str(response.reason), f"reading back {digest.short}", response.url)
                for piece in iter_body(response, self._client.chunk, self._client.least_rate(), size):
                    hasher.update(piece)
                    self._client.spend(len(piece))
                    if hasher.size > size:  # it may have no end
                        raise DigestMismatch(f"gives back over {size} bytes for {digest}", where=self.name, remedy=_CHANGED)
            if hasher.size < size:
                raise RetryableError(f"ends after {hasher.size} of {size} bytes")
            return hasher.digest()

        if (found := self._client.retrying(self.name, attempt)) != digest:
            raise DigestMismatch(f"gives back {found} for {digest}", where=self.name, remedy=_CHANGED)
        advance(size)

    def refuse(self, reply: Reply, title: str) -> KitError:
        """The error for an answer that is no success."""
        said = server_words(reply.body)
        if reply.status in (401, 403):
            return self.auth.denied(said)
        where = reply.url.partition("?")[0]
        if reply.status == 404:
            what = f"takes nothing for {self.name}{f' (it says: {said})' if said else ''}"
            return NotFound(what, where=where, remedy="make the project there first, or correct PREFIX")
        if reply.status == 405:
            return NetworkError(
                "takes no uploads (HTTP 405)", where=where, remedy="it may be a mirror or read-only: name another"
            )
        return refusal(reply.status, "", title, where, said)

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes) -> Reply:
        """One attempt of an upload, at the registry's own origin. Raises NetworkError for another one."""
        if not same_origin(self.base, url):
            what = f"sends uploads to another address: {url.partition('?')[0][:200]}"
            remedy = "whoever runs it has to set its external URL to the address that is used here"
            raise NetworkError(what, where=self.name, remedy=remedy)
        return self._client.send(method, url, headers, self.auth, body)

    def count(self, amount: int) -> None:
        """So many bytes of a body go out, whether they arrive or not. Raises Interrupted."""
        self._client.stats.add(sent=amount)
        self._client.spend(amount)
        if self._client.stopped.is_set():
            raise Interrupted("stopped")

    @property
    def uploads_url(self) -> str:
        return f"{self.base}/blobs/uploads/"

    def _ask(self, method: str, url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> Reply:
        return self._client.retrying(url, lambda: self._client.send(method, url, headers or {}, self.auth, body))
