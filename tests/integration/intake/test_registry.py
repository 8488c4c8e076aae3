"""Images from a real registry, without Docker.

One file, for all of it is asked of one registry, which holds one small image in every form.
"""

from __future__ import annotations

import base64
import dataclasses
import gzip
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DigestMismatch, NetworkError, NotFound, SpecError
from offline_kit.intake.fetch import Blobs, fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import Lock, parse_lock
from tests.support import intake_samples as parts
from tests.testbed.servers.registry import Registry


class Untyped(http.server.ThreadingHTTPServer):
    """A registry of one image that gives everything one Content-Type."""

    daemon_threads = True

    def __init__(self, item: parts.Image, served_as: str) -> None:
        super().__init__(("127.0.0.1", 0), _Untyped)
        self.item, self.served_as, self.host = item, served_as, f"127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Untyped:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_caught: object) -> None:
        self.shutdown()
        self.server_close()


class _Untyped(http.server.BaseHTTPRequestHandler):
    server: Untyped

    def do_GET(self) -> None:
        item, name = self.server.item, self.path.rpartition("/")[2]
        body = item.manifest if "/manifests/" in self.path else item.blobs.get(name, b"{}")
        self.send_response(200)
        self.send_header("Content-Type", self.server.served_as)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


CONFIG = {"models.json": b"{}", "vllm_config.yaml": b"\n"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def locked(store: Store, source: str, base: Path = Path("/"), **fields: Any) -> Lock:
    entry = {"source": source, **fields}
    manifest = parts.manifest({"engine": entry, "gateway": entry})
    return resolve(manifest, base, CONFIG, Session(store, options=parts.QUICK))


def fetched(lock: Lock, store: Store, source: str, **fields: Any) -> Blobs:
    entry = {"source": source, **fields}
    return fetch(lock, parts.manifest({"engine": entry, "gateway": entry}), Path("/"), Session(store, options=parts.QUICK))


def asked(registry: Registry) -> int:
    """Requests that the registry has answered so far."""
    return registry.log.read_text(errors="replace").count('HTTP/1.1"')


@pytest.mark.parametrize("forms", [("gzip", "gzip"), ("docker", "docker")])
def test_gzip_layers_are_kept_byte_for_byte(served: Registry, store: Store, forms: tuple[str, ...]) -> None:
    image = parts.image(*forms, content=forms[0])
    name = f"docker://{served.host}/team/{forms[0]}:v1"
    manifest = parts.push(served.url, f"team/{forms[0]}", "v1", image)
    lock = locked(store, name)
    entry = lock.images["engine"]
    assert str(entry.manifest.digest) == manifest and entry.manifest.media_type == image.media_type
    assert entry.index is None and entry.reference == f"{served.host}/team/{forms[0]}:v1"
    assert entry.environment == {"CUDA_VERSION": "12.8.1", "org.opencontainers.image.version": "22.04"}
    assert [str(layer.diff_id) for layer in entry.layers] == [parts.digest(data) for data in image.tars]
    assert all(layer.origin is None for layer in entry.layers)
    assert parse_lock(lock.text(), "lock") == lock
    blobs = fetched(lock, store, name)
    for blob in entry.blobs():
        assert blobs.path(blob.digest).read_bytes() == (image.blobs.get(str(blob.digest)) or image.manifest)
    before = asked(served)
    again = fetched(lock, store, name)
    assert asked(served) == before > 0, "a second fetch asks nothing"
    assert again.fetched == 0 and again.reused == sum(blob.size for blob in lock.image_blobs().values())
    assert locked(Store(store.root.with_name("other")), name) == lock


def test_zstd_and_plain_layers_become_gzip_and_are_proven(served: Registry, store: Store, tmp_path: Path) -> None:
    image = parts.image("gzip", "zstd", "tar", content="forms")
    parts.push(served.url, "forms", "v1", image)
    name = f"docker://{served.host}/forms:v1"
    lock = locked(store, name)
    entry = lock.images["engine"]
    assert entry.layers[0].origin is None
    for layer, data, kind in zip(entry.layers[1:], image.tars[1:], ("zstd", "tar"), strict=True):
        assert layer.origin is not None and layer.origin.media_type == parts.TYPES[kind]
        assert str(layer.origin.digest) in image.blobs
        assert gzip.decompress(store.path(layer.digest).read_bytes()) == data
        assert not store.path(layer.origin.digest).exists()
    manifest = json.loads(store.path(entry.manifest.digest).read_bytes())
    assert [item["digest"] for item in manifest["layers"]] == [str(layer.digest) for layer in entry.layers]
    assert str(entry.config.digest) == parts.digest(image.config)
    # A store that lost everything makes the same bytes again; a second fetch asks nothing.
    empty = Store(tmp_path / "empty")
    fetched(lock, empty, name)
    before = asked(served)
    fetched(lock, empty, name)
    assert asked(served) == before
    # What was converted once is known by its diff ID: nothing but manifest and configuration is asked for.
    log = served.log.read_text(errors="replace")
    assert locked(empty, name) == lock
    assert "/blobs/" not in served.log.read_text(errors="replace")[len(log) :]


def test_a_wrong_diff_id_is_refused(served: Registry, store: Store) -> None:
    image = parts.image("zstd", content="diff", diff_ids=["sha256:" + "0" * 64])
    parts.push(served.url, "diff", "v1", image)
    with pytest.raises(DigestMismatch, match=r"layer .*: has diff ID .*, the image configuration says sha256:000"):
        locked(store, f"docker://{served.host}/diff:v1")
    short = parts.image("gzip", "gzip", content="short", diff_ids=["sha256:" + "0" * 64])
    parts.push(served.url, "diff", "v2", short)
    with pytest.raises(SpecError, match="has 2 layers, its configuration names 1"):
        locked(store, f"docker://{served.host}/diff:v2")


def test_an_index_is_resolved_by_platform(served: Registry, store: Store) -> None:
    one, other = parts.image("gzip", content="amd"), parts.image("gzip", content="arm", architecture="arm64")
    for item in (one, other):
        parts.push(served.url, "multi", parts.digest(item.manifest), item)
    digest = parts.push_manifest(served.url, "multi", "v1", *parts.index(("arm64", other), ("amd64", one)))
    name = f"docker://{served.host}/multi:v1"
    entry = locked(store, name).images["engine"]
    assert str(entry.index) == digest and str(entry.manifest.digest) == parts.digest(one.manifest)
    assert locked(store, name, digest=digest).images["engine"].index == Digest(digest)
    assert locked(store, name, digest=parts.digest(one.manifest)).images["engine"].manifest == entry.manifest
    assert locked(store, f"docker://{served.host}/multi@{digest}").images["engine"].reference is None
    with pytest.raises(DigestMismatch, match=f"{served.host}/multi:v1: has digest {digest} or .*demands"):
        locked(store, name, digest=parts.digest(other.manifest))
    digest = parts.push_manifest(served.url, "multi", "arm", *parts.index(("arm64", other)))
    with pytest.raises(SpecError, match="no image for linux/amd64; it has: linux/arm64"):
        locked(store, f"docker://{served.host}/multi:arm")
    with pytest.raises(SpecError, match="is an image for linux/arm64, the manifest wants linux/amd64"):
        locked(store, f"docker://{served.host}/multi@{parts.digest(other.manifest)}")


def test_what_is_not_there_is_said_with_what_is(served: Registry, store: Store) -> None:
    for tag in ("v1.0.0", "v1.0.1", "other"):
        parts.push(served.url, "tags", tag, parts.image("gzip"))
    with pytest.raises(
        NotFound, match=rf"{served.host}/tags:v1\.0\.2: no such tag 'v1\.0\.2' -> tags there are: v1\.0\.[01], v1"
    ):
        locked(store, f"docker://{served.host}/tags:v1.0.2")
    with pytest.raises(NotFound, match="no such image"):
        locked(store, f"docker://{served.host}/nothing:v1")
    with pytest.raises(NetworkError, match="Connection refused"):
        locked(store, "docker://127.0.0.1:1/nothing:v1")


def test_layers_that_the_registry_does_not_hold_are_refused(served: Registry, store: Store) -> None:
    parts.push(served.url, "foreign", "v1", parts.image("gzip", "foreign"))
    with pytest.raises(SpecError, match="is not held by the registry"):
        locked(store, f"docker://{served.host}/foreign:v1")


def test_a_damaged_blob_is_fetched_again_and_a_wrong_one_refused(served: Registry, store: Store) -> None:
    image = parts.image("gzip", content="damage")
    parts.push(served.url, "damage", "v1", image)
    name = f"docker://{served.host}/damage:v1"
    lock = locked(store, name)
    layer = lock.images["engine"].layers[0]
    store.path(layer.digest).write_bytes(b"short")
    fetched(lock, store, name)
    assert Digest.of_file(store.path(layer.digest)) == layer.digest
    place = served.storage / f"docker/registry/v2/blobs/sha256/{layer.digest.hex[:2]}/{layer.digest.hex}/data"
    data = bytearray(place.read_bytes())
    data[100] ^= 1
    place.write_bytes(data)
    store.evict(layer.digest)
    with pytest.raises(DigestMismatch, match=rf"(engine|gateway): layer {layer.digest.short} \(http://.*\): has digest"):
        fetched(lock, store, name)
    assert not store.path(layer.digest).exists()


def docker_config(folder: Path, content: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


def test_logins(served: Registry, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts.push(served.url, "private", "v1", parts.image("gzip", content="private"))
    docker_config(tmp_path / "docker", {}, monkeypatch)
    with Registry(served.storage, tmp_path / "work", user=("me", "secret")) as closed:
        name = f"docker://{closed.host}/private:v1"
        with pytest.raises(AccessDenied, match=rf"wants a login .* -> docker login {closed.host}"):
            locked(store, name)

        def auths(password: str) -> dict[str, Any]:
            return {"auths": {closed.host: {"auth": base64.b64encode(f"me:{password}".encode()).decode()}}}

        docker_config(tmp_path / "docker", auths("wrong"), monkeypatch)
        with pytest.raises(AccessDenied, match="refuses the login 'me'"):
            locked(store, name)
        docker_config(tmp_path / "docker", auths("secret"), monkeypatch)
        fetched(locked(store, name), store, name)
        # A credential helper, as Docker Desktop and cloud registries have them.
        helper = tmp_path / "bin/docker-credential-test"
        helper.parent.mkdir()
        helper.write_text('#!/bin/sh\nread -r server\necho "{\\"Username\\": \\"me\\", \\"Secret\\": \\"secret\\"}"\n')
        helper.chmod(0o755)
        monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
        docker_config(tmp_path / "docker", {"credHelpers": {closed.host: "test"}}, monkeypatch)
        locked(Store(tmp_path / "second"), name)
        docker_config(tmp_path / "docker", {"credsStore": "absent"}, monkeypatch)
        with pytest.raises(AccessDenied, match=r"credentials could not be read: .*docker-credential-absent"):
            locked(store, name)


@pytest.mark.parametrize("theirs", ["x86_64", "x86-64"])
def test_an_architecture_by_another_name(served: Registry, store: Store, theirs: str) -> None:
    """As some builders write it; Docker takes it for its own (seen with 20.10: loaded, and run with --platform linux/amd64)."""
    item = parts.image("gzip", content=theirs, architecture=theirs)
    parts.push(served.url, f"builder/{theirs}", "v1", item)
    source = f"docker://{served.host}/builder/{theirs}:v1"
    fetched(locked(store, source), store, source)
    other = parts.image("gzip", content="arm", architecture="aarch64")
    parts.push(served.url, "builder/arm", "v1", other)
    with pytest.raises(SpecError, match="is an image for linux/arm64, the manifest wants linux/amd64"):
        locked(store, f"docker://{served.host}/builder/arm:v1")


@pytest.mark.parametrize("served_as", ["text/plain", "application/octet-stream", "application/json; charset=utf-8"])
@pytest.mark.parametrize("form", ["gzip", "docker"])
def test_a_manifest_without_a_media_type(served: Registry, store: Store, served_as: str, form: str) -> None:
    """As repository managers and proxies serve it: what it is follows from what is in it."""
    item = parts.image(form, content="untyped")
    content = {name: value for name, value in json.loads(item.manifest).items() if name != "mediaType"}
    item = dataclasses.replace(item, manifest=json.dumps(content).encode())
    with Untyped(item, served_as) as bare:
        source = f"docker://{bare.host}/bare:v1"
        lock = locked(store, source)
        assert lock.images["engine"].manifest.media_type == item.media_type
        fetched(lock, store, source)
        bare.item = dataclasses.replace(item, manifest=b'{"schemaVersion": 1, "fsLayers": []}')
        with pytest.raises(SpecError, match=r"of a kind that no current Docker uses .* -> push the image again"):
            locked(store, source)


def test_an_index_whose_entries_name_no_platform(served: Registry, store: Store) -> None:
    arm, amd = parts.image("gzip", content="arm", architecture="arm64"), parts.image("gzip", content="amd")
    for item in (arm, amd):
        parts.push(served.url, "unmarked", "part", item)
    data, kind = parts.index(("arm64", arm), ("amd64", amd))
    content = json.loads(data)
    for item in content["manifests"][:2]:
        del item["platform"]
    parts.push_manifest(served.url, "unmarked", "v1", json.dumps(content).encode(), kind)
    lock = locked(store, f"docker://{served.host}/unmarked:v1")
    assert str(lock.images["engine"].manifest.digest) == parts.digest(amd.manifest)
    content["manifests"] = [content["manifests"][0], content["manifests"][2]]
    parts.push_manifest(served.url, "unmarked", "v2", json.dumps(content).encode(), kind)
    with pytest.raises(SpecError, match="has no image for linux/amd64; it has: linux/arm64"):
        locked(store, f"docker://{served.host}/unmarked:v2")


def test_an_index_that_names_artifacts_beside_the_image(served: Registry, store: Store) -> None:
    amd, chart = parts.image("gzip", content="beside a chart"), parts.image("gzip", content="chart")
    told = json.loads(chart.manifest)
    told["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"
    chart = dataclasses.replace(chart, manifest=json.dumps(told).encode())
    for item in (amd, chart):
        parts.push(served.url, "mixed", "part", item)
    data, kind = parts.index(("amd64", chart), ("amd64", amd))
    content = json.loads(data)
    for item in content["manifests"][:2]:
        del item["platform"]
    parts.push_manifest(served.url, "mixed", "v1", json.dumps(content).encode(), kind)
    lock = locked(store, f"docker://{served.host}/mixed:v1")
    assert str(lock.images["engine"].manifest.digest) == parts.digest(amd.manifest)
    content["manifests"][0]["artifactType"] = "application/vnd.example"
    del content["manifests"][1]
    parts.push_manifest(served.url, "mixed", "v2", json.dumps(content).encode(), kind)
    with pytest.raises(SpecError, match="has no image for linux/amd64; it has: none"):
        locked(store, f"docker://{served.host}/mixed:v2")
