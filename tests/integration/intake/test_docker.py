"""Fetched without Docker, loaded into Docker 20.10: the images are the very ones that the registry has."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from offline_kit.bundle.format.entries import lay_out
from offline_kit.bundle.write.pack import pack
from offline_kit.common.progress import Silent
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from tests.support import intake_samples as parts
from tests.testbed.dockerd import Dockerd
from tests.testbed.servers.registry import Registry

CONFIG = {"models.json": b"{}", "vllm_config.yaml": b"\n"}


def skopeo(source: str, *arguments: str) -> bytes:
    """The image's configuration, as another program sees it."""
    command = ["skopeo", "--override-arch", "amd64", "inspect", "--config", "--raw", "--tls-verify=false"]
    done = subprocess.run([*command, *arguments, source], capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def pushed(registry: Registry) -> Mapping[str, str]:
    """An index of two platforms, zstd layers, one plain layer, Docker's own types; the first layers are shared by all."""
    forms = {"multi": ("gzip", "gzip"), "zstd": ("zstd", "zstd"), "plain": ("tar", "gzip"), "schema2": ("docker", "docker")}
    images = {name: parts.image(*kinds, content="shared") for name, kinds in forms.items()}
    other = parts.image("gzip", content="arm", architecture="arm64")
    for name, image in images.items():
        parts.push(registry.url, name, "v1", image)
    parts.push(registry.url, "multi", "arm", other)
    parts.push_manifest(registry.url, "multi", "v1", *parts.index(("arm64", other), ("amd64", images["multi"])))
    return {name: f"{registry.host}/{name}:v1" for name in forms}


def test_image_ids_are_those_that_skopeo_says(dockerd: Dockerd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(tmp_path / "storage", tmp_path / "open") as registry:
        pushed(registry)
    login = base64.b64encode(b"me:secret").decode()
    with Registry(tmp_path / "storage", tmp_path / "closed", user=("me", "secret")) as registry:
        names = {name: f"{registry.host}/{name}:v1" for name in ("multi", "zstd", "plain", "schema2")}
        settings = parts.write(
            tmp_path / "docker", {"config.json": json.dumps({"auths": {registry.host: {"auth": login}}}).encode()}
        )
        monkeypatch.setenv("DOCKER_CONFIG", str(settings))
        monkeypatch.setenv("PATH", "/nowhere")  # no Docker, no skopeo: nothing but this program
        roles = {"engine": names["multi"], "gateway": names["zstd"], "third": names["plain"], "fourth": names["schema2"]}
        manifest = parts.manifest({role: {"source": f"docker://{name}"} for role, name in roles.items()})
        store = Store(tmp_path / "store")
        lock = resolve(manifest, Path("/"), CONFIG, Session(store, options=parts.QUICK))
        blobs = fetch(lock, manifest, Path("/"), Session(store, options=parts.QUICK))
        monkeypatch.undo()
        expected = {name: parts.digest(skopeo(f"docker://{name}", "--creds", "me:secret")) for name in names.values()}
    texts = {f"config/{name}": data for name, data in CONFIG.items()} | {"install.sh": b"#!/bin/bash\n"}
    pack(lay_out(lock, "v1", texts, ["install.sh"]), "test-v1", blobs.path, tmp_path / "kit.tar.gz", progress=Silent())
    with tarfile.open(tmp_path / "kit.tar.gz") as archive:
        archive.extractall(tmp_path / "kit", filter="data")
    load = ["bash", "-o", "pipefail", "-c", "tar -cf - -C images . | docker load"]
    done = dockerd.run(load, cwd=tmp_path / "kit/test-v1")
    assert done.returncode == 0, done.stderr
    for name, config in expected.items():
        assert dockerd.docker("image", "inspect", "--format", "{{.Id}}", name).strip() == config
        dockerd.docker("rm", dockerd.docker("create", name, "true").strip())
    assert dockerd.docker("version", "--format", "{{.Server.Version}}").startswith("20.10.")
    assert len({layer.diff_id for image in lock.images.values() for layer in image.layers}) == 2, "the layers are shared"
    dockerd.docker("image", "rm", "--force", *expected, *(image.tag(role) for role, image in lock.images.items()))
