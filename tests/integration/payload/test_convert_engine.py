"""A pickle-only XLM-R, as bge-m3 is one: converted, it has the same tensors and a real vLLM answers as transformers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.progress import Silent
from offline_kit.intake.convert.convert import convert_model
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import LockedFile, LockedModel
from tests.testbed import images
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.registry import Registry

SCRIPT = Path(__file__).with_name("weights_in_engine.py")


@pytest.fixture(scope="module")
def engine(dockerd: Dockerd, registry: Registry) -> Iterator[str]:
    image = f"{registry.host}/{images.ENGINE}"
    dockerd.docker("pull", "--quiet", image)
    yield image
    dockerd.docker("rmi", "--force", image)


def inside(dockerd: Dockerd, image: str, folder: Path, tokenizer: Path, *words: str) -> str:
    """What the script says on its last line, run in the engine image without a network."""
    mounts = ("--volume", f"{SCRIPT}:/script.py:ro", "--volume", f"{folder}:/models", "--volume", f"{tokenizer}:/tokenizer:ro")
    strict = ("--rm", "--pull", "never", "--network", "none", "--memory", "3g", "--env", "VLLM_ENABLE_V1_MULTIPROCESSING=0")
    said = dockerd.docker("run", *strict, *mounts, "--entrypoint", "python3", image, "/script.py", *words)
    return said.strip().rpartition("\n")[2]


def test_the_converted_model_is_the_pickled_one(dockerd: Dockerd, engine: str, testbed: Testbed, tmp_path: Path) -> None:
    tokenizer, pickled, converted = testbed.models / "tiny-rerank", tmp_path / "pickled", tmp_path / "converted"
    pickled.mkdir()
    inside(dockerd, engine, tmp_path, tokenizer, "make", "/tokenizer", "/models/pickled")
    assert (pickled / "pytorch_model.bin").is_file() and not list(pickled.rglob("*.safetensors"))
    files = tuple(
        LockedFile(path=path.relative_to(pickled).as_posix(), size=path.stat().st_size, sha256=Digest.of_file(path))
        for path in sorted(pickled.rglob("*"))
        if path.is_file()
    )
    model = LockedModel(spec_digest=Digest.of(b""), source="dir://m", files=files)
    store = Store(tmp_path / "store")
    made = convert_model("m", model, lambda file: pickled / file.path, store, Silent())
    shutil.copytree(pickled, converted, ignore=shutil.ignore_patterns("*.bin"))
    shutil.copyfile(store.path(made.converted[0].result.sha256), converted / "model.safetensors")
    found = json.loads(inside(dockerd, engine, tmp_path, tokenizer, "compare", "/models/pickled", "/models/converted"))
    assert found["differ"] == [] and found["tensors"] >= 39
    assert found["apart"] < 1e-4 < found["spread"], found
