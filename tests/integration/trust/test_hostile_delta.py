"""A delta from an enemy on the way: completing it writes nowhere but into the kit, and removes nothing elsewhere."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import scripts_kit

FAR = {"DOCKER_HOST": "unix:///nonexistent.sock"}
TAKEN = "models/chat/a file.bin"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return scripts_kit.make_kit(scripts_kit.make_shelf(tmp_path / "shelf", small=True), tmp_path / "base")


@pytest.fixture
def delta(base: Path, tmp_path: Path) -> Path:
    """The same kit as a delta that lacks one file of a model."""
    kit = Path(shutil.copytree(base, tmp_path / "delta-kit", symlinks=True))
    size = (kit / TAKEN).stat().st_size
    (kit / TAKEN).unlink()
    (kit / "delta").mkdir()
    (kit / "bundle.json").rename(kit / "delta/bundle.json")
    (kit / "bundle.json").write_text('{\n  "base": {\n    "name": "test-kit",\n    "version": "v1.0.0"\n  }\n}\n')
    (kit / "delta/needs").write_text(f"{size}\t{TAKEN}\t{TAKEN}\n")
    return kit


def install(kit: Path, base: Path) -> subprocess.CompletedProcess[str]:
    return scripts_kit.run(kit, "install.sh", "--base", str(base), env=FAR)


def test_an_honest_one_is_completed(delta: Path, base: Path) -> None:
    done = install(delta, base)
    assert "1 linked, 0 copied" in done.stderr and (delta / TAKEN).samefile(base / TAKEN), done.stderr
    assert done.returncode == 4 and not (delta / "delta").exists(), "no Docker here: all that comes before was done"


@pytest.mark.parametrize("link", ["models/chat", "models", "images/blobs/sha256"])
def test_a_link_among_its_folders_leads_nowhere(delta: Path, base: Path, tmp_path: Path, link: str) -> None:
    victim = tmp_path / "victim"
    (victim / "chat").mkdir(parents=True)
    (victim / "a file.bin").write_text("of the host")
    (victim / "chat/a file.bin").write_text("of the host")
    shutil.rmtree(delta / link)
    (delta / link).symlink_to(victim)
    done = install(delta, base)
    assert done.returncode == 20 and "link" in done.stderr, done.stderr
    assert {path.read_text() for path in victim.rglob("*") if path.is_file()} == {"of the host"}


def test_a_link_in_the_place_of_its_list_removes_nothing(delta: Path, base: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (delta / "delta").rename(victim)
    (victim / "copy").write_text("of the host")
    (delta / "delta").symlink_to(victim)
    done = install(delta, base)
    assert done.returncode == 20 and "link" in done.stderr, done.stderr
    assert {path.name for path in victim.iterdir()} == {"bundle.json", "needs", "copy"}
