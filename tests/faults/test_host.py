"""install.sh up to the start of services, on disks that fail and with a Docker that dies; and an upgrade on disks that fail.

Rules: the kit is a small one, Docker is real and of this module alone, for it is killed too; where nothing is said of services,
none is started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.clock import set_back
from tests.faults.disks import Disk, fill, read_only, small_disk, unreadable_file
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # installations, one after another
INSTALL = ("--yes", "--no-start")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """A Docker engine that may be killed."""
    with Dockerd(tmp_path_factory.mktemp("e") / "d", airgap=True) as running:
        yield running


@pytest.fixture
def fresh(shelf: scripts_kit.Shelf, tmp_path: Path, engine: Dockerd) -> Iterator[Host]:
    """A kit that is not installed, and an engine without images."""
    host = kit_fixtures.make_version(shelf, tmp_path / "kit", engine, name="faulty")
    yield host
    for image in set(engine.docker("images", "--all", "--quiet").split()):
        engine.docker("rmi", "--force", image)


def install(host: Host, **env: str) -> subprocess.CompletedProcess[str]:
    return scripts_kit.run(host.kit, "install.sh", *INSTALL, env={**host.env, **env}, prefix=host.dockerd.nsenter)


def installs(host: Host) -> None:
    """Run again it ends well."""
    done = install(host)
    assert done.returncode == 0 and (host.kit / ".state/installed").exists(), done.stderr


def loaded(host: Host) -> bool:
    return bool(host.dockerd.docker("images", "--quiet", "offline-kit-test/engine"))


@pytest.mark.fault(
    "install: checks", "disk full", "exit 4, which says whose disk, or 1 where TMPDIR is full; with room it installs"
)
@pytest.mark.fault("install: start", "disk full", "exit 4, .env and what serves as they were; with room again it installs")
def test_disk_of_the_kit_full(fresh: Host, tmp_path: Path) -> None:
    with Disk(tmp_path, 1600).mounted() as disk:
        shutil.copytree(fresh.kit, disk / "kit", symlinks=True)
        host = Host(disk / "kit", fresh.dockerd, fresh.ports)
        before = None
        for _ in ("new", "installed"):
            filler = fill(disk, 0)
            done = install(host)
            assert done.returncode == 4 and "disk of" in done.stderr and "make room" in done.stderr, done.stderr
            assert (host.kit / ".env").exists() == (before is not None)
            assert before is None or (host.kit / ".env").read_bytes() == before
            filler.unlink()
            installs(host)
            before = (host.kit / ".env").read_bytes()


@pytest.mark.fault(
    "install: checks", "disk full", "exit 4, which says whose disk, or 1 where TMPDIR is full; with room it installs"
)
def test_temporary_folder_full(fresh: Host, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 1) as disk:
        fill(disk, 0)
        done = install(fresh, TMPDIR=str(disk))
        assert done.returncode == 1 and "space" in done.stderr, done.stderr
        assert [path.name for path in disk.iterdir()] == ["filler"]
    installs(fresh)


@pytest.mark.fault("install: images", "read-only", "exit 4, which says where to install instead; no image is loaded")
def test_read_only(fresh: Host) -> None:
    with read_only(fresh.kit):
        done = fresh.run("scripts/load_images.sh")
    assert done.returncode == 4 and "read-only" in done.stderr and not loaded(fresh), done.stderr
    installs(fresh)


@pytest.mark.fault("install: checks", "unreadable", "exit 20, which names the file; nothing started")
@pytest.mark.fault("install: images", "unreadable", "exit 5, which names the image and the blob; no tag of it stays")
@pytest.mark.parametrize("script, code", [("install.sh", 20), ("scripts/load_images.sh", 5)], ids=["checks", "images"])
def test_unreadable(fresh: Host, shelf: scripts_kit.Shelf, tmp_path: Path, script: str, code: int) -> None:
    name = f"images/blobs/sha256/{shelf.images['engine'].layers[1].digest.hex}"
    with unreadable_file(tmp_path, fresh.kit / name, 1 << 20):
        done = fresh.run(script)
    assert done.returncode == code and name in done.stderr and "unreadable" in done.stderr, done.stderr
    assert not loaded(fresh)
    installs(fresh)


@pytest.mark.fault("install: checks", "clock set back", "it installs; a further run reads nothing anew")
@pytest.mark.fault("install: images", "clock set back", "it installs; a further run loads nothing")
def test_clock_set_back(fresh: Host, tmp_path: Path) -> None:
    """Before the kit was made, by that clock."""
    done = install(fresh, **set_back(tmp_path))
    assert done.returncode == 0, done.stderr
    done = install(fresh, **set_back(tmp_path))
    assert done.returncode == 0 and ": 0 read" in done.stderr and done.stderr.count("already there") == 2, done.stderr


@pytest.mark.fault("install: checks", "two at once", "one installs, the other ends with 1 and says why")
@pytest.mark.fault("install: images", "two at once", "one installs, the other ends with 1 and says why")
def test_two_at_once(fresh: Host) -> None:
    runs = [
        subprocess.Popen(
            [*fresh.dockerd.nsenter, str(fresh.kit / "install.sh"), *INSTALL], env={**os.environ, **fresh.env},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    talks = [run.communicate(timeout=300)[1] for run in runs]
    assert sorted(run.returncode for run in runs) == [0, 1], talks
    assert any("another script is at work" in talk for talk in talks), talks
    installs(fresh)


@pytest.mark.fault("install: checks", "dockerd dies", "exit 4, which says that no Docker answers; nothing changed")
def test_docker_is_dead(fresh: Host) -> None:
    fresh.dockerd.die()
    try:
        done = install(fresh)
        assert done.returncode == 4 and not (fresh.kit / ".env").exists(), done.stderr
    finally:
        fresh.dockerd.start()
    installs(fresh)


@pytest.mark.fault(
    "install: images", "dockerd dies", "exit 5, which says that Docker does not answer; when it is back, it installs"
)
def test_docker_dies(fresh: Host) -> None:
    try:
        with subprocess.Popen(
            [*fresh.dockerd.nsenter, str(fresh.kit / "install.sh"), *INSTALL], env={**os.environ, **fresh.env},
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ) as run:  # fmt: skip
            talk: list[str] = []
            assert run.stderr
            for line in run.stderr:
                talk.append(line)
                if line.rstrip().endswith("loading"):
                    threading.Timer(0.1, fresh.dockerd.die).start()
        assert run.returncode == 5 and "was not loaded" in "".join(talk), talk
    finally:
        fresh.dockerd.start()
    installs(fresh)
