"""The ways out of a company: a proxy, a private CA, a mirror of a registry."""

from __future__ import annotations

import os
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import close_session

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, NetworkError, NotFound
from offline_kit.common.progress import Silent
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.hub import HubSource
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.manifest import ModelSpec
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.proxy import Proxy
from tests.testbed.servers.registry import Registry

PAYLOAD = os.urandom(2 << 20)
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No proxy, CA or login of this machine's own; huggingface_hub reads them when it opens its session."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    close_session()
    yield
    close_session()


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("o/m", parts.write(tmp_path / "repository", {"model.safetensors": parts.safetensors({"w": PAYLOAD})}))
        yield hub


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with HttpClient(parts.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def fetched(context: Context, hub: Hub) -> str:
    """Locks and fetches the model; its commit."""
    entry = ModelSpec(source="hf://o/m", endpoint=hub.url)
    locked = HubSource().resolve("m", entry, Digest.of(b""), context)
    for piece in HubSource().pieces("m", locked, entry, context):
        piece.run(lambda amount: None)
    assert all(context.store.has(file.sha256, file.size) for file in locked.files)
    return locked.commit or ""


def test_metadata_and_bytes_go_through_the_proxy(hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with Proxy(user=("me", "p@ss")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:p%40ss@{proxy.host}")
        commit = fetched(context, hub)
        assert [client for client in proxy.asked if f"GET {hub.url}/api/models/o/m" in client]
        assert f"GET {hub.url}/o/m/resolve/{commit}/model.safetensors" in proxy.asked
        asked = len(proxy.asked)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        close_session()
        context.store.evict(Digest.of(parts.safetensors({"w": PAYLOAD})))
        fetched(context, hub)
        assert len(proxy.asked) == asked


def test_a_proxy_that_refuses_or_is_not_there(hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    item = DownloadRequest(f"{hub.url}/o/m/resolve/main/model.safetensors", "weights", Digest.of(PAYLOAD), len(PAYLOAD))
    with Proxy(user=("me", "secret")) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.host}")
        with pytest.raises(AccessDenied, match=r"the proxy wants a login.* -> .*HTTPS_PROXY"):
            download(context.client, context.store, item)
    for scheme in ("http", "socks5h"):
        monkeypatch.setenv("HTTP_PROXY", f"{scheme}://{proxy.host}")
        with pytest.raises(NetworkError, match=r"through the proxy: .*Connection refused"):
            download(context.client, context.store, item)


def test_https_through_a_tunnel_with_a_private_ca(
    hub: Hub, context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    hub._server.socket = tls.wrap_socket(hub._server.socket, server_side=True)
    content = parts.safetensors({"w": PAYLOAD})
    url = hub.url.replace("http:", "https:") + "/o/m/resolve/main/model.safetensors"
    item = DownloadRequest(url, "weights", Digest.of(content), len(content))
    with Proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.host}")
        with pytest.raises(NetworkError, match=r"certificate is not trusted.* -> .*SSL_CERT_FILE"):
            download(context.client, context.store, item)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with HttpClient(parts.QUICK) as client:
            hub.faults.add(Fault("cut", at=1_000_000))
            download(client, context.store, item)
        assert set(proxy.asked) == {f"CONNECT {hub.url.removeprefix('http://')}"}
    assert hub.sent() == len(content)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("mirror")
    with Registry(work / "storage", work) as running:
        parts.push(running.url, "library/nginx", "1", parts.image("gzip", content="hub"))
        parts.push(running.url, "proxied/team/engine", "v1", parts.image("gzip", content="other"))
        yield running


def test_mirrors(mirror: Registry, tmp_path: Path) -> None:
    """Docker Hub's and another registry's images, the latter below a prefix; neither registry is asked for anything."""
    requested = {"gateway": {"source": "docker://nginx:1"}, "engine": {"source": "docker://registry.example/team/engine:v1"}}
    mirrors = {"docker.io": mirror.host, "registry.example": f"http://{mirror.host}/proxied/"}
    options = TransferOptions(retries=0, connect_timeout=2, read_timeout=2, mirrors=mirrors)
    manifest, store = parts.manifest(requested), Store(tmp_path)
    lock = resolve(manifest, Path("/"), {}, Session(store, options=options))
    assert lock.images["gateway"].reference == "nginx:1" and lock.images["gateway"].source == "docker://nginx:1"
    assert lock.images["engine"].reference == "registry.example/team/engine:v1"
    blobs = fetch(lock, manifest, Path("/"), Session(store, options=options))
    assert all(blobs.path(digest).exists() for digest in lock.image_blobs())
    with pytest.raises(NotFound, match=rf"nginx:2 at {mirror.host}: no such tag '2' -> tags there are: 1"):
        resolve(
            parts.manifest({**requested, "gateway": {"source": "docker://nginx:2"}}),
            Path("/"),
            {},
            Session(store, options=options),
        )
