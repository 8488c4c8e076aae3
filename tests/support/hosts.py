"""A target machine, and a kit installed on it: what the end-to-end tests share, on whichever Docker engine.

Rules: every step is the command that a user types; the host is a dockerd in a network namespace of its own, and its PATH
holds what the README promises to need and nothing else (no Python, curl, jq or zstd).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
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
KEPT = (".env", ".state/compose.yaml", ".state/gateway/nginx.conf", ".state/gateway/keys.conf")


@dataclass(frozen=True)
class Host:
    """A machine without a network: its Docker, and a PATH with what a host may be expected to have."""

    docker: Dockerd
    path: Path

    def run(self, *command: str | Path, cwd: Path, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        """Runs a command on the host; never raises on a non-zero exit. ``timeout`` in seconds."""
        return subprocess.run(
            self.argv(*command), cwd=cwd, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )

    def argv(self, *command: str | Path) -> list[str]:
        """What runs ``command`` inside the host's network."""
        return [*self._enter, *map(str, command)]

    @property
    def env(self) -> dict[str, str]:
        """The whole environment of a command on the host."""
        return {
            "PATH": str(self.path),
            "HOME": str(self.path),
            "DOCKER_HOST": self.docker.env["DOCKER_HOST"],
            "DOCKER_CONFIG": self.docker.env["DOCKER_CONFIG"],
        }

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


def make_host(dockerd: Dockerd, folder: Path) -> Host:
    """A host around a running dockerd; its programs are linked in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in map(Path, run(["dpkg", "-L", *PACKAGES]).splitlines()):
        if program.parent.name in ("bin", "sbin") and program.is_file() and os.access(program, os.X_OK):
            (folder / program.name).unlink(missing_ok=True)
            (folder / program.name).symlink_to(program.resolve())
    for name, target in (("sh", "bash"), ("awk", "mawk"), ("docker", str(Path(dockerd.folder, "bin/docker").resolve()))):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    return Host(dockerd, folder)


@dataclass(frozen=True)
class Installed:
    """A kit that ``install.sh`` brought up on the host."""

    kit: Path
    host: Host
    key: str
    said: str

    def state(self) -> tuple[dict[str, str], list[bytes]]:
        """What a second installation must not change: running containers, settings, what was made of them."""
        return self.host.containers(), [(self.kit / name).read_bytes() for name in KEPT]


def unpack(bundle: Path, host: Host, folder: Path) -> Path:
    """``tar -xzf`` on the host, below ``folder``; the kit."""
    folder.mkdir(parents=True, exist_ok=True)
    done = host.run("tar", "-xzf", bundle, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / bundle.name.removesuffix(".tar.gz")


def api_key(kit: Path) -> str:
    """The key that the installation made."""
    lines = (kit / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")["VLLM_API_KEY"]


def install_kit(bundle: Path, host: Host, folder: Path) -> Installed:
    """``tar -xzf`` and ``./install.sh`` on the host, nothing else."""
    kit = unpack(bundle, host, folder)
    done = host.run("./install.sh", "--yes", cwd=kit)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return Installed(kit, host, api_key(kit), done.stdout + done.stderr)


def stop_kit(installed: Installed) -> None:
    """``deploy.sh stop``."""
    stopped = installed.host.run("./scripts/deploy.sh", "stop", cwd=installed.kit)
    assert stopped.returncode == 0, stopped.stderr
