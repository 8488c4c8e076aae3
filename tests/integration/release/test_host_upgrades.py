"""A host that takes every release of a scheduled job, full ones and deltas: after each, all services answer.

Rules: releases are made by ``offline-kit release`` from a registry and a hub that change in between, with images that run: a
stand-in for vllm behind the real gateway; the host is a real Docker without a network and gets nothing but the file of each
release; what serves is told by a file that only this release's image, and one that only its model, has.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from offline_kit.spec.lock import LockedImage
from tests.support import intake_samples as parts
from tests.support import scripts_kit
from tests.support.kit_fixtures import Host
from tests.support.projects.release_job import Job
from tests.testbed.dockerd import Dockerd

PORTS = {"router": 8000, "chat": 8001, "embedding": 8002, "rerank": 8003}
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "choices": ("/v1/chat/completions", {"model": "tiny-chat", "messages": [{"role": "user", "content": "x"}]}),
    "data": ("/v1/embeddings", {"model": "tiny-embed", "input": "x"}),
    "results": ("/v1/rerank", {"model": "tiny-rerank", "query": "q", "documents": ["a", "b"]}),
}


@dataclass
class Site:
    """The job, the images that run, and the host with the kits that it got, the newest last; ``model`` and ``image``: the
    change that made the newest of each."""

    job: Job
    shelf: scripts_kit.Shelf
    dockerd: Dockerd
    kits: list[Host] = field(default_factory=list)
    model: int = 0
    image: int = 0

    def change(self, number: int) -> None:
        """A new model, or a new image: one layer more on the engine."""
        if number % 2:
            self.model = number
            self.job.new_model(number)
        else:
            self.image = number
            self._push("engine", self._engine(number))

    def receive(self, entry: dict[str, Any]) -> Host:
        """The release's file on the host: unpacked, completed from the kit before where it is a delta, and taken."""
        folder = self.job.folder / "host"
        folder.mkdir(exist_ok=True)
        subprocess.run(["tar", "-xzf", self.job.out / entry["file"]], cwd=folder, check=True)
        new = Host(folder / f"demo-{entry['version']}", self.dockerd, PORTS)
        old = self.kits[-1] if self.kits else None
        if entry["base"]:
            assert old and old.kit.name == f"demo-{entry['base']}"
            done = new.run("install.sh", "--yes", "--no-start", "--base", f"../{old.kit.name}", cwd=new.kit)
            assert done.returncode == 0, done.stderr
        done = old.deploy("upgrade", f"../{new.kit.name}", cwd=old.kit) if old else new.run("install.sh", "--yes")
        assert done.returncode == 0, f"{entry['version']}: {done.stderr}"
        self.kits.append(new)
        return new

    def _engine(self, number: int) -> LockedImage:
        own: scripts_kit.Members = [("release.txt", f"engine {number}".encode())]
        return scripts_kit.make_image(self.shelf.blobs, "engine", [*self.shelf.images["engine"].layers, own])

    def _push(self, repository: str, image: LockedImage) -> None:
        blobs = [image.config, *image.layers]
        contents = {str(blob.digest): (self.shelf.blobs / blob.digest.hex).read_bytes() for blob in blobs}
        manifest = (self.shelf.blobs / image.manifest.digest.hex).read_bytes()
        pushed = parts.Image([], b"", manifest, image.manifest.media_type, contents)
        parts.push(self.job.registry.url, repository, "v1", pushed)

    def push_first(self) -> None:
        self._push("engine", self._engine(0))
        self._push("gateway", self.shelf.images["gateway"])
        self.job.new_model(0)


@pytest.fixture
def site(job: Job, tmp_path: Path, airgap: Dockerd) -> Iterator[Site]:
    made = Site(job, scripts_kit.make_shelf(tmp_path / "shelf"), airgap)
    made.push_first()
    yield made
    if made.kits:
        made.kits[-1].clean()


@pytest.mark.parametrize("count", [2, pytest.param(12, marks=pytest.mark.long)])
def test_a_host_upgraded_along_all_releases_serves_after_each(site: Site, count: int) -> None:
    """Two: a full one and a delta. Twelve as the scheduled job has them: every fourth a full one, old ones pruned."""
    for number in range(count):
        if number:
            site.change(number)
        made = site.job.run()
        assert made.returncode == 0, made.stderr
        entry = site.job.releases[-1]
        host = site.receive(entry)
        assert host.serves(f"v1.0.{number}"), host.deploy("status").stdout
        assert _answers(host) == {"choices", "data", "results"}
        assert _inside(host, "cat", "/release.txt") == f"engine {site.image}"
        assert json.loads(_inside(host, "cat", "/models/embedding/config.json"))["n"] == site.model
        assert host.run("scripts/verify.sh").returncode == 0
    bases = [bool(entry["base"]) for entry in site.job.releases]
    assert any(bases) and not all(bases), "both ways were gone"
    key = site.kits[0].key
    assert all(host.key == key for host in site.kits), "a client keeps its key"
    back = site.kits[-1].deploy("rollback")
    assert back.returncode == 0 and site.kits[-2].serves(f"v1.0.{count - 2}"), back.stderr


def _answers(host: Host) -> set[str]:
    """What is in the answers of the three services, each asked through the router's port with the key."""
    found = set[str]()
    for path, question in QUESTIONS.values():
        head = ["-H", f"Authorization: Bearer {host.key}", "-H", "Content-Type: application/json"]
        url = f"http://127.0.0.1:{PORTS['router']}{path}"
        done = host.dockerd.run(["curl", "-sS", "--fail-with-body", "--max-time", "30", *head, "-d", json.dumps(question), url])
        assert done.returncode == 0, done.stdout + done.stderr
        found |= set(json.loads(done.stdout))
    return found


def _inside(host: Host, *command: str) -> str:
    return host.dockerd.docker("exec", "demo-engine-embedding-1", *command)
