"""The workspace in which every stage of the connected side came to its end, and the servers that it asks."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from collections.abc import Iterator

import pytest

from tests.faults.builder import BUNDLE, KEY, LOCK, PROGRAM, Template
from tests.integration.payload.test_convert import FILES
from tests.support import intake_samples as parts
from tests.support.projects.demo import write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry
from tests.unit.intake.convert.torch_files import Saved, torch_file

WEIGHTS = parts.safetensors({"w": os.urandom(3 << 20)})
PICKLED = torch_file({"embeddings.weight": Saved(struct.pack("<60000f", *range(60_000)), [60_000])})
ENVIRONMENT = {"OFFLINE_KIT_KEY_PASSPHRASE": "open sesame"}


@pytest.fixture(scope="session")
def fault_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Registry, Hub]]:
    """A registry with two images, and a hub with two models."""
    work = tmp_path_factory.mktemp("servers")
    with Registry(work / "storage", work) as registry, Hub() as hub:
        for key in ("engine", "gateway"):
            parts.push(registry.url, key, "v1", parts.image("gzip", "zstd", content=key))
        for key, content in (
            ("chat", {"config.json": b"{}", "model.safetensors": WEIGHTS}),
            ("embedding", {**FILES, "pytorch_model.bin": PICKLED}),
        ):
            hub.add(f"o/{key}", parts.write(work / key, content))
        yield registry, hub


@pytest.fixture(scope="session")
def template(fault_servers: tuple[Registry, Hub], tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Locked, built, signed, split, joined."""
    registry, hub = fault_servers
    root = tmp_path_factory.mktemp("template")
    models = {
        "chat": {"source": "hf://o/chat", "endpoint": hub.url},
        "embedding": {"source": "hf://o/embedding", "endpoint": hub.url, "convert": "safetensors"},
        "rerank": {"source": "dir://../mine"},
    }
    # small files only: what fails in the weights shall fail where they are packed
    scanner = {"name": "reader", "command": ["sh", "-c", 'cat "$1" >/dev/null', "-", "{file}"], "largest": "1MB"}
    project = write_project(root / "project", registry, hub, models=models, scan=[scanner])
    parts.write(project / "mine", {"config.json": b"{}", "model.safetensors": parts.safetensors({"w": os.urandom(200_000)})})
    environment = {**os.environ, **ENVIRONMENT}

    def run(*command: str) -> None:
        done = subprocess.run([PROGRAM, *command], cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    run("keygen", "--output", "release")
    run("build", "--version", "v1", "--manifest", "project/manifests/demo.yaml", "--output", "out", "--store", "store")
    run("sign", BUNDLE, "--key", KEY)
    run("split", BUNDLE, "--size", "1MiB", "--output", "parts")
    models_locked = json.loads((root / LOCK).read_text())["models"]
    blob = "store/blobs/sha256/{}".format
    (pair,) = models_locked["embedding"]["converted"]
    weights = next(file for file in models_locked["chat"]["files"] if file["path"] == "model.safetensors")
    pickled = blob(pair["source"]["sha256"][7:])
    names = {"pickled": pickled, "converted": blob(pair["result"]["sha256"][7:]), "weights": blob(weights["sha256"][7:])}
    return Template(root, names, ENVIRONMENT)


@pytest.fixture
def fault_hub(fault_servers: tuple[Registry, Hub]) -> Iterator[Hub]:
    """The hub, with an empty log."""
    _, hub = fault_servers
    hub.log.clear()
    yield hub
    hub.faults.clear()
