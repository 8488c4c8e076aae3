"""Tokens: asked of the service that the registry names, with the login that docker left, and of nobody else."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.errors import AccessDenied, DigestMismatch, KitError, NetworkError, NotFound
from offline_kit.common.progress import Silent
from offline_kit.intake.sources.base import Context, on_loopback
from offline_kit.intake.sources.registry import RegistrySource
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedImage, spec_digest
from tests.support import intake_samples as parts

IMAGE = parts.image("gzip", content="token")
BASIC = "Basic " + base64.b64encode(b"me:secret").decode()


class TokenRegistry(http.server.ThreadingHTTPServer):
    """A registry with one image behind a token service; a token is good for ``uses`` requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.realm = f"http://{self.host}/token"
        self.uses, self.issued, self.anonymous = 100, 0, True
        self.seen: list[tuple[str, str | None]] = []
        self.lie = b""
        self.token_answer: tuple[int, bytes] | None = None
        self.challenge: str | None = None
        self.manifest_answer: tuple[int, bytes] | None = None


class _Handler(http.server.BaseHTTPRequestHandler):
    server: TokenRegistry

    def do_POST(self) -> None:
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.seen.append(("POST", form.get("refresh_token", [""])[0]))
        self._token(form.get("refresh_token") == ["identity"])

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        sent = self.headers.get("Authorization")
        self.server.seen.append((path, sent))
        if path == "/v2/":
            self._answer(401, b"")
        elif path == "/token":
            assert urllib.parse.parse_qs(query)["scope"] == ["repository:team/image:pull"]
            self._token(sent == BASIC or (sent is None and self.server.anonymous))
        else:
            self._give(path, sent)

    def _give(self, path: str, sent: str | None) -> None:
        if self.server.manifest_answer and "/manifests/" in path:
            return self._answer(*self.server.manifest_answer)
        if self.server.challenge is not None:
            return self._answer(401, b"", {"WWW-Authenticate": self.server.challenge})
        if sent != f"Bearer t{self.server.issued}" or self.server.uses <= 0:
            realm = f'Bearer realm="{self.server.realm}",service="test",scope="repository:team/image:pull"'
            return self._answer(401, b"", {"WWW-Authenticate": realm})
        self.server.uses -= 1
        name = path.rpartition("/")[2]
        if "/manifests/" in path:
            return self._answer(200, IMAGE.manifest + self.server.lie, {"Content-Type": IMAGE.media_type,
                                "Docker-Content-Digest": parts.digest(IMAGE.manifest)})  # fmt: skip
        return self._answer(200, IMAGE.blobs[name])

    def _token(self, good: bool) -> None:
        if self.server.token_answer is not None:
            return self._answer(*self.server.token_answer)
        if not good:
            return self._answer(401, b"{}")
        self.server.issued += 1
        self.server.uses = max(self.server.uses, 1)
        return self._answer(200, json.dumps({"token": f"t{self.server.issued}"}).encode())

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenRegistry]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    server = TokenRegistry()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def login(tmp_path: Path, host: str, entry: dict[str, str]) -> None:
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {host: entry}}))


def lock(registry: TokenRegistry, tmp_path: Path) -> LockedImage:
    entry = {"source": f"docker://{registry.host}/team/image:v1"}
    manifest = parts.manifest({"engine": entry, "gateway": entry})
    with HttpClient(parts.QUICK) as client:
        context = Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())
        image = manifest.images["engine"]
        locked = RegistrySource().resolve("engine", image, spec_digest(manifest, "images.engine"), context)
        for piece in RegistrySource().pieces("engine", locked, image, context):
            piece.run(lambda amount: None)
        return locked


def test_an_anonymous_token_and_a_new_one_when_it_ends(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.uses = 1
    locked = lock(registry, tmp_path)
    assert str(locked.manifest.digest) == parts.digest(IMAGE.manifest)
    assert registry.issued == 3, "one for the manifest, one for each blob"


@pytest.mark.parametrize("place", ["REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"])
def test_a_login_of_podman_or_skopeo(
    place: str, registry: TokenRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry.anonymous = False
    file = tmp_path / "containers/auth.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {registry.host: {"auth": base64.b64encode(b"me:secret").decode()}}}))
    monkeypatch.setenv(place, str(file if place == "REGISTRY_AUTH_FILE" else tmp_path))
    lock(registry, tmp_path)
    assert {sent for path, sent in registry.seen if path == "/token"} == {BASIC}


def test_the_login_goes_to_the_token_service_only(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.anonymous = False
    login(tmp_path, registry.host, {"auth": base64.b64encode(b"me:secret").decode()})
    lock(registry, tmp_path)
    assert {sent for path, sent in registry.seen if path == "/token"} == {BASIC}
    assert BASIC not in {sent for path, sent in registry.seen if path != "/token"}


def test_an_identity_token(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.anonymous = False
    login(tmp_path, registry.host, {"identitytoken": "identity"})
    lock(registry, tmp_path)
    assert ("POST", "identity") in registry.seen


def test_no_login_no_token(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.anonymous = False
    with pytest.raises(AccessDenied, match=f"wants a login for team/image, .* -> docker login {registry.host}"):
        lock(registry, tmp_path)


def test_a_token_service_over_plain_http_elsewhere_gets_nothing(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.realm = "http://tokens.example.com/token"
    login(tmp_path, registry.host, {"auth": base64.b64encode(b"me:secret").decode()})
    manifest_asked = "/v2/team/image/manifests/v1"
    with pytest.raises(AccessDenied, match="not reached over HTTPS"):
        lock(registry, tmp_path)
    assert registry.seen[-1] == (manifest_asked, None)


@pytest.mark.parametrize(
    ("challenge", "told"),
    [
        ('Bearer service="x",scope="repository:team/image:pull"', r"names no token service \(no realm\) -> whoever runs"),
        ('Bearer realm="/service/token",service="x"', r"the URL of its token service .* -> whoever runs the registry"),
        ('Bearer realm="tokens.example.com",service="x"', r"the URL of its token service .* -> whoever runs the registry"),
        ('Bearer realm="ftp://tokens.example.com/t"', r"the URL of its token service .* -> whoever runs the registry"),
        ('Bearer realm="http://tokens.example.com/t"', r"not reached over HTTPS: .* -> .*'insecure: true'"),
    ],
)
def test_a_challenge_that_nobody_can_follow(registry: TokenRegistry, tmp_path: Path, challenge: str, told: str) -> None:
    registry.challenge = challenge
    with pytest.raises(AccessDenied, match=told):
        lock(registry, tmp_path)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            (200, b"<!DOCTYPE html><title>Log in</title>"),
            "gave no token that can be used but a web page -> a login page or a proxy",
        ),
        ((200, b"[]"), "gave no token that can be used -> a login page or a proxy"),
        ((200, b'{"token": "a b"}'), "gave no token that can be used -> a login page or a proxy"),
        ((404, b""), "its token service answers HTTP 404 Not Found -> a login page or a proxy"),
        (
            (403, b'{"errors": [{"code": "DENIED", "message": "quota of\\u001b[31m team is used up"}]}'),
            "quota of .31m team is used",
        ),
        ((401, b'{"details": "incorrect username or password"}'), "it says: incorrect username .* -> docker login"),
    ],
)
def test_a_token_service_that_gives_none(registry: TokenRegistry, tmp_path: Path, answer: tuple[int, bytes], told: str) -> None:
    registry.token_answer = answer
    with pytest.raises(AccessDenied, match=told) as caught:
        lock(registry, tmp_path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        (
            (403, b'{"errors": [{"code": "DENIED", "message": "blocked by policy: CVE"}]}'),
            AccessDenied,
            "it says: blocked by policy",
        ),
        ((403, b"<html>no</html>"), AccessDenied, "wants a login .* -> docker login"),
        ((410, b""), NotFound, "HTTP 410 Gone for its manifest -> it was taken away"),
        ((451, b""), AccessDenied, "HTTP 451 .* -> the law forbids it"),
        ((418, b'{"error": "short and stout"}'), NetworkError, "it says: short and stout.* -> open the address"),
    ],
)
def test_a_manifest_that_is_refused(
    registry: TokenRegistry, tmp_path: Path, answer: tuple[int, bytes], kind: type[KitError], told: str
) -> None:
    registry.manifest_answer = answer
    with pytest.raises(kind, match=told):
        lock(registry, tmp_path)


def test_a_manifest_that_is_not_what_the_registry_says(registry: TokenRegistry, tmp_path: Path) -> None:
    registry.lie = b" "
    with pytest.raises(DigestMismatch, match="manifest has digest"):
        lock(registry, tmp_path)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("localhost:5000", True), ("127.0.0.1", True), ("127.9.9.9:80", True), ("[::1]:5000", True),
        ("::1", True), ("10.0.0.1:5000", False), ("localhost.example.com", False), ("registry", False), ("[fe80::1]", False),
    ],
)  # fmt: skip
def test_what_is_on_the_loopback(host: str, expected: bool) -> None:
    assert on_loopback(host) is expected
