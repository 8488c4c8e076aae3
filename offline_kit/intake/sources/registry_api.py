"""One repository of a registry, over the OCI distribution API.

Rules: plain HTTP only where it was allowed; a mirror is asked instead of its registry, never beside it, and what it gives is
proven in the same way; a manifest is compared with its digest before anybody reads it; an unknown tag is answered with the
tags that come near.
"""

from __future__ import annotations

import difflib
import http.client
import urllib.parse
from collections.abc import Mapping
from functools import cached_property

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, KitError, NetworkError, NotFound
from offline_kit.common.json_text import parse_json
from offline_kit.intake.sources.base import on_loopback
from offline_kit.intake.sources.credentials import RegistryAuth
from offline_kit.intake.sources.image import INDEXES, MANIFESTS
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import RetryableError, refusal, server_words
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.names import ImageReference

ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_HUB = "registry-1.docker.io"


class Repository:
    """Asks nothing before the first request."""

    def __init__(self, reference: ImageReference, client: HttpClient, *, insecure: bool) -> None:
        self._reference, self._client = reference, client
        self._host, self._path = _HUB if reference.registry == "docker.io" else reference.registry, reference.repository
        self._login = reference.registry  # as `docker login` names it
        mirror = client.options.mirrors.get(reference.registry)
        if mirror is not None:
            scheme, _, place = mirror.rpartition("://")
            self._host, _, prefix = place.strip("/").partition("/")
            self._path, self._login = "/".join(filter(None, (prefix, reference.repository))), self._host
            insecure = scheme == "http"
        self._insecure, self._plain = insecure, insecure or on_loopback(self._host)

    @property
    def api(self) -> str:
        """The URL under which the registry, or its mirror, says that it is one."""
        return f"{self._scheme(self._host)}://{self._host}/v2/"

    def manifest(self, target: str) -> tuple[bytes, str]:
        """Bytes and media type of the manifest or index under a tag or digest. Raises NotFound, AccessDenied, NetworkError."""
        url = f"{self.base}/manifests/{target}"
        reply = self._client.read(url, headers={"Accept": ACCEPT}, auth=self.auth)
        if reply.status == 404:
            raise self._unknown(target)
        if reply.status != 200:
            said = server_words(reply.body)
            if reply.status in (401, 403):
                raise self.auth.denied(said)
            raise refusal(reply.status, http.client.responses.get(reply.status, ""), "its manifest", url, said)
        promised = target if target.startswith("sha256:") else reply.headers.get("Docker-Content-Digest", "")
        if promised.startswith("sha256:") and str(Digest.of(reply.body)) != promised:
            what = f"manifest has digest {Digest.of(reply.body)}, expected {promised}"
            raise DigestMismatch(what, where=f"{self._reference} ({url})", remedy="try again later")
        return reply.body, reply.headers.get("Content-Type", "").partition(";")[0].strip()

    def blob(self, digest: Digest, size: int, title: str) -> DownloadRequest:
        """The transfer of a blob."""
        return self._download(f"{self.base}/blobs/{digest}", digest, size, title, {})

    def manifest_by_digest(self, digest: Digest, size: int, title: str) -> DownloadRequest:
        """The transfer of a manifest."""
        return self._download(f"{self.base}/manifests/{digest}", digest, size, title, {"Accept": ACCEPT})

    def _download(self, url: str, digest: Digest, size: int, title: str, headers: Mapping[str, str]) -> DownloadRequest:
        return DownloadRequest(url, title, digest, size, headers=headers, auth=self.auth, explain=self._explain)

    @cached_property
    def auth(self) -> RegistryAuth:
        """Who we are there."""
        return RegistryAuth(self._login, self._path, self._client, plain=self._insecure)

    @cached_property
    def base(self) -> str:
        """The URL of the repository."""
        return f"{self._scheme(self._host)}://{self._host}/v2/{self._path}"

    def _scheme(self, host: str) -> str:
        """https; where plain HTTP is allowed, what answers (on the loopback, where nothing is lost, HTTP is tried first)."""
        if not self._plain:
            return "https"
        order = ("http", "https") if on_loopback(host) else ("https", "http")
        for scheme in order:
            try:
                with self._client.get(f"{scheme}://{host}/v2/", {}) as response:
                    if response.status_code != 400:  # what a TLS server says to plain HTTP
                        return scheme
            except (RetryableError, NetworkError):
                continue
        return order[0]

    def _explain(self, status: int, headers: Mapping[str, str]) -> KitError | None:
        return self.auth.denied() if status in (401, 403) else None

    def _unknown(self, target: str) -> NotFound:
        where = str(self._reference) if self._login == self._reference.registry else f"{self._reference} at {self._login}"
        tags = self.tags()
        if tags is None:
            return NotFound("no such image", where=where, remedy="check its name and tag")
        near = difflib.get_close_matches(target, tags, n=5, cutoff=0.4) or sorted(tags, reverse=True)[:5]
        hint = f"tags there are: {', '.join(near)}" if near else "the repository has no tags"
        kind = "digest" if target.startswith("sha256:") else "tag"
        return NotFound(f"no such {kind} '{target}'", where=where, remedy=hint)

    def tags(self) -> list[str] | None:
        """The tags, or None where the registry does not tell: a hint only, so no failure of it may hide the first one."""
        url = f"{self.base}/tags/list?{urllib.parse.urlencode({'n': 1000})}"
        try:
            reply = self._client.read(url, auth=self.auth)
            return [str(tag) for tag in parse_json(reply.body)["tags"] or ()] if reply.status == 200 else None
        except (KitError, ValueError, KeyError, TypeError):
            return None
