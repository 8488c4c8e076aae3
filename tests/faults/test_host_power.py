"""The power of the target host fails: kit, Docker's data and the record of the installation lie on one disk that is cut off.

Rules: what the machine finds afterwards is the state of the device at that moment, without what waited in memory; nothing
writes while the copy is made (Docker is held for so long); the next start is that of a fresh daemon on the same paths.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.disks import Disk
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # an installation, and the start of a machine
RECORD = 'mkdir -p /var/lib/offline-kit "$0" && mount --bind "$0" /var/lib/offline-kit && exec "$@"'


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@dataclass
class Machine:
    """A host with everything on one disk."""

    disk: Disk
    docker: Dockerd

    def put(self, host: Host) -> Host:
        """The kit, copied to the disk as tar would leave it: in memory."""
        kit = self.disk.where / host.kit.parent.name
        shutil.copytree(host.kit, kit, symlinks=True)
        return Host(kit, self.docker, host.ports)

    def run(self, host: Host, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        """A script that finds the record of installations on this disk."""
        return scripts_kit.run(host.kit, script, *words, env=host.env, prefix=self.prefix)

    @property
    def prefix(self) -> list[str]:
        """Into the network of Docker, and to the record on the disk."""
        return [*self.docker.nsenter, "unshare", "--mount", "bash", "-c", RECORD, str(self.disk.where / "record")]

    def upgrade(self, host: Host, new: Host) -> subprocess.Popen[str]:
        """Begins it, in a process group of its own."""
        return subprocess.Popen(
            [*self.prefix, str(host.kit / "scripts/deploy.sh"), "upgrade", str(new.kit)],
            env={**os.environ, **host.env},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def lose_power(self, at_work: subprocess.Popen[str] | None = None) -> None:
        """Stops here, with all of the program that is at work; and starts again with what the device had."""
        copy = self.disk.image.with_name("after.img")
        with self.docker.held():
            if at_work:
                os.killpg(at_work.pid, signal.SIGKILL)
                at_work.wait()
            subprocess.run(["cp", "--sparse=always", self.disk.image, copy], check=True)
        self.docker.stop()
        subprocess.run(["umount", self.disk.where], check=True)
        copy.replace(self.disk.image)
        subprocess.run(["mount", "-o", Disk.OPTIONS, self.disk.image, self.disk.where], check=True)
        self.docker.start()


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    disk = Disk(tmp_path_factory.mktemp("p"), 4000)
    with disk.mounted() as where, Dockerd(where / "d", airgap=True) as docker:
        yield Machine(disk, docker)


def key(host: Host) -> str:
    return kit_fixtures.settings(host.kit / ".env")["VLLM_API_KEY"]


@pytest.mark.fault("install: checks", "power cut", "after its end: every file is as it was proven, and the record is there")
@pytest.mark.fault("install: images", "power cut", "after its end: the images are there, and run")
@pytest.mark.fault("install: start", "power cut", "after its end: settings and keys are there, and the services come back")
def test_power_fails_after_an_installation(shelf: scripts_kit.Shelf, machine: Machine, tmp_path: Path) -> None:
    host = machine.put(kit_fixtures.make_version(shelf, tmp_path / "a/kit", machine.docker, name="faulty"))
    done = machine.run(host, "install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    before = key(host)
    machine.lose_power()
    assert (host.kit / ".state/installed").exists() and key(host) == before
    verified = machine.run(host, "scripts/verify.sh")
    assert verified.returncode == 0, verified.stderr
    done = machine.run(host, "scripts/deploy.sh", "start")
    assert done.returncode == 0 and host.serves("v1.0.0"), done.stderr
    again = machine.run(host, "install.sh", "--yes")
    assert again.returncode == 0 and key(host) == before, again.stderr


@pytest.mark.fault(
    "upgrade",
    "power cut",
    "after its end: the new version is the current one, with settings and keys, and comes back; "
    "in its middle: the old one comes back, and run again it goes through",
)
def test_power_fails_in_an_upgrade(shelf: scripts_kit.Shelf, machine: Machine, tmp_path: Path) -> None:
    """The new version lies in memory, too: it was just unpacked."""
    host = machine.put(kit_fixtures.make_version(shelf, tmp_path / "a/kit", machine.docker, name="faulty"))
    done = machine.run(host, "install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    before = key(host)
    new = machine.put(kit_fixtures.make_version(shelf, tmp_path / "b/kit", machine.docker, name="faulty", version="v1.1.0"))
    for step in ("==> Settings", "==> Switch", "==> Smoke test"):
        with machine.upgrade(host, new) as run:
            assert run.stderr
            talk = next((line for line in run.stderr if line.startswith(step)), "")
            machine.lose_power(run)
        assert talk, step
        if step == "==> Settings":  # it may be gone, or there in part: it is unpacked again
            shutil.rmtree(new.kit, ignore_errors=True)
            shutil.copytree(tmp_path / "b/kit", new.kit, symlinks=True)
        done = machine.run(host, "scripts/deploy.sh", "start")
        assert done.returncode == 0 and host.serves("v1.0.0") and key(host) == before, done.stderr
    done = machine.run(host, "scripts/deploy.sh", "upgrade", str(new.kit))
    assert done.returncode == 0, done.stderr
    machine.lose_power()
    done = machine.run(host, "scripts/deploy.sh", "start")  # it goes on in the current version
    assert done.returncode == 0 and new.serves("v1.1.0") and key(new) == before, done.stderr
    done = machine.run(new, "scripts/verify.sh")
    assert done.returncode == 0, done.stderr
