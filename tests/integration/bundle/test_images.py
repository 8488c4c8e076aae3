"""The image layout of a bundle, read by a real Docker engine and by skopeo."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.bundle.format.oci_layout import names_of
from tests.support.bundle_sample import Sample, make_sample
from tests.testbed.dockerd import Dockerd


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    sample = make_sample(tmp_path / "blobs")
    # Names of this test's own: the engine is shared with others.
    for key, reference in (("engine", "bundle-test/engine:v1"), ("gateway", "registry.example:5000/bundle-test/nginx:1")):
        sample.image(key, reference, {"etc/shared": b"shared by both\n"}, {key: f"#!{key}\n".encode()})
    return sample


@pytest.fixture
def kit(sample: Sample, tmp_path: Path) -> Path:
    subprocess.run(["tar", "-xzf", str(sample.pack(tmp_path / "kit.tar.gz")), "-C", str(tmp_path)], check=True)
    return tmp_path / "kit-v1.0.0"


@pytest.fixture
def engine(dockerd: Dockerd, sample: Sample) -> Iterator[Dockerd]:
    yield dockerd
    for key, image in sample.images.items():
        dockerd.run(["docker", "image", "rm", "--force", *names_of(key, image)])


def prove(engine: Dockerd, sample: Sample, key: str) -> None:
    """Both names give the image of the lock, and a container can be made of it."""
    image = sample.images[key]
    for name in names_of(key, image):
        (found,) = json.loads(engine.docker("image", "inspect", name))
        assert found["Id"] in {str(image.config.digest), str(image.manifest.digest)}
        assert found["RootFS"]["Layers"] == [str(layer.diff_id) for layer in image.layers]
    container = engine.docker("create", "--pull", "never", image.tag(key))
    listed = engine.run(["bash", "-c", f"docker export {container} | tar -tf -"]).stdout.split()
    engine.docker("rm", container)
    assert {"etc/shared", key} <= set(listed)


def test_docker_load_of_all_images(engine: Dockerd, sample: Sample, kit: Path) -> None:
    done = engine.run(["bash", "-o", "pipefail", "-c", "tar -cf - -C images . | docker load"], cwd=kit)
    assert done.returncode == 0, done.stderr
    prove(engine, sample, "engine")
    prove(engine, sample, "gateway")


def test_docker_load_of_one_image(engine: Dockerd, sample: Sample, kit: Path) -> None:
    """As docs/design.md gives it: the small files of the one image, its blobs from the common layout."""
    command = (
        "tar -cf - -C deploy/images/gateway oci-layout index.json manifest.json "
        '-C "$PWD/images" -T deploy/images/gateway/files | docker load'
    )
    done = engine.run(["bash", "-o", "pipefail", "-c", command], cwd=kit)
    assert done.returncode == 0, done.stderr
    prove(engine, sample, "gateway")
    assert engine.run(["docker", "image", "inspect", sample.images["engine"].tag("engine")]).returncode != 0


@pytest.mark.parametrize("folder", ["images", "deploy/images/engine"])
def test_skopeo(sample: Sample, kit: Path, folder: str) -> None:
    image = sample.images["engine"]
    if folder != "images":
        subprocess.run(["cp", "-r", str(kit / "images/blobs"), str(kit / folder)], check=True)
    for name in ("docker.io/bundle-test/engine:v1", image.tag("engine")):
        done = subprocess.run(["skopeo", "inspect", f"oci:{kit / folder}:{name}"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["Digest"] == str(image.manifest.digest)
        assert json.loads(done.stdout)["Layers"] == [str(layer.digest) for layer in image.layers]


def test_skopeo_copies_byte_for_byte(sample: Sample, kit: Path, tmp_path: Path) -> None:
    image = sample.images["gateway"]
    source = f"oci:{kit / 'images'}:registry.example:5000/bundle-test/nginx:1"
    subprocess.run(["skopeo", "copy", "--quiet", "--preserve-digests", source, f"dir:{tmp_path / 'out'}"], check=True)
    assert (tmp_path / "out/manifest.json").read_bytes() == sample.path_of(image.manifest.digest).read_bytes()
