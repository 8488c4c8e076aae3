"""The container image of the builder: built from the wheel by the real classic builder, and a release made in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import scripts_kit
from tests.support.projects.release_job import Job, job
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd

__all__ = ["job"]
pytestmark = pytest.mark.long
IMAGE, USER = "offline-kit-test/builder", "10001"
LEFT_OUT = ("test", "idlelib", "tkinter", "turtledemo", "lib2to3", "__pycache__", "config-*")


def base_image(dockerd: Dockerd, folder: Path) -> str:
    """A small Linux with this machine's Python and its pip, as python:slim has them."""
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = prefix / "lib" / version
    here = folder / str(library).lstrip("/")
    shutil.copytree(library, here, ignore=shutil.ignore_patterns("site-packages", *LEFT_OUT))
    (here / "site-packages").mkdir()
    for path in library.glob("site-packages/pip*"):
        shutil.copytree(path, here / "site-packages" / path.name)
    program = folder / str(prefix / "bin/python3").lstrip("/")
    program.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), program)
    binaries = [program, *here.rglob("lib-dynload/*.so"), *Path(sys.prefix).rglob("*.so")]  # and of the wheels
    for library in map(Path, scripts_kit.libraries(binaries)):
        target = folder / str(library).lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)
    (folder / "bin").mkdir()
    shutil.copy("/bin/busybox", folder / "bin/busybox")
    for name in ("sh", "rm", "mkdir", "chown"):
        (folder / "bin" / name).symlink_to("busybox")
    (folder / "tmp").mkdir(mode=0o1777)
    archive = subprocess.run(["tar", "-C", folder, "-c", "."], stdout=subprocess.PIPE, check=True).stdout
    dockerd.docker("import", "--change", f"ENV PATH={prefix}/bin:/bin", "-", f"{IMAGE}-base", stdin=archive)
    return f"{IMAGE}-base"


def test_a_release_made_in_the_image(job: Job, dockerd: Dockerd, tmp_path: Path) -> None:
    wheels = tmp_path / "dist"
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--wheel-dir", str(wheels)]
    subprocess.run([*command, f"{REPOSITORY}[s3]"], check=True)
    build = ["build", "--file", str(REPOSITORY / "config/builder/Dockerfile"), "--tag", IMAGE, "--build-arg", "PIP_NO_INDEX=1"]
    try:
        dockerd.docker(*build, "--build-arg", f"BASE={base_image(dockerd, tmp_path / 'base')}", str(wheels))
        os.chown(job.folder, int(USER), int(USER))
        for path in job.folder.rglob("*"):
            os.chown(path, int(USER), int(USER))
        run = [
            "docker",
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "host",
            "--read-only",
            "--tmpfs",
            "/tmp",
            "--cap-drop",
            "ALL",
        ]
        run += ["--volume", f"{job.folder}:/srv/offline-kit", IMAGE]
        release = ["release", "--manifest", "manifests/demo.yaml", "--output", "releases", "--if-changed"]
        done = dockerd.run([*run, *release])
        assert done.returncode == 0 and done.stdout == "releases/demo-v1.0.0.tar.gz\n", done.stderr
        assert job.kit("verify", job.folder / "releases/demo-v1.0.0.tar.gz").returncode == 0
        assert (job.folder / "store").is_dir() and (job.folder / "releases").stat().st_uid == int(USER)
        assert dockerd.run([*run, *release]).returncode == 11
        assert dockerd.run([*run, "release", "--publish", "s3://x/y", "--help"]).returncode == 0
    finally:
        dockerd.run(["docker", "rmi", "--force", IMAGE, f"{IMAGE}-base"])
