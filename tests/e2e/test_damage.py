"""Damage of any kind, to a bundle and to an unpacked kit: ``verify`` and ``install.sh`` each name it, and nothing is started.

The kit is a small one, made by the command line from a real registry and hub: what its images hold does not matter, because
nothing of it may ever be loaded.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.e2e.conftest import Host, project
from tests.testbed.fixtures import Testbed

TOP = "demo-v1.0.0"


@pytest.fixture(scope="module")
def small(testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a few megabytes: the demo, with a tiny image for both roles."""
    work = tmp_path_factory.mktemp("small")
    with testbed.registry(work / "registry") as registry, testbed.hub() as hub:
        manifest = project(work, registry.host, hub.url)
        manifest.write_text(manifest.read_text().replace("engine-cpu:demo", "tiny:demo").replace("gateway:demo", "tiny:demo"))
        done = offline_kit("build", "--version", "v1.0.0", "-m", manifest, "-o", work, "--store", work / "store")
    assert done.returncode == 0, done.stderr
    return work / f"{TOP}.tar.gz"


@pytest.fixture
def kit(small: Path, host: Host, tmp_path: Path) -> Path:
    """The small bundle, unpacked."""
    done = host.run("tar", "-xzf", small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path / TOP


def flip(path: Path, position: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[position if position >= 0 else len(data) // 2] ^= 0x20
    path.write_bytes(data)


def flip_first(path: Path) -> None:
    flip(path, 0)


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def add(path: Path) -> None:
    path.with_name("extra.bin").write_bytes(b"x")


DAMAGE: list[tuple[str, Callable[[Path], None], str]] = [
    ("models/chat/model.safetensors", flip, "models/chat/model.safetensors"),
    ("models/chat/model.safetensors", truncate, "models/chat/model.safetensors"),
    ("models/chat/model.safetensors", remove, "models/chat/model.safetensors"),
    ("models/chat/model.safetensors", add, "models/chat/extra.bin"),
    ("models/chat/config.json", link, "models/chat/config.json"),
    ("images/index.json", flip, "images/index.json"),
    ("deploy/images/engine/expect", flip, "deploy/images/engine/expect"),
    ("deploy/kit.env", add, "deploy/extra.bin"),
    ("config/models.json", flip, "config/models.json"),
    ("runtime/serve.py", flip, "runtime/serve.py"),
    ("scripts/lib/kit/checksums.sh", flip, "scripts/lib/kit/checksums.sh"),
    ("scripts/deploy.sh", remove, "scripts/deploy.sh"),
    ("lock.json", flip, "lock.json"),
    ("bundle.json", remove, "bundle.json"),
    ("SHA256SUMS", flip_first, "SHA256SUMS"),
]


@pytest.mark.parametrize(("file", "harm", "named"), DAMAGE, ids=[f"{harm.__name__} {file}" for file, harm, _ in DAMAGE])
def test_a_damaged_kit_is_named_and_not_started(
    kit: Path, host: Host, offline_kit: Kit, file: str, harm: Callable[[Path], None], named: str
) -> None:
    harm(kit / file)
    before = (host.containers(), host.docker.docker("images", "--quiet"))
    verified = offline_kit("verify", kit)
    assert verified.returncode == 20, verified.stdout + verified.stderr
    assert named in verified.stdout
    installed = host.run("./install.sh", "--yes", cwd=kit)
    assert installed.returncode == 20, installed.stdout + installed.stderr
    assert named in installed.stdout + installed.stderr
    assert (host.containers(), host.docker.docker("images", "--quiet")) == before
    assert not (kit / ".env").exists()


def test_a_blob_of_an_image_is_named(kit: Path, host: Host, offline_kit: Kit) -> None:
    blob = max((kit / "images/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    flip(blob)
    assert f"images/blobs/sha256/{blob.name}" in offline_kit("verify", kit).stdout
    installed = host.run("./install.sh", "--yes", cwd=kit)
    assert installed.returncode == 20
    assert f"images/blobs/sha256/{blob.name}" in installed.stderr


def test_all_damage_is_named_at_once(kit: Path, offline_kit: Kit) -> None:
    flip(kit / "models/chat/model.safetensors")
    remove(kit / "models/rerank/config.json")
    add(kit / "config/models.json")
    report = json.loads(offline_kit("verify", "--json", kit).stdout)
    assert report["whole"] is False
    found = {finding["where"] for finding in report["findings"]}
    assert {"models/chat/model.safetensors", "models/rerank/config.json", "config/extra.bin"} <= found


def test_flips_all_over_a_bundle_are_found(small: Path, offline_kit: Kit, tmp_path: Path) -> None:
    """The exhaustive search is among the unit tests of the container; this is the command on a real bundle."""
    data = small.read_bytes()
    chooser = random.Random(20)
    for position in [0, 3, 9, len(data) - 1, *(chooser.randrange(len(data)) for _ in range(12))]:
        hurt = bytearray(data)
        hurt[position] ^= 1 << chooser.randrange(8)
        path = tmp_path / "hurt.tar.gz"
        path.write_bytes(hurt)
        done = offline_kit("verify", path)
        assert done.returncode in (20, 21), (position, done.stdout, done.stderr)
        assert done.stderr.count("\n") >= 1


@pytest.mark.parametrize("kept", [0, 1, 100, 0.3, 0.999, -1])
def test_a_truncated_bundle_is_refused(small: Path, offline_kit: Kit, tmp_path: Path, kept: float) -> None:
    path = tmp_path / "short.tar.gz"
    shutil.copy(small, path)
    size = small.stat().st_size
    os.truncate(path, int(size * kept) if 0 < kept < 1 else size - 1 if kept < 0 else int(kept))
    done = offline_kit("verify", path)
    assert done.returncode in (20, 21), done.stdout
    assert "Traceback" not in done.stderr


def test_verify_says_whole_of_the_undamaged(small: Path, kit: Path, offline_kit: Kit) -> None:
    """The control for all of the above."""
    assert offline_kit("verify", small).returncode == 0
    assert offline_kit("verify", kit).returncode == 0
