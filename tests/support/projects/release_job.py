"""A release job as a scheduler has it: a project whose hub and registry change between its runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

WEIGHTS = parts.safetensors({"w": os.urandom(3 << 20)})
TOKENIZER = 1 << 18  # bytes


@dataclass(frozen=True)
class Job:
    """A release job: what it asks, what it works on, and where its releases lie."""

    folder: Path
    kit: Kit
    registry: Registry
    hub: Hub

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def command(self) -> list[str]:
        places = ["--manifest", self.folder / "manifests/demo.yaml", "--output", self.out, "--store", self.folder / "store"]
        return ["release", *map(str, places), "--if-changed", "--full-every", "4", "--keep", "3"]

    def run(self, *more: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.loud("--quiet", *more, env=env)

    def loud(self, *more: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return self.kit(*self.command, *more, cwd=self.folder, env=env)

    def begin(self, *more: str, env: Mapping[str, str] = {}) -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("offline-kit")), *self.command, *more]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env={**os.environ, **env}, stdout=pipe, stderr=pipe)

    def new_model(self, number: int, size: int = 1 << 20) -> None:
        files = {
            "config.json": b'{"n": %d}' % number,
            "model.safetensors": parts.safetensors({"w": os.urandom(size)}),
            "tokenizer.json": b'{"n": %d, "all": "%s"}' % (number, b"x" * TOKENIZER),
        }
        self.hub.add("o/embedding", parts.write(self.folder / f"embedding-{number}", files))

    def new_image(self, number: int) -> None:
        parts.push(self.registry.url, "engine", "v1", parts.image("gzip", content=f"engine {number}"))

    @property
    def releases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.out / "releases.json").read_text())["releases"]
        return found

    @property
    def content(self) -> dict[str, bytes]:
        """Every file of the releases and of their index, by name."""
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.is_file()}

    @property
    def versions(self) -> list[str]:
        return [release["version"] for release in self.releases]


@pytest.fixture
def job(tmp_path: Path, offline_kit: Kit) -> Iterator[Job]:
    with Registry(tmp_path / "storage", tmp_path) as registry, Hub() as hub:
        parts.push(registry.url, "gateway", "v1", parts.image("gzip", content="gateway"))
        for key in MODELS:
            weights = WEIGHTS if key == "chat" else parts.safetensors({key: b"x" * 100})
            hub.add(f"o/{key}", parts.write(tmp_path / key, {"config.json": b"{}", "model.safetensors": weights}))
        job = Job(write_project(tmp_path / "project", registry, hub), offline_kit, registry, hub)
        job.new_image(0)
        yield job
