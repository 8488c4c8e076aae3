"""A disk of Docker that fills up while an image is loaded: noticed, named, and nothing is left of the half image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.scripts.test_images import tags
from tests.support import scripts_kit
from tests.testbed.dockerd import Dockerd


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Path]:
    """An ext4 file system of `size` MiB, mounted."""
    image, where = folder / "disk.img", folder / "d"
    where.mkdir()
    with image.open("wb") as file:
        os.truncate(file.fileno(), size << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-J", "size=4", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(where)], check=True)
    try:
        yield where
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def used(folder: Path) -> int:
    """MiB in use on the file system of `folder`."""
    about = os.statvfs(folder)
    return (about.f_blocks - about.f_bfree) * about.f_frsize >> 20


@pytest.mark.fault(
    "install: images", "disk full", "exit 4 before it loads; filled meanwhile, exit 5, no tag and no half of the image"
)
def test_a_disk_that_fills_up_while_loading(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    shelf = scripts_kit.make_shelf(tmp_path / "shelf")
    kit = scripts_kit.make_kit(shelf, tmp_path / "kit")
    with disk(tmp_path_factory.mktemp("full"), 60) as where, Dockerd(where / "k") as dockerd:
        (where / "filler").write_bytes(bytes(15 << 20))
        preflight = scripts_kit.run(kit, "scripts/preflight.sh", env=dockerd.env)
        assert preflight.returncode == 4 and "needed: the images need up to three times their size" in preflight.stdout
        before = used(where)
        done = scripts_kit.run(kit, "scripts/load_images.sh", env=dockerd.env)
        assert done.returncode == 5 and "image 'engine' (offline-kit-test/engine:1) was not loaded" in done.stderr, done.stderr
        assert "a disk is full: df -h and df -i on the folder of the kit and of Docker" in done.stderr
        assert tags(dockerd) == [] and dockerd.docker("image", "ls", "--all", "--quiet") == ""
        assert not dockerd.docker("ps", "--all", "--quiet") and used(where) <= before + 3
