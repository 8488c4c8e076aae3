"""Who we are to a registry: what ``docker login``, ``podman login`` or ``skopeo login`` left behind.

Rules: Docker's own configuration file and credential helpers are read with docker-py, never written; credentials go out only
when the registry asks for them, only to it or to the token service that it names, and never over plain HTTP beyond the
loopback unless the manifest allowed that.
"""

from __future__ import annotations

import base64
import http.client
import logging
import os
import re
import threading
import urllib.parse
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker.auth
import docker.errors

from offline_kit.common.errors import AccessDenied
from offline_kit.common.json_text import parse_json
from offline_kit.common.redact import register_secrets
from offline_kit.intake.sources.base import on_loopback
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import server_words
from offline_kit.intake.transfer.origins import origin


def challenges(header: str) -> dict[str, dict[str, str]]:
    """The challenges of a WWW-Authenticate header by scheme (lower case): several can stand in one (RFC 9110, 11.6.1)."""
    tokens = _TOKEN.findall(header)
    found: dict[str, dict[str, str]] = {}
    fields: dict[str, str] = {}
    at = 0
    while at < len(tokens):
        if tokens[at + 1 : at + 2] == ["="]:
            value = tokens[at + 2] if at + 2 < len(tokens) else ""
            plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
            fields.setdefault(tokens[at].lower(), plain)
            at += 3
            continue
        if tokens[at] not in ",=":
            fields = found.setdefault(tokens[at].lower(), {})
        at += 1
    return found


# What docker-py raises for a configuration file that is JSON, but not Docker's.
_UNREADABLE = (ValueError, KeyError, AttributeError, TypeError, RecursionError)
_TOKEN_FORM = re.compile(r"[\x21-\x7e]{1,65536}")  # what can stand in a header


_REALM = (
    "whoever runs the registry has to give its token service as a whole https:// URL; or ask another with --registry-mirror"
)
_PLAIN = "whoever runs the registry has to give it TLS; or say 'insecure: true' where its network may be trusted"
_NO_TOKEN = "a login page or a proxy may answer in its place: open that address in a browser, check HTTPS_PROXY"


_log = logging.getLogger(__name__)


def login_files() -> Iterator[str | None]:
    """Where logins of registries may be, in the order in which they count; None: Docker's own place.

    Those of podman and skopeo (containers-auth.json(5)) have the form of Docker's.
    """
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        yield named
    yield None
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111  stays as it is without a home
    for path in (Path(folder) / "containers/auth.json" for folder in (runtime, config)):
        if path.is_file() and os.access(path, os.R_OK):
            yield str(path)


class Login:
    """Name and password, or an identity token, for one registry; ``trouble``: why they could not be read."""

    def __init__(self, registry: str) -> None:
        self.name = self.password = self.identity = self.trouble = ""
        try:
            with warnings.catch_warnings():  # docker-py warns of a missing helper; a public image needs none
                warnings.simplefilter("ignore")
                loaded = (docker.auth.load_config(path) for path in login_files())
                found: dict[str, Any] = next(
                    filter(None, (docker.auth.resolve_authconfig(one, registry) for one in loaded)), {}
                )
        except (docker.errors.DockerException, OSError, *_UNREADABLE) as error:
            self.trouble = f"{type(error).__name__}: {error}" if isinstance(error, _UNREADABLE) else str(error)
            return
        folded = {key.lower(): value for key, value in found.items() if isinstance(value, str)}
        self.name, self.password = folded.get("username", ""), folded.get("password", "")
        self.identity = folded.get("identitytoken", "")
        kind = f"the login of {self.name}" if self.name else "an identity token" if self.identity else "no credentials"
        _log.debug("%s: %s", registry, kind)
        register_secrets(self.password, self.identity, f"{self.name}:{self.password}" if self.password else None)

    @property
    def basic(self) -> str | None:
        """The header for name and password, if there are any."""
        if not self.name:
            return None
        return "Basic " + base64.b64encode(f"{self.name}:{self.password}".encode()).decode()


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,="]+|[=,]')


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

    def __init__(self, registry: str, repository: str, client: HttpClient, *, plain: bool) -> None:
        """``plain``: plain HTTP is allowed beyond the loopback too, also to the token service."""
        self._registry, self._repository, self._client, self._plain = registry, repository, client, plain
        self._lock, self._login = threading.Lock(), Login(registry)
        self._header: str | None = None

    def header(self) -> str | None:
        return self._header

    def renew(self, challenge: str, refused: str | None) -> bool:
        """A new header after a 401. Raises AccessDenied when the token service refuses us."""
        with self._lock:
            if self._header != refused:
                return True  # another thread was faster
            found = challenges(challenge)
            fresh = self._token(found["bearer"]) if "bearer" in found else self._login.basic
            self._header, old = fresh, self._header
            return fresh is not None and fresh != old

    def denied(self, said: str = "") -> AccessDenied:
        """The error when all that was in vain; ``said``: the registry's own words."""
        known = (
            f"refuses the login '{self._login.name or 'token'}'"
            if self._login.name or self._login.identity
            else "wants a login"
        )
        what = f"the registry {known} for {self._repository}, or there is no such repository"
        if self._login.trouble:
            what += f" (credentials could not be read: {self._login.trouble})"
        what += f" (it says: {said})" if said else ""
        return AccessDenied(
            what,
            where=f"{self._registry}/{self._repository}",
            remedy=f"docker login {self._registry}, or podman login, skopeo login",
        )

    def _token(self, challenge: dict[str, str]) -> str | None:
        try:
            scheme, host, _ = origin(challenge.get("realm", ""))
        except ValueError as error:
            what = f"the URL of its token service {error}" if challenge.get("realm") else "names no token service (no realm)"
            raise AccessDenied(what, where=self._registry, remedy=_REALM) from error
        realm = urllib.parse.urlsplit(challenge["realm"])
        if scheme != "https" and not (self._plain or on_loopback(host)):
            what = f"its token service is not reached over HTTPS: {realm.geturl()!r}"
            raise AccessDenied(what, where=self._registry, remedy=_PLAIN)
        scope = challenge.get("scope") or f"repository:{self._repository}:pull"
        query = {key: value for key, value in (("service", challenge.get("service")), ("scope", scope)) if value}
        if self._login.identity:
            form = {**query, "grant_type": "refresh_token", "refresh_token": self._login.identity, "client_id": "offline-kit"}
            reply = self._client.read(realm.geturl(), form=form)
        else:
            own = urllib.parse.parse_qsl(realm.query) + list(query.items())
            url = realm._replace(query=urllib.parse.urlencode(own)).geturl()
            reply = self._client.read(url, auth=Fixed(self._login.basic))
        if reply.status in (400, 401, 403):
            raise self.denied(server_words(reply.body))
        if reply.status != 200:
            status = f"HTTP {reply.status} {http.client.responses.get(reply.status, '')}".rstrip()
            raise AccessDenied(f"its token service answers {status}", where=realm.geturl(), remedy=_NO_TOKEN)
        try:
            answer = parse_json(reply.body)
            token = answer.get("token") or answer.get("access_token")
        except (ValueError, AttributeError):
            token = None
        if not isinstance(token, str) or not _TOKEN_FORM.fullmatch(token):
            page = reply.body.lstrip()[:1] == b"<"
            what = f"its token service gave no token that can be used{' but a web page' if page else ''}"
            raise AccessDenied(what, where=realm.geturl(), remedy=_NO_TOKEN)
        register_secrets(token)
        return f"Bearer {token}"
