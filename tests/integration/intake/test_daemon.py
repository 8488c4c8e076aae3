"""Images that only a Docker engine has, from a real one."""

from __future__ import annotations

import gc
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.errors import DigestMismatch, DockerError, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.export import read_export
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import Manifest
from tests.support import intake_samples as parts
from tests.testbed.dockerd import Dockerd

NAME = "intake/local:v1"


def manifest(**fields: Any) -> Manifest:
    entry = {"source": f"docker-daemon://{NAME}", **fields}
    return parts.manifest({"engine": entry, "gateway": entry})


def locked(store: Store, **fields: Any) -> Lock:
    return resolve(manifest(**fields), Path("/"), {}, Session(store, options=parts.QUICK))


@pytest.fixture
def image(dockerd: Dockerd, monkeypatch: pytest.MonkeyPatch) -> parts.Image:
    monkeypatch.setenv("DOCKER_HOST", dockerd.env["DOCKER_HOST"])
    made = parts.image("gzip", "gzip", "gzip", content="daemon")
    dockerd.docker("load", stdin=parts.docker_archive(made, NAME))
    return made


def test_an_image_comes_out_normalised_and_only_once(image: parts.Image, dockerd: Dockerd, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    lock = locked(store)
    entry = lock.images["engine"]
    assert str(entry.config.digest) == parts.digest(image.config) and entry.reference == NAME
    assert store.path(entry.config.digest).read_bytes() == image.config
    assert dockerd.docker("image", "inspect", "--format", "{{.Id}}", NAME) == str(entry.config.digest)
    assert [str(layer.diff_id) for layer in entry.layers] == [parts.digest(data) for data in image.tars]
    for layer, data in zip(entry.layers, image.tars, strict=True):
        assert gzip.decompress(store.path(layer.digest).read_bytes()) == data
    content = json.loads(store.path(entry.manifest.digest).read_bytes())
    assert [item["digest"] for item in content["layers"]] == [str(layer.digest) for layer in entry.layers]
    assert entry.environment["CUDA_VERSION"] == "12.8.1"
    # A second run finds everything: nothing is exported, let alone compressed.
    inodes = {path.name: path.stat().st_ino for path in (tmp_path / "store/blobs/sha256").iterdir()}
    assert locked(store) == lock
    assert {path.name: path.stat().st_ino for path in (tmp_path / "store/blobs/sha256").iterdir()} == inodes
    # Another store comes to the same lock, and one that lost a layer makes it again.
    other = Store(tmp_path / "other")
    assert locked(other) == lock
    other.evict(entry.layers[1].digest)
    fetch(lock, manifest(), Path("/"), Session(other, options=parts.QUICK))
    assert other.has(entry.layers[1].digest, entry.layers[1].size)


def test_what_comes_out_loads_again_as_the_same_image(image: parts.Image, dockerd: Dockerd, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    entry = locked(store).images["engine"]
    files = {f"blobs/sha256/{blob.digest.hex}": store.path(blob.digest).read_bytes() for blob in entry.blobs()}
    listing = {
        "Config": f"blobs/sha256/{entry.config.digest.hex}",
        "RepoTags": ["intake/again:v1"],
        "Layers": [f"blobs/sha256/{layer.digest.hex}" for layer in entry.layers],
    }
    dockerd.docker("load", stdin=parts.tar({**files, "manifest.json": json.dumps([listing]).encode()}))
    assert dockerd.docker("image", "inspect", "--format", "{{.Id}}", "intake/again:v1") == str(entry.config.digest)


def test_what_is_wrong_is_said(image: parts.Image, dockerd: Dockerd, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with pytest.raises(
        NotFound, match=r"intake/nothing:v1: the Docker engine has no such image -> docker pull intake/nothing:v1"
    ):
        locked(store, source="docker-daemon://intake/nothing:v1")
    with pytest.raises(DigestMismatch, match="the manifest demands sha256:000"):
        locked(store, digest="0" * 64)
    assert locked(store, digest=parts.digest(image.config))
    dockerd.docker("load", stdin=parts.docker_archive(parts.image("gzip", architecture="arm64"), "intake/arm:v1"))
    with pytest.raises(SpecError, match="is for linux/arm64, the manifest wants linux/amd64 -> docker pull --platform"):
        locked(store, source="docker-daemon://intake/arm:v1")
    lock = locked(store)
    dockerd.docker("load", stdin=parts.docker_archive(parts.image("gzip", content="moved"), NAME))
    with pytest.raises(DigestMismatch, match="-> run 'offline-kit lock'"):
        fetch(lock, manifest(), Path("/"), Session(Store(tmp_path / "empty"), options=parts.QUICK))


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # docker-py leaves the socket that could not connect
def test_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nothing.sock")
    with pytest.raises(DockerError, match=r"no Docker engine answers \(.*\) -> start Docker or set DOCKER_HOST") as caught:
        locked(Store(tmp_path / "store"))
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()


@pytest.mark.parametrize("form", ["tar", "gzip", "zstd"])
def test_exports_of_newer_engines(tmp_path: Path, form: str) -> None:
    """An OCI layout, with plain tars (26 and newer) or as it came from a registry (containerd's store)."""
    made = parts.image(form, form, content=f"layout {form}")
    blobs = {
        f"blobs/sha256/{name[7:]}": data for name, data in {**made.blobs, parts.digest(made.manifest): made.manifest}.items()
    }
    index = parts.index(("amd64", made))[0]
    with HttpClient(parts.QUICK) as client:
        context = Context(Store(tmp_path), client, tmp_path, "linux/amd64", Silent())
        stream = parts.tar({**blobs, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": index})
        export = read_export([stream[start : start + 777_777] for start in range(0, len(stream), 777_777)], "name", context)
        assert export.config == made.config
        assert (export.manifest == made.manifest) == (form == "gzip")
        wrong = parts.image(form, content=f"wrong {form}", diff_ids=["sha256:" + "0" * 64])
        blobs = {f"blobs/sha256/{name[7:]}": data for name, data in wrong.blobs.items()}
        layer = next(name for name, data in blobs.items() if data != wrong.config)
        listing = [{"Config": f"blobs/sha256/{parts.digest(wrong.config)[7:]}", "RepoTags": None, "Layers": [layer]}]
        with pytest.raises(DigestMismatch, match="has diff ID"):
            read_export([parts.tar({**blobs, "manifest.json": json.dumps(listing).encode()})], "name", context)
        del blobs[layer]
        with pytest.raises(DockerError, match="export"):
            read_export([parts.tar(blobs)], "name", context)
