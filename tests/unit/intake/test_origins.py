"""Who sees what proves who we are, and what the environment may say of proxies and certificates."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from offline_kit.common.errors import NetworkError
from offline_kit.intake.sources.credentials import Fixed, challenges
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.origins import certificates, origin, proxies_for, redirect_target, same_origin
from tests.support.intake_samples import QUICK


class Elsewhere:
    """A server that sends on to ``to`` with ``status``, or asks for a login; ``seen``: what each request brought."""

    def __init__(self, to: str = "", status: int = 307) -> None:
        self.seen: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                outer.seen.append({**self.headers, "body": self.rfile.read(length).decode()})
                self.send_response(status if to else 401)
                self.send_header("Location" if to else "WWW-Authenticate", to or 'Basic realm="x"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Elsewhere:
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def target() -> Iterator[Elsewhere]:
    with Elsewhere() as made:
        yield made


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpClient]:
    (tmp_path / "netrc").write_text("default login canary password canary\n")
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with HttpClient(QUICK) as made:
        yield made


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_of_ours_goes_on_to_another_origin(status: int, target: Elsewhere, client: HttpClient) -> None:
    headers = {"Cookie": "canary", "X-Token": "canary", "Range": "bytes=0-1"}
    with Elsewhere(target.url, status) as first:
        reply = client.read(first.url, headers=headers, auth=Fixed("Bearer canary"))
    assert reply.status == 401, "nor is its demand for a login answered"
    assert first.seen[0]["Authorization"] == "Bearer canary" and first.seen[0]["Cookie"] == "canary"
    assert len(target.seen) == 1 and "canary" not in str(target.seen) and target.seen[0]["Range"] == "bytes=0-1"


@pytest.mark.parametrize("status", [302, 307, 308])
def test_a_form_with_a_token_is_sent_on_to_nobody(status: int, target: Elsewhere, client: HttpClient) -> None:
    with (
        Elsewhere(target.url, status) as first,
        pytest.raises(NetworkError, match="sends what proves who we are on to another host"),
    ):
        client.read(first.url, form={"refresh_token": "canary"})
    assert not target.seen


def test_round_and_round(client: HttpClient) -> None:
    with Elsewhere("/again") as first, pytest.raises(NetworkError, match="sends on more than 10 times"):
        client.read(first.url)


@pytest.mark.parametrize(
    "location", ["ftp://h/x", "file:///etc/passwd", "http://", "http://[", "http://h:99999/", "javascript:x"]
)
def test_what_is_no_address(location: str) -> None:
    with pytest.raises(NetworkError, match="sends on to what is no HTTP address"):
        redirect_target("https://hub.example/a", location)


def test_what_an_origin_is() -> None:
    assert same_origin("https://a.example/x", "https://A.example:443/y")
    for other in ("http://a.example/", "https://b.example/", "https://a.example:444/", "https://a.example.b/", "https://["):
        assert not same_origin("https://a.example/x", other)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_that_are_not_there(variable: str, client: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    assert certificates() is True
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(NetworkError, match=rf"/nowhere/ca.pem: .*{variable}"):
        client.read("https://hub.example/")
    assert client.stats.retried == 0


BAD_PROXIES = (
    "http://bob:canary@host:99999", "http://bob:canary@", "ftp://bob:canary@host:1", "bob:canary@host:port", "http://bob:canary@[",
    "http://bob:ca nary@host:1", "://bob:canary@host", "http://bob:x@y/canary@host:1", "http://host:1/#canary", "http://host:1?canary",
)  # fmt: skip


@pytest.mark.parametrize("proxy", BAD_PROXIES)
def test_a_proxy_that_cannot_be_used(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("https_proxy", raising=False)
    with pytest.raises(NetworkError, match="the proxy that the environment names cannot be used") as refused:
        proxies_for("https://hub.example/")
    assert "canary" not in str(refused.value) and "ca nary" not in str(refused.value)


@pytest.mark.parametrize(
    "proxy", ["http://bob:secret@host:1", "host:3128", "http://host:3128/", "socks5h://host:1080", "https://host"]
)
def test_a_proxy_that_can(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    monkeypatch.delenv("https_proxy", raising=False)
    assert proxies_for("https://hub.example/")["https"] == proxy


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ('Bearer realm="https://t/x",scope="a,b"', {"bearer": {"realm": "https://t/x", "scope": "a,b"}}),
        ('Basic realm="r"', {"basic": {"realm": "r"}}),
        ('Basic realm="r", Bearer realm="https://t"', {"basic": {"realm": "r"}, "bearer": {"realm": "https://t"}}),
        ('Bearer service="s", Basic realm="r"', {"bearer": {"service": "s"}, "basic": {"realm": "r"}}),
        ("Bearer realm=https://t/token , service = s", {"bearer": {"realm": "https://t/token", "service": "s"}}),
        ('bearer REALM="a\\"b"', {"bearer": {"realm": 'a"b'}}),
        ("Negotiate, NTLM", {"negotiate": {}, "ntlm": {}}),
        ('Bearer realm="first",realm="second"', {"bearer": {"realm": "first"}}),
        ("", {}),
    ],
)  # fmt: skip
def test_challenges(header: str, found: dict[str, dict[str, str]]) -> None:
    assert challenges(header) == found


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://[", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://host.example\\@other.example/", "a character that no URL has"),
        ("http://host.example/a b", "a character that no URL has"),
        ("http://host.example/\r\nX: y", "a character that no URL has"),
        ("http://host.example\x00/", "a character that no URL has"),
        ("http://joe:secret-1@host.example/", "a name or a password"),
        ("http://joe@host.example/", "a name or a password"),
        ("http://@host.example/", "a name or a password"),
        ("http://host.example:0/", "no host and port"),
        ("http://host.example:99999/", "cannot be read"),
        ("http://host.example:8x/", "cannot be read"),
        ("http:///path", "no host and port"),
        ("http://", "no host and port"),
        ("http:host.example/", "no host and port"),
        ("ftp://host.example/", "not http:// or https://"),
        ("file:///etc/passwd", "not http:// or https://"),
        ("host.example/path", "not http:// or https://"),
        ("http://ho%73t.example/", "no host and port"),
        ("http://host.example#@other.example/", None),
        ("https://host.example/a%20b?c=d@e", None),
        ("https://[::1]:8443/x", None),
        ("https://HOST.example", None),
    ],
)
def test_an_url_has_one_reading_or_none(url: str, said: str | None) -> None:
    if said is None:
        assert origin(url)[0] in ("http", "https")
        return
    with pytest.raises(ValueError, match=said) as caught:
        origin(url)
    assert "secret-1" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_holds_no_certificates_is_told_by_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    (tmp_path / "ca.pem").write_bytes(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(NetworkError, match=r"certificates that SSL_CERT_FILE names cannot be read.*unset SSL_CERT_FILE"):
        certificates()
