"""install.sh in root file systems that have next to nothing: no Python, jq, curl, zstd, openssl; two generations of Debian.

Rules: the root is made by debootstrap (minbase), kept in the cache, and only read: a run sees it by an overlay; Docker is the
test's own, reached by its socket; the client and Compose are laid into the root, as an administrator would have.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import scripts_kit
from tests.testbed import cache, compose, engines
from tests.testbed.dockerd import Dockerd
from tests.testbed.process import run

pytestmark = pytest.mark.long  # minutes: make test-long runs it

ABSENT = ("python3", "jq", "curl", "wget", "zstd", "openssl", "ss", "lsof", "nvidia-smi", "xxd")


def minbase(suite: str) -> Path:
    """The root file system of a minimal Debian `suite`, in the cache."""

    def make(folder: Path) -> None:
        command = ["debootstrap", "--variant=minbase", f"--keyring={engines.KEYRING}", suite]
        run([*command, str(folder / "root"), engines.mirror()])
        shutil.rmtree(folder / "root/var/cache/apt", ignore_errors=True)

    return cache.entry(f"minbase-{suite}", cache.key_of(suite, "1"), make) / "root"


@dataclass(frozen=True)
class Root:
    """A root file system to run in, with the paths of kit and Docker's socket as outside."""

    path: Path
    kit: Path
    dockerd: Dockerd

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        words = shlex.join([str(self.kit / script), *arguments])
        inside = f"cd / && exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DOCKER_HOST=unix:///docker.sock HOME=/root {words}"
        command = [*self.dockerd.nsenter, "unshare", "--mount", "--propagation", "private", "bash", "-euc"]
        mounts = (
            'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; mount --bind "$2" "$1/docker.sock"; mkdir -p "$1$3"; '
            'mount --bind "$3" "$1$3"; exec chroot "$1" /bin/bash -c "$4"'
        )
        words_of_it = [mounts, "-", str(self.path), str(self.dockerd.socket), str(self.kit), inside]
        return subprocess.run([*command, *words_of_it], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)


@contextmanager
def rooted(lower: Path, folder: Path, kit: Path, dockerd: Dockerd) -> Iterator[Root]:
    """`lower` with Docker's client in it, writable for a while."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    plugins = folder / "upper/usr/libexec/docker/cli-plugins"
    plugins.mkdir(parents=True)
    (folder / "upper/usr/bin").mkdir()
    shutil.copy(compose.plugin(), plugins / "docker-compose")
    shutil.copy((dockerd.folder / "bin/docker").resolve(), folder / "upper/usr/bin/docker")
    (folder / "upper/docker.sock").touch()
    layers = f"lowerdir={lower},upperdir={folder / 'upper'},workdir={folder / 'work'}"
    run(["mount", "-t", "overlay", "overlay", "-o", layers, str(folder / "root")])
    try:
        yield Root(folder / "root", kit, dockerd)
    finally:
        run(["umount", "--lazy", str(folder / "root")])


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pattern")
    return scripts_kit.make_kit(scripts_kit.make_shelf(folder / "shelf"), folder / "kit")


@pytest.fixture
def kit(pattern: Path, tmp_path: Path, airgap: Dockerd) -> Iterator[Path]:
    yield Path(shutil.copytree(pattern, tmp_path / "a kit"))
    project = "label=com.docker.compose.project=test-kit"
    for identifier in airgap.docker("ps", "--all", "--quiet", "--filter", project).split():
        airgap.docker("rm", "--force", identifier)
    for network in airgap.docker("network", "ls", "--quiet", "--filter", project).split():
        airgap.docker("network", "rm", network)


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_minimal_debian_is_enough(suite: str, kit: Path, airgap: Dockerd, tmp_path: Path) -> None:
    with rooted(minbase(suite), tmp_path, kit, airgap) as root:
        for name in ABSENT:
            assert not any((root.path / folder / name).exists() for folder in ("usr/bin", "usr/sbin", "bin", "sbin")), name
        looked = root.run("scripts/preflight.sh", "--json")
        assert looked.returncode == 0, looked.stdout + looked.stderr
        assert [row for row in json.loads(looked.stdout)["findings"] if row["level"] != "OK"] == []
        done = root.run("install.sh", "--yes")
        assert done.returncode == 0, done.stderr
        assert "ok   engine-chat" in done.stderr and "test-kit v1.0.0 is installed" in done.stdout
        again = root.run("install.sh", "--yes")
        assert again.returncode == 0 and "nothing was changed" in again.stdout
        assert root.run("scripts/deploy.sh", "status").returncode == 0
        assert json.loads((kit / ".state/receipt.json").read_text())["result"] == "installed"
