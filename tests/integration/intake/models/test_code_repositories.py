"""``auto_map`` into another repository: refused with what to do, then carried, pinned and proven as a model of its own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, Project, write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

CONFIG = {
    "architectures": ["OtherForCausalLM"],
    "model_type": "other",
    "auto_map": {"AutoConfig": "o/Other.Code--configuration_other.OtherConfig"},
}
CODE = {"configuration_other.py": b"from .helpers import A\n", "helpers.py": b"A = 1\n", "model.safetensors": b"not asked for"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        for name in ("engine", "gateway"):
            parts.push(running.url, name, "v1", parts.image("gzip", content=name))
        yield running


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        weights = parts.safetensors({"w": b"x" * 900})
        for key in MODELS:
            files = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "model.safetensors": weights}
            hub.add(f"o/{key}", parts.write(tmp_path / key, files))
        hub.add("o/Other.Code", parts.write(tmp_path / "code", CODE))
        yield hub


def change(file: Path, **changes: Any) -> None:
    """Its models with these, each changed by its fields."""
    content = json.loads(file.read_text())
    for key, fields in changes.items():
        content["models"].setdefault(key.replace("_", "-"), {}).update(fields)
    file.write_text(json.dumps(content))


def held(project: Project, path: str) -> bytes:
    listed = subprocess.run(["tar", "-xOzf", project.bundle, f"demo-v1/{path}"], capture_output=True, check=True)
    return listed.stdout


def test_it_is_refused_until_it_is_carried(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> None:
    project = Project(write_project(tmp_path / "project", registry, hub), offline_kit)
    services = project.folder / "config/demo/models.json"
    change(services, chat={"engine_args": {"trust_remote_code": True}})
    done = project.build()
    assert done.returncode == 3 and "takes its code from another repository, o/Other.Code" in done.stderr, done.stderr
    assert 'models: {other-code-code: {source: "hf://o/Other.Code", include: ["*.py"]}}' in done.stderr
    assert '"code": {"o/Other.Code": "/models/other-code-code"}' in done.stderr
    assert not [entry for entry in hub.log if entry.path.endswith("model.safetensors") and entry.status == 200], "no weights"

    # as the line says
    change(project.manifest, other_code_code={"source": "hf://o/Other.Code", "endpoint": hub.url, "include": ["*.py"]})
    change(services, chat={"code": {"o/Other.Code": "/models/other-code-code"}})
    done = project.build()
    assert done.returncode == 0, done.stderr
    of_code = [line for line in done.stderr.splitlines() if line.startswith("warning: ") and "its code from" in line]
    assert [line.split()[1] for line in of_code] == ["embedding", "rerank"], "of the others, which may not run it"
    lock = json.loads(project.manifest.with_name("demo.lock.json").read_text())["models"]["other-code-code"]
    assert len(lock["commit"]) == 40 and [file["path"] for file in lock["files"]] == ["configuration_other.py", "helpers.py"]
    for path in ("configuration_other.py", "helpers.py"):
        assert held(project, f"models/other-code-code/{path}") == CODE[path]
        assert f"  models/other-code-code/{path}" in held(project, "SHA256SUMS").decode()
    policy = parts.write(project.folder / "policy", {"policy.yaml": b"repository_code: false\n"}) / "policy.yaml"
    refused = offline_kit("verify", "--policy", policy, project.bundle)
    assert refused.returncode == 23, refused.stderr
    assert "models.other-code-code: brings code of its own (configuration_other.py, helpers.py)" in refused.stderr
    assert "models.chat: brings code of its own (auto_map: o/Other.Code--" in refused.stderr

    # the code at the hub moves on: the bundle does not
    hub.add("o/Other.Code", parts.write(tmp_path / "moved", {**CODE, "helpers.py": b"A = 2\n"}))
    first = project.bundle.read_bytes()
    again = project.build("--replace")
    assert again.returncode == 0 and project.bundle.read_bytes() == first
    assert held(project, "models/other-code-code/helpers.py") == CODE["helpers.py"]


def test_the_order_of_a_manifest_is_none_of_the_bundle(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> None:
    """The first build, whose lock was just made, had it in the order of the manifest, the second in that of the lock's file."""
    project = Project(write_project(tmp_path / "project", registry, hub), offline_kit)
    content = json.loads(project.manifest.read_text())
    content["models"] = dict(reversed(content["models"].items()))
    project.manifest.write_text(json.dumps(content))
    assert project.build().returncode == 0
    first = project.bundle.read_bytes()
    assert project.build("--locked", "--replace").returncode == 0
    assert project.bundle.read_bytes() == first
