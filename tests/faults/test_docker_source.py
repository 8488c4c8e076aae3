"""Images of a Docker engine that is killed while they are read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.builder import PROGRAM
from tests.faults.test_builder_disks import one_line
from tests.support import intake_samples as parts
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # an image of 200 MiB, read four times
NAME = "faults/large:v1"


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """An engine of its own with an image that is long to read."""
    with Dockerd(tmp_path_factory.mktemp("e") / "d") as running:
        image = parts.image("tar", files={"large": os.urandom(200 << 20)})
        running.docker("load", stdin=parts.docker_archive(image, NAME))
        yield running


@pytest.mark.fault("lock", "dockerd dies", "exit 10 in one line, and no lock; when Docker is back, it ends well")
@pytest.mark.fault(
    "fetch", "dockerd dies", "exit 10 in one line; every blob with a name is whole; when Docker is back, it ends well"
)
def test_docker_dies_while_an_image_is_read(engine: Dockerd, tmp_path: Path) -> None:
    source = f"docker-daemon://{NAME}"
    shutil.copytree(REPOSITORY / "config/demo", tmp_path / "config/demo")
    model = parts.write(tmp_path / "mine", {"config.json": b"{}", "model.safetensors": parts.safetensors({"w": b"1"})})
    manifest = {
        "apiVersion": "offline-kit/v1", "name": "demo", "accelerator": "cpu",
        "images": {key: {"source": source} for key in ("engine", "gateway")},
        "models": {key: {"source": f"dir://{model}"} for key in ("chat", "embedding", "rerank")},
        "services": "config/demo/models.json", "engine_config": "config/demo/vllm_config.yaml",
    }  # fmt: skip
    parts.write(tmp_path, {"demo.yaml": json.dumps(manifest).encode()})
    lock, store = tmp_path / "demo.lock.json", tmp_path / "store"
    places = ["--manifest", "demo.yaml", "--store", "store"]
    for verb in (["lock"], ["build", "--locked", "--version", "v1", "--output", "out"]):
        shutil.rmtree(store, ignore_errors=True)
        run = subprocess.Popen(
            [PROGRAM, *verb, *places], cwd=tmp_path, env={**os.environ, **engine.env}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not [path for path in store.glob("partial/tmp-*") if path.stat().st_size > 1 << 20]:
            assert time.monotonic() < deadline and run.poll() is None, run.communicate()
            time.sleep(0.01)
        engine.die()
        _, talk = run.communicate(timeout=60)
        assert run.returncode == 10, talk
        assert "Docker" in one_line(talk) and lock.exists() == (verb[0] == "build") and not list(tmp_path.glob("out/*.tar.gz"))
        assert not list(store.glob("partial/tmp-*"))
        for blob in store.glob("blobs/sha256/*"):
            assert parts.digest(blob.read_bytes()) == f"sha256:{blob.name}"
        engine.start()
        done = subprocess.run(
            [PROGRAM, *verb, *places],
            cwd=tmp_path,
            env={**os.environ, **engine.env},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
