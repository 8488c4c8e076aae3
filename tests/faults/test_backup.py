"""``deploy.sh backup`` on disks that fail, ended early, twice at once: a whole and private file, or none; no service runs."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.clock import set_back
from tests.faults.disks import Disk, fill, read_only, small_disk, unreadable_file
from tests.support import scripts_kit

ENV = {"DOCKER_HOST": "unix:///nonexistent.sock"}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"), small=True)


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    """A kit that looks installed, with configuration that is long to pack."""
    made = scripts_kit.make_kit(shelf, tmp_path / "kit")
    (made / ".state").mkdir()
    for name, text in (("compose.yaml", "services: {}\n"), ("start-order", "gateway\n"), ("ports", "8000 gateway\n")):
        (made / ".state" / name).write_text(text)
    (made / ".env").write_text("VLLM_API_KEY=a-key\n")
    (made / "config/long.txt").write_bytes(os.urandom(4 << 20).hex().encode())
    return made


def backup(kit: Path, file: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return scripts_kit.run(kit, "scripts/deploy.sh", "backup", str(file), env={**ENV, **env})


def begin(kit: Path, file: Path, folder: Path) -> subprocess.Popen[str]:
    """In the background; what is temporary lies in ``folder``."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", str(kit / "scripts/deploy.sh"), "backup", str(file)],
        env={**os.environ, **ENV, "TMPDIR": str(folder)}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def whole(file: Path) -> bool:
    """The file is a backup from its first byte to its last, and nobody else can read it."""
    done = subprocess.run(["tar", "-xzf", file, "-O", "./.env"], check=True, capture_output=True)
    return done.stdout == b"VLLM_API_KEY=a-key\n" and file.stat().st_mode & 0o777 == 0o600


@pytest.mark.fault("backup", "disk full", "exit 1, and no file; with room again it is written")
@pytest.mark.parametrize("free", [0, 2 << 20])
def test_disk_full(kit: Path, tmp_path: Path, free: int) -> None:
    with small_disk(tmp_path / "small", 16) as disk:
        filler = fill(disk, free)
        done = backup(kit, disk / "b.tar.gz")
        assert done.returncode == 1 and "could not be written" in done.stderr and "space" in done.stderr, done.stderr
        assert [path.name for path in disk.iterdir()] == ["filler"]
        filler.unlink()
        assert backup(kit, disk / "b.tar.gz").returncode == 0 and whole(disk / "b.tar.gz")


@pytest.mark.fault("backup", "read-only", "exit 1, and no file")
def test_read_only(kit: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with read_only(tmp_path / "there"):
        done = backup(kit, tmp_path / "there/b.tar.gz")
    assert done.returncode == 1 and "cannot be written" in done.stderr, done.stderr
    assert backup(kit, tmp_path / "there/b.tar.gz").returncode == 0


@pytest.mark.fault("backup", "unreadable", "exit 1, which names the file, and no backup")
def test_unreadable(kit: Path, tmp_path: Path) -> None:
    with unreadable_file(tmp_path, kit / "config/long.txt", 1 << 20):
        done = backup(kit, tmp_path / "b.tar.gz")
        assert done.returncode == 1 and "config/long.txt" in done.stderr and "Input/output error" in done.stderr, done.stderr
    assert not (tmp_path / "b.tar.gz").exists()
    assert backup(kit, tmp_path / "b.tar.gz").returncode == 0 and whole(tmp_path / "b.tar.gz")


@pytest.mark.fault("backup", "clock set back", "it is written, and whole")
def test_clock_set_back(kit: Path, tmp_path: Path) -> None:
    done = backup(kit, tmp_path / "b.tar.gz", **set_back(tmp_path))
    assert done.returncode == 0 and whole(tmp_path / "b.tar.gz"), done.stderr


@pytest.mark.fault("backup", "two at once", "one is written, the other too or it ends with 1 and says why")
def test_two_at_once(kit: Path, tmp_path: Path) -> None:
    runs = {name: begin(kit, tmp_path / f"{name}.tar.gz", tmp_path) for name in "ab"}
    talks = {name: run.communicate(timeout=300)[1] for name, run in runs.items()}
    assert sorted(run.returncode for run in runs.values()) in ([0, 0], [0, 1]), talks
    for name, run in runs.items():
        if run.returncode:
            assert "another script is at work" in talks[name] and not (tmp_path / f"{name}.tar.gz").exists()
        else:
            assert whole(tmp_path / f"{name}.tar.gz")


@pytest.mark.fault("backup", "kill -9", "no file, or the whole one; again, it is written")
@pytest.mark.fault("backup", "SIGINT, SIGTERM", "exit 130, and nothing is left; again, it is written")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ended_early(kit: Path, tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "there").mkdir()
    met = 0
    for seconds in (0.05, 0.3, 0.6):
        run = begin(kit, tmp_path / "there/b.tar.gz", tmp_path / "t")
        time.sleep(seconds)
        run.send_signal(number)
        _, talk = run.communicate(timeout=120)
        # -number: before the script could ask to be told
        assert run.returncode in (0, -number, *([] if number == signal.SIGKILL else [130])), talk
        met += run.returncode != 0
        if (tmp_path / "there/b.tar.gz").exists():
            gzip.decompress((tmp_path / "there/b.tar.gz").read_bytes())
            assert whole(tmp_path / "there/b.tar.gz")
            (tmp_path / "there/b.tar.gz").unlink()
        if number != signal.SIGKILL:
            assert list((tmp_path / "t").iterdir()) == [] and list((tmp_path / "there").iterdir()) == []
    assert met
    assert backup(kit, tmp_path / "there/b.tar.gz").returncode == 0 and whole(tmp_path / "there/b.tar.gz")


@pytest.mark.fault("backup", "power cut", "done means written: the file is there and whole")
def test_power_cut(kit: Path, tmp_path: Path) -> None:
    disk = Disk(tmp_path, 64)
    with disk.mounted() as where:
        disk.sync()
        done = backup(kit, where / "b.tar.gz")
        assert done.returncode == 0, done.stderr
        with disk.after_power_cut() as after:
            assert whole(after / "b.tar.gz")
            assert [path.name for path in after.iterdir() if path.name != "lost+found"] == ["b.tar.gz"]
