"""A project as a user has it: the manifest of a registry's images and a hub's models, with the demo's configuration."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.testbed.cache import REPOSITORY
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

MODELS = ("chat", "embedding", "rerank")


@dataclass(frozen=True)
class Project:
    """A manifest with its configuration, a store, and the command that works on them."""

    folder: Path
    kit: Kit

    @property
    def manifest(self) -> Path:
        return self.folder / "manifests/demo.yaml"

    @property
    def bundle(self) -> Path:
        return self.folder / "out/demo-v1.tar.gz"

    def arguments(self, *more: str) -> list[str]:
        places = ["--manifest", self.manifest, "--output", self.folder / "out", "--store", self.folder / "store"]
        return ["build", "--version", "v1", *map(str, places), *more]

    def build(self, *more: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.kit(*self.arguments(*more), cwd=self.folder, env=env)

    def start(self, *more: str) -> subprocess.Popen[str]:
        """The same in the background."""
        program = Path(sys.executable).with_name("offline-kit")
        command = [str(program), *self.arguments(*more)]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lock(self) -> None:
        """So that a fault meets the fetch and not the questions before it."""
        assert self.kit("lock", "--manifest", self.manifest, "--store", self.folder / "store").returncode == 0

    def store(self, command: str, *more: str) -> subprocess.CompletedProcess[str]:
        return self.kit("store", command, "--store", self.folder / "store", *more, cwd=self.folder)


def write_project(folder: Path, registry: Registry, hub: Hub, **more: Any) -> Path:
    shutil.copytree(REPOSITORY / "config/demo", folder / "config/demo")
    content: dict[str, Any] = {
        "apiVersion": "offline-kit/v1",
        "name": "demo",
        "accelerator": "cpu",
        "images": {key: {"source": f"docker://{registry.host}/{key}:v1"} for key in ("engine", "gateway")},
        "models": {key: {"source": f"hf://o/{key}", "endpoint": hub.url} for key in MODELS},
        "services": "../config/demo/models.json",
        "engine_config": "../config/demo/vllm_config.yaml",
        **more,
    }
    parts.write(folder, {"manifests/demo.yaml": json.dumps(content).encode()})
    return folder
