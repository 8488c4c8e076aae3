"""``convert: safetensors`` from a hub to the bundle: only the result travels, the lock names both, and again gives the same."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.intake.test_pickles import EVIL, MARK, torch_archive
from tests.support import intake_samples as parts
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry
from tests.unit.intake.convert.torch_files import Saved, torch_file

CONFIG = {
    "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta", "hidden_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 2, "intermediate_size": 128, "vocab_size": 512, "max_position_embeddings": 258,
}  # fmt: skip
FILES = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "modules.json": b"[]"}
GOOD = torch_file({"embeddings.weight": Saved(struct.pack("<6f", *range(6)), [2, 3])})


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as running:
        yield running


class Project:
    """A project whose one model is the hub's ``o/NAME``, converted."""

    def __init__(self, work: Path, registry: str, hub: str, offline_kit: Any) -> None:
        self.work, self._kit = work, offline_kit
        entry = {"name": "m", "path": "/models/m", "type": "embedding", "port": 8001, "gpu_memory_utilization": 0.5}
        models = {"models": {"m": {**entry, "max_model_len": 128, "tensor_parallel_size": 1, "dtype": "auto"}}}
        self.manifest = {
            "apiVersion": "offline-kit/v1", "name": "kit", "accelerator": "cpu", "policy": {"pickles": False},
            "images": {key: {"source": f"docker://{registry}/{key}:v1"} for key in ("engine", "gateway")},
            "models": {"m": {"source": "hf://o/good", "endpoint": hub, "convert": "safetensors"}},
            "services": "models.json", "engine_config": "engine.yaml",
        }  # fmt: skip
        parts.write(work, {"models.json": json.dumps(models).encode(), "engine.yaml": b"{}"})

    def run(self, verb: str, *arguments: str | Path, **model: Any) -> subprocess.CompletedProcess[str]:
        manifest = {**self.manifest, "models": {"m": {**self.manifest["models"]["m"], **model}}}  # type: ignore[index]
        (self.work / "kit.yaml").write_text(json.dumps(manifest))
        where = ("--manifest", self.work / "kit.yaml", "--store", self.work / "store")
        done: subprocess.CompletedProcess[str] = self._kit(verb, *where, *arguments)
        return done


@pytest.fixture
def project(tmp_path: Path, hub: Hub, offline_kit: Any) -> Iterator[Project]:
    for name, weights in (("good", GOOD), ("evil", torch_archive(EVIL))):
        hub.add(f"o/{name}", parts.write(tmp_path / name, {**FILES, "pytorch_model.bin": weights}))
    with Registry(tmp_path / "storage", tmp_path) as registry:
        for key in ("engine", "gateway"):
            parts.push(registry.url, key, "v1", parts.image("gzip", content=key))
        yield Project(tmp_path / "p", registry.host, hub.url, offline_kit)


def test_only_the_result_travels(project: Project, offline_kit: Any, tmp_path: Path) -> None:
    done = project.run("build", "--version", "v1", "--output", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    locked = json.loads((project.work / "kit.lock.json").read_text())["models"]["m"]
    assert [file["path"] for file in locked["files"]] == ["config.json", "model.safetensors", "modules.json", "tokenizer.json"]
    (pair,) = locked["converted"]
    assert pair["source"]["path"] == "pytorch_model.bin" and pair["source"]["sha256"] == parts.digest(GOOD)
    assert pair["result"] in locked["files"] and locked["facts"]["tensors"][0]["dtype"] == "F32"
    (tmp_path / "out").mkdir()
    assert offline_kit("unpack", tmp_path / "a/kit-v1.tar.gz", tmp_path / "out").returncode == 0
    assert not list((tmp_path / "out").rglob("*.bin"))
    weights = (tmp_path / "out/kit-v1/models/m/model.safetensors").read_bytes()
    assert parts.digest(weights) == pair["result"]["sha256"]
    # an empty store and the same lock: made again from the source, the same bundle
    shutil.rmtree(project.work / "store")
    done = project.run("build", "--version", "v1", "--output", tmp_path / "b", "--locked")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a/kit-v1.tar.gz").read_bytes() == (tmp_path / "b/kit-v1.tar.gz").read_bytes()


def test_one_that_no_engine_serves_is_refused_before_its_weights_come(project: Project, hub: Hub, tmp_path: Path) -> None:
    config = json.dumps({**CONFIG, "quantization_config": {"quant_method": "exl2"}}).encode()
    hub.add("o/exl2", parts.write(tmp_path / "exl2", {**FILES, "config.json": config, "pytorch_model.bin": GOOD}))
    done = project.run("lock", source="hf://o/exl2")
    assert done.returncode == 3 and "is quantised for another engine (exl2) -> take the model" in done.stderr
    assert hub.sent("*.bin") == 0


def test_a_dangerous_one_is_refused_by_name_and_never_run(project: Project) -> None:
    done = project.run("lock", source="hf://o/evil")
    assert done.returncode == 23 and "pytorch_model.bin would call posix.system" in done.stderr and not MARK.exists()
    assert not (project.work / "kit.lock.json").exists()


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"sha256": {"pytorch_model.bin": "0" * 64}}, 8, "pytorch_model.bin"),
        ({"exclude": ["*.bin"]}, 3, "has no pytorch_model*.bin that could be converted"),
        ({"convert": "gguf"}, 3, "models.m.convert"),
    ],
)
def test_a_demand_that_is_not_met(project: Project, change: dict[str, Any], code: int, told: str) -> None:
    done = project.run("lock", **change)
    assert done.returncode == code and told in done.stderr, done.stderr


def test_a_lock_that_says_other_results_or_sources_does_not_fit(project: Project, tmp_path: Path) -> None:
    assert project.run("lock", sha256={"pytorch_model.bin": parts.digest(GOOD)[7:]}).returncode == 0
    path = project.work / "kit.lock.json"
    whole = json.loads(path.read_text())
    source = whole["models"]["m"]["converted"][0]["source"]
    changes: list[dict[str, Any]] = [{"converted": []}, {"files": [*whole["models"]["m"]["files"], source]}]
    for change in changes:
        path.write_text(json.dumps({**whole, "models": {"m": {**whole["models"]["m"], **change}}}))
        done = project.run(
            "build", "--locked", "--version", "v1", "--output", tmp_path, sha256={"pytorch_model.bin": parts.digest(GOOD)[7:]}
        )
        assert done.returncode == 4 and "models.m changed" in done.stderr, done.stderr


def test_a_local_folder_is_converted_once(project: Project, tmp_path: Path) -> None:
    folder = {"source": f"dir://{tmp_path / 'good'}", "endpoint": None}
    for number in (1, 2):
        done = project.run("build", "--version", f"v{number}", "--output", tmp_path / "o", **folder)
        assert done.returncode == 0, done.stderr
        assert ("became model.safetensors" in done.stderr) == (number == 1)
    (tmp_path / "good/model.safetensors").write_bytes(b"x")
    done = project.run("lock", **folder)
    assert done.returncode == 3 and "has safetensors already: model.safetensors -> leave 'convert' out" in done.stderr
