"""The power of the target host fails: kit, Docker's data and the record of the installation lie on one disk that is cut off.

Rules: what the machine finds afterwards is the state of the device at that moment, without what waited in memory; nothing
writes while the copy is made (Docker is held for so long); the next start is that of a fresh daemon on the same paths.
"""

from __future__ import annotations

import shutil
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

    def lose_power(self) -> None:
        """Stops here; and starts again with what the device had."""
        copy = self.disk.image.with_name("after.img")
        with self.docker.held():
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
