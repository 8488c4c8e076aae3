"""The wheel and the sdist: the same bytes whoever builds them, and all in it that the program has in a checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.projects.release_job import Job, job
from tests.testbed.cache import REPOSITORY

__all__ = ["job"]
CARRIED = ("scripts", "config", "manifests", "Dockerfile", ".dockerignore")


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return [name for name in listed.stdout.split("\0") if name and (REPOSITORY / name).is_file()]


def checkout(folder: Path, *, umask: int, clutter: bool) -> Path:
    """What is tracked here, as somebody else has it; ``clutter``: with what running from it leaves behind."""
    before = os.umask(umask)
    try:
        for name in tracked():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, target)
            executable = (REPOSITORY / name).stat().st_mode & 0o111
            target.chmod((0o777 if executable else 0o666) & ~umask)
            os.utime(target, (1_500_000_000 + umask, 1_500_000_000 + umask))
        for name in ("offline_kit", "config/engine-cpu", "scripts") if clutter else ():
            (folder / name / "__pycache__").mkdir()
            (folder / name / "__pycache__/left.cpython-311.pyc").write_bytes(b"left")
    finally:
        os.umask(before)
    return folder


def build(source: Path, out: Path, environment: Mapping[str, str], *what: str) -> dict[str, bytes]:
    """What ``python -m build`` makes of it, by name."""
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(out), str(source)]
    subprocess.run(
        command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000", **environment}
    )
    return {path.name: path.read_bytes() for path in out.iterdir()}


def test_two_builds_give_the_same_bytes_and_all_that_is_carried(tmp_path: Path) -> None:
    first = build(checkout(tmp_path / "a", umask=0o022, clutter=False), tmp_path / "first", {"TZ": "UTC"})
    other = checkout(tmp_path / "elsewhere/b", umask=0o077, clutter=True)
    second = build(other, tmp_path / "second", {"TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"})
    assert first.keys() == second.keys() and len(first) == 2
    assert {name: digest(first[name]) for name in first} == {name: digest(second[name]) for name in second}
    (wheel,) = (tmp_path / "first").glob("*.whl")
    (sdist,) = (tmp_path / "first").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        assert set(tracked()) | {"PKG-INFO"} == names
    with zipfile.ZipFile(wheel) as archive:
        held = {info.filename: info for info in archive.infolist() if ".dist-info/" not in info.filename}
        for name in tracked():
            inside = f"offline_kit/_kit/{name}" if name.split("/")[0] in CARRIED else name
            if name.startswith("man/man1/"):
                inside = f"{'-'.join(wheel.name.split('-')[:2])}.data/data/share/{name}"
            if inside.startswith("offline_kit"):
                info = held.pop(inside)
                assert archive.read(info) == (REPOSITORY / name).read_bytes(), name
                assert bool(info.external_attr >> 16 & 0o111) == bool((REPOSITORY / name).stat().st_mode & 0o111), name
        assert not held, "nothing else"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.long
def test_an_installed_wheel_makes_the_same_bundle(job: Job, tmp_path: Path) -> None:
    """In an empty venv, away from the checkout: what it builds is what the checkout builds, byte for byte."""
    build(checkout(tmp_path / "source", umask=0o022, clutter=False), tmp_path / "dist", {}, "--wheel")
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([str(venv / "bin/pip"), "install", "--quiet", f"{wheel}[s3]"], check=True, capture_output=True)
    shutil.rmtree(tmp_path / "source")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def installed(*arguments: str | Path) -> str:
        command = [str(venv / "bin/offline-kit"), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=clean, check=True, capture_output=True, text=True).stdout

    places = ("--manifest", job.folder / "manifests/demo.yaml", "--store", job.folder / "store", "--quiet", "--version", "v1")
    installed("build", *places, "--output", tmp_path / "by-wheel")
    assert job.kit("build", *map(str, places), "--output", str(tmp_path / "by-checkout"), cwd=job.folder).returncode == 0
    ours, theirs = (tmp_path / folder / "demo-v1.tar.gz" for folder in ("by-checkout", "by-wheel"))
    assert digest(ours.read_bytes()) == digest(theirs.read_bytes())
    for command in ([], ["release"], ["init"], ["plan"], ["rehearse"], ["record"]):
        assert "Usage:" in installed(*command, "--help")
    carried = next(venv.glob("lib/*/site-packages/offline_kit/_kit"))
    done = subprocess.run([str(carried / "scripts/build.sh"), "--help"], check=True, capture_output=True, text=True)
    assert "Usage:" in done.stdout and (carried / "Dockerfile").is_file()
    assert not list(carried.glob("**/*.pyc")) or "__pycache__" in (carried / ".dockerignore").read_text()
