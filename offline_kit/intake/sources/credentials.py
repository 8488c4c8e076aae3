"""Who we are to a registry: what ``docker login`` left behind.

Rules: Docker's own configuration file and credential helpers are read with docker-py, never written; credentials go out only
when the registry asks for them, only to it or to the token service that it names, and never over plain HTTP beyond the
loopback unless the manifest allowed that.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
import warnings
from typing import Any

import docker.auth
import docker.errors

from offline_kit.errors import AccessDenied
from offline_kit.intake.line import Line
from offline_kit.intake.sources.base import on_loopback


def _fields(challenge: str) -> dict[str, str]:
    """``key="value"`` pairs of a challenge."""
    return {key.lower(): value for key, value in re.findall(r'(\w+)="([^"]*)"', challenge)}


class Login:
    """Name and password, or an identity token, for one registry; ``trouble``: why they could not be read."""

    def __init__(self, registry: str) -> None:
        self.name = self.password = self.identity = self.trouble = ""
        try:
            with warnings.catch_warnings():  # docker-py warns of a missing helper; a public image needs none
                warnings.simplefilter("ignore")
                found: dict[str, Any] = docker.auth.resolve_authconfig(docker.auth.load_config(), registry) or {}
        except (docker.errors.DockerException, ValueError, KeyError, OSError) as error:
            self.trouble = str(error)
            return
        folded = {key.lower(): value for key, value in found.items() if isinstance(value, str)}
        self.name, self.password = folded.get("username", ""), folded.get("password", "")
        self.identity = folded.get("identitytoken", "")

    @property
    def basic(self) -> str | None:
        """The header for name and password, if there are any."""
        if not self.name:
            return None
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


class Fixed:
    """A header that does not change."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def header(self) -> str | None:
        return self._value

    def renew(self, challenge: str, refused: str | None) -> bool:
        return False


class RegistryAuth:
    """Answers a registry's challenge: basic, or a token from the service that it names. Safe for several threads."""

    def __init__(self, registry: str, repository: str, line: Line, *, plain: bool) -> None:
        """``plain``: plain HTTP is allowed beyond the loopback too, also to the token service."""
        self._registry, self._repository, self._line, self._plain = registry, repository, line, plain
        self._lock, self._login = threading.Lock(), Login(registry)
        self._header: str | None = None

    def header(self) -> str | None:
        return self._header

    def renew(self, challenge: str, refused: str | None) -> bool:
        """A new header after a 401. Raises AccessDenied when the token service refuses us."""
        with self._lock:
            if self._header != refused:
                return True  # another thread was faster
            bearer = re.search(r"\bBearer\s+(.*)", challenge, re.IGNORECASE | re.DOTALL)
            fresh = self._token(_fields(bearer.group(1))) if bearer else self._login.basic
            self._header, old = fresh, self._header
            return fresh is not None and fresh != old

    def denied(self) -> AccessDenied:
        """The error when all that was in vain."""
        known = (
            f"refuses the login '{self._login.name or 'token'}'"
            if self._login.name or self._login.identity
            else "wants a login"
        )
        what = f"the registry {known} for {self._repository}, or there is no such repository"
        if self._login.trouble:
            what += f" (credentials could not be read: {self._login.trouble})"
        return AccessDenied(what, where=f"{self._registry}/{self._repository}", remedy=f"docker login {self._registry}")

    def _token(self, challenge: dict[str, str]) -> str | None:
        realm = urllib.parse.urlsplit(challenge.get("realm", ""))
        if realm.scheme != "https" and not (realm.scheme == "http" and (self._plain or on_loopback(realm.netloc))):
            raise AccessDenied(f"its token service is not reached over HTTPS: {realm.geturl()!r}", where=self._registry)
        scope = challenge.get("scope") or f"repository:{self._repository}:pull"
        query = {key: value for key, value in (("service", challenge.get("service")), ("scope", scope)) if value}
        if self._login.identity:
            form = {**query, "grant_type": "refresh_token", "refresh_token": self._login.identity, "client_id": "offline-kit"}
            reply = self._line.read(realm.geturl(), form=form)
        else:
            own = urllib.parse.parse_qsl(realm.query) + list(query.items())
            url = realm._replace(query=urllib.parse.urlencode(own)).geturl()
            reply = self._line.read(url, auth=Fixed(self._login.basic))
        if reply.status != 200:
            raise self.denied()
        try:
            answer = json.loads(reply.body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not token:
            raise AccessDenied("its token service gave no token", where=realm.geturl())
        return f"Bearer {token}"
