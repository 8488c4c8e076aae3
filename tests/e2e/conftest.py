"""The whole way, once a session: build from registry and hub, take both down, install where there is no network.

Rules: every step is the command that a user types; the host is a dockerd in a network namespace that has only a loopback,
and its PATH holds what the README promises to need and nothing else (no Python, curl, jq or zstd).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Kit
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.process import run

PACKAGES = (
    "bash",
    "coreutils",
    "tar",
    "gzip",
    "sed",
    "grep",
    "mawk",
    "findutils",
    "diffutils",
    "util-linux",
    "procps",
    "hostname",
)
ASK = REPOSITORY / "tests/demo/ask.py"


@dataclass(frozen=True)
class Host:
    """A machine without a network: its Docker, and a PATH with what a host may be expected to have."""

    docker: Dockerd
    path: Path

    def run(self, *command: str | Path, cwd: Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host; never raises on a non-zero exit. ``timeout`` in seconds."""
        env = {
            "PATH": str(self.path),
            "HOME": str(self.path),
            "DOCKER_HOST": self.docker.env["DOCKER_HOST"],
            "DOCKER_CONFIG": self.docker.env["DOCKER_CONFIG"],
        }
        argv = [*self._enter, *map(str, command)]
        return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False)

    def ask(self, what: str, *arguments: str) -> Any:
        """Runs tests/demo/ask.py, a client, inside the host's network namespace; its JSON answer."""
        done = subprocess.run(
            [*self._enter, sys.executable, str(ASK), what, "--json", *arguments],
            capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def containers(self) -> dict[str, str]:
        """Running containers: name to ID and start time."""
        ids = self.docker.docker("ps", "--quiet", "--no-trunc").split()
        form = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}"
        lines = self.docker.docker("inspect", "--format", form, *ids).splitlines() if ids else []
        return dict(line.split(" ", 1) for line in lines)

    @property
    def _enter(self) -> list[str]:
        return [shutil.which(self.docker.nsenter[0]) or "nsenter", *self.docker.nsenter[1:]]


@pytest.fixture(scope="session")
def host(airgap: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The target machine."""
    folder = tmp_path_factory.mktemp("path")
    listed = run(["dpkg", "-L", *PACKAGES])
    for program in map(Path, listed.splitlines()):
        if program.parent.name in ("bin", "sbin") and program.is_file() and os.access(program, os.X_OK):
            (folder / program.name).unlink(missing_ok=True)
            (folder / program.name).symlink_to(program.resolve())
    for name, target in (("sh", "bash"), ("awk", "mawk"), ("docker", str(Path(airgap.folder, "bin/docker").resolve()))):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return Host(airgap, folder)


@dataclass(frozen=True)
class Built:
    """A finished bundle and the project that it was made from."""

    bundle: Path
    manifest: Path
    store: Path
    fetched: tuple[str, ...]


def project(folder: Path, registry: str, hub: str) -> Path:
    """The shipped demo manifest and its configuration in ``folder``, with these servers; returns the manifest's path."""
    shutil.copytree(REPOSITORY / "config/demo", folder / "config/demo")
    (folder / "manifests").mkdir()
    text = (REPOSITORY / "manifests/demo.yaml").read_text()
    assert "127.0.0.1:5055" in text
    assert "http://127.0.0.1:5056" in text
    manifest = folder / "manifests/demo.yaml"
    manifest.write_text(text.replace("127.0.0.1:5055", registry).replace("http://127.0.0.1:5056", hub))
    return manifest


@pytest.fixture(scope="session")
def built(testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """``offline-kit build`` against a real registry and a hub, both of which are gone when this returns."""
    work = tmp_path_factory.mktemp("build")
    with testbed.registry(work / "registry") as registry, testbed.hub() as hub:
        manifest = project(work, registry.host, hub.url)
        done = offline_kit(
            "build",
            "--version",
            "v1.0.0",
            "--manifest",
            manifest,
            "--output",
            work / "out",
            "--store",
            work / "store",
            cwd=work,
        )
        fetched = tuple(access.path for access in hub.log)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(work / "out/demo-v1.0.0.tar.gz")
    return Built(Path(done.stdout.strip()), manifest, work / "store", fetched)


@dataclass(frozen=True)
class Installed:
    """A kit that ``install.sh`` brought up on the host."""

    kit: Path
    host: Host
    key: str
    said: str


@pytest.fixture(scope="session")
def installed(built: Built, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """``tar -xzf`` and ``./install.sh`` on the host, nothing else."""
    folder = tmp_path_factory.mktemp("host")
    unpacked = host.run("tar", "-xzf", built.bundle, cwd=folder)
    assert unpacked.returncode == 0, unpacked.stderr
    kit = folder / "demo-v1.0.0"
    done = host.run("./install.sh", "--yes", cwd=kit)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    settings = dict(line.split("=", 1) for line in (kit / ".env").read_text().splitlines() if "=" in line and line[0] != "#")
    yield Installed(kit, host, settings["VLLM_API_KEY"], done.stdout + done.stderr)
    stopped = host.run("./scripts/deploy.sh", "stop", cwd=kit)
    assert stopped.returncode == 0, stopped.stderr
