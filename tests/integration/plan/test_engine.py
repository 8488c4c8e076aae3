"""The plan's arithmetic against vLLM: its own classes on every fixture, and real engines on the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.runtime import kit
from offline_kit.runtime.gpu_plan import engine_memory, gpus
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.vllm_version import UNKNOWN
from offline_kit.runtime.settings import load
from tests.testbed import images
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.registry import Registry

FIXTURES = REPOSITORY / "tests/data/architectures"
SCRIPT = REPOSITORY / "tests/support/plan_in_engine.py"
STRICT = (
    "--network", "none", "--entrypoint", "python3", "--env", "HOME=/tmp", "--env", "VLLM_ENABLE_V1_MULTIPROCESSING=0",
)  # fmt: skip
ENGINES: dict[str, dict[str, Any]] = {
    "tiny-chat": {"max_model_len": 256, "dtype": "bfloat16", "kv_cache_memory_bytes": 32 << 20, "max_num_seqs": 4},
    "tiny-embed": {"max_model_len": 128, "dtype": "float32", "runner": "pooling", "convert": "embed", "max_num_seqs": 4},
    "tiny-rerank": {"max_model_len": 128, "dtype": "float32", "runner": "pooling", "convert": "classify", "max_num_seqs": 4},
}


CARD = gpus.measured("0", 8192)


class Inside:
    """Runs the script in the engine image."""

    def __init__(self, dockerd: Dockerd, image: str, models: Path) -> None:
        self._dockerd, self._image, self._models = dockerd, image, models

    def __call__(self, *words: str) -> dict[str, Any]:
        mounts = (
            "--volume",
            f"{SCRIPT}:/script.py:ro",
            "--volume",
            f"{FIXTURES}:/fixtures:ro",
            "--volume",
            f"{self._models}:/models:ro",
        )
        said = self._dockerd.docker("run", "--rm", "--memory", "3g", *STRICT, *mounts, self._image, "/script.py", *words)
        answer: dict[str, Any] = json.loads(said.splitlines()[-1])
        return answer


@pytest.fixture(scope="module")
def inside(dockerd: Dockerd, registry: Registry, testbed: Testbed) -> Iterator[Inside]:
    image = f"{registry.host}/{images.ENGINE}"
    dockerd.docker("pull", "--quiet", image)
    yield Inside(dockerd, image, testbed.models)
    dockerd.docker("rmi", "--force", image)


def test_the_record_is_what_vllm_computes(inside: Inside) -> None:
    theirs = inside("specs", "/fixtures")
    assert len(theirs) >= 25
    recorded = json.loads((REPOSITORY / "tests/data/vllm-0.32.0-kv.json").read_text())
    assert theirs == recorded, "benchmarks and unit tests lean on this record: write it anew"


def test_real_engines_have_as_many_blocks_as_planned(inside: Inside, testbed: Testbed) -> None:
    started = inside("blocks", json.dumps({f"/models/{name}": request for name, request in ENGINES.items()}))
    assert len(started) == len(ENGINES)
    for name, request in ENGINES.items():
        reported = started[f"/models/{name}"]
        arguments = {key: request[key] for key in ("kv_cache_memory_bytes", "max_num_seqs") if key in request}
        entry = {
            "name": name, "path": name, "type": "chat" if name == "tiny-chat" else "embedding", "port": 8001,
            "gpu_memory_utilization": 0.3, "max_model_len": request["max_model_len"], "tensor_parallel_size": 1,
            "dtype": request["dtype"], "engine_args": arguments,
        }  # fmt: skip
        settings = load.load_settings(json.dumps({"models": {"m": entry}}), "", device="cpu")
        need = engine_memory.demand(
            settings.models[0], settings, Facts.of(kit.facts_from_folder(testbed.models / name)), CARD, UNKNOWN
        )
        if name == "tiny-chat":
            planned = need.pool.blocks([need.kv_fixed or 0])
            assert reported["block"] == need.pool.options.block
            assert abs(planned - reported["blocks"]) <= 0.01 * reported["blocks"], (planned, reported)
            assert reported["tokens"] == planned * reported["block"]
        else:
            assert need.pool.groups == () and need.kv_fixed is None
            assert reported["blocks"] in (None, 0, 1), "an encoder keeps the one block that is never given out, or none"
