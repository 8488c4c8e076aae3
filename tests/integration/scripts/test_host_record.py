"""What comes with a kit's folder is not what this host made: .state/ and .env of elsewhere, and what is no plain file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scripts_kit

FAR = {"DOCKER_HOST": "unix:///nonexistent.sock"}


def edit(kit: Path) -> None:
    """What an operator may do once the kit is installed."""
    (kit / "config/models.json").write_text("{}")
    (kit / "models/mine").mkdir()
    (kit / "models/mine/config.json").write_text("{}")


def installed_elsewhere(kit: Path, folder: Path) -> Path:
    """The kit with edits and the state of an installation, made on a disk that is then carried: times and inodes are right."""
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    edit(kit)
    (kit / ".state/installed").write_text("v1.0.0\n")
    carried = folder / "carried"
    shutil.copytree(kit, carried, symlinks=True)
    return carried


def test_a_state_that_came_with_the_kit_is_not_believed(kit: Path, tmp_path: Path) -> None:
    """Whoever carries a kit can put .state/ and .env into its folder: that makes nobody the operator."""
    carried = installed_elsewhere(kit, tmp_path)
    for script in ("scripts/verify.sh", "install.sh"):
        done = scripts_kit.run(carried, script)
        assert done.returncode == 20 and "changed: config/models.json" in done.stderr, done.stderr
        assert "extra: models/mine/config.json" in done.stderr
    assert "not made on this host: .state/installed" in done.stderr and "--adopt" in done.stderr
    started = scripts_kit.run(carried, "scripts/deploy.sh", "start")
    assert "not made by an installation on this host" in started.stderr


def test_what_was_proven_elsewhere_is_proven_again(kit: Path) -> None:
    """.state/proven with this file's size, times and inode and the digest that is wanted: only the record tells."""
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    (kit / ".state/record").unlink()
    path = kit / "models/chat/a file.bin"
    path.write_bytes(b"x" * path.stat().st_size)
    lines = (kit / ".state/proven").read_text().splitlines()
    seen = subprocess.run(
        ["stat", "-c", "%s:%y:%z:%i", path], capture_output=True, text=True, check=True, env={**os.environ, "TZ": "UTC0"}
    ).stdout.strip()
    forged = [f"{line.split(chr(9))[0]}\t{seen}\t{line.split(chr(9))[2]}" if "a file.bin" in line else line for line in lines]
    (kit / ".state/proven").write_text("\n".join(forged) + "\n")
    done = scripts_kit.run(kit, "scripts/verify.sh", "--quick")
    assert done.returncode == 20 and "changed: models/chat/a file.bin" in done.stderr


@pytest.mark.parametrize(
    "name", [".env", ".state/keys", ".state/tls/server.key", ".state/upgrade", ".state/config.orig/models.json"]
)
def test_settings_of_a_stranger_are_refused_before_anything_is_done(kit: Path, name: str) -> None:
    (kit / name).parent.mkdir(parents=True, exist_ok=True)
    (kit / name).write_text("VLLM_API_KEY=a-key-that-its-carrier-knows\n")
    done = scripts_kit.run(kit, "install.sh")
    entry = "/".join(name.split("/")[:2])
    assert done.returncode == 20 and f"not made on this host: {entry}" in done.stderr, done.stderr
    assert sorted(path.name for path in (kit / ".state").iterdir()) in (["lock"], sorted({"lock", entry.split("/")[-1]}))


def test_a_folder_that_was_moved_stays_installed(kit: Path, tmp_path: Path) -> None:
    """Moved on one disk it keeps its inode; brought back from a backup to its place it keeps its path."""
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    (kit / ".state/installed").write_text("v1.0.0\n")
    edit(kit)
    moved = kit.rename(tmp_path / "moved")
    assert scripts_kit.run(moved, "scripts/verify.sh").returncode == 0
    shutil.copytree(moved, kit, symlinks=True)
    shutil.rmtree(moved)
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0


@pytest.mark.parametrize("name", ["models/chat/config.json", "deploy/kit.env", "SHA256SUMS", ".env", ".state/lock"])
@pytest.mark.parametrize("kind", ["pipe", "link to a device"])
def test_what_is_no_plain_file_is_never_opened(kit: Path, name: str, kind: str) -> None:
    (kit / name).unlink(missing_ok=True)
    (kit / name).parent.mkdir(exist_ok=True)
    if kind == "pipe":
        os.mkfifo(kit / name)
    else:
        (kit / name).symlink_to("/dev/zero")
    done = scripts_kit.run(kit, "install.sh", timeout=30)
    assert done.returncode == 20 and name in done.stderr, done.stderr
    if name not in (".state/lock", "SHA256SUMS"):
        assert scripts_kit.run(kit, "scripts/verify.sh", timeout=30).returncode == 20


def test_nothing_is_written_through_a_link_in_the_state(kit: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (kit / ".state").mkdir()
    (kit / ".state/lock").symlink_to(precious)
    (kit / ".state/proven").symlink_to(precious)
    assert scripts_kit.run(kit, "install.sh").returncode == 20
    (kit / ".state/lock").unlink()
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    assert precious.read_text() == "precious" and not (kit / ".state/proven").is_symlink()


@pytest.mark.parametrize(
    "name", ["config/models.json", "config/vllm_config.yaml", ".env", "deploy/images/engine/expect", ".state/keys"]
)
@pytest.mark.parametrize("script", ["scripts/preflight.sh", "scripts/load_images.sh", "scripts/deploy.sh status"])
def test_no_script_waits_for_a_pipe(kit: Path, name: str, script: str) -> None:
    (kit / name).parent.mkdir(exist_ok=True)
    (kit / name).unlink(missing_ok=True)
    os.mkfifo(kit / name)
    done = scripts_kit.run(kit, *script.split(), env=FAR, timeout=30)
    assert done.returncode == 20 and "not a plain file" in done.stderr, done.stderr


@pytest.mark.parametrize("words", [("--adopt",), ("--env-file", ".env")])
def test_what_an_operator_vouches_for_is_taken(kit: Path, words: tuple[str, ...]) -> None:
    """There is no Docker here: preflight says so, after the files were found right."""
    (kit / ".env").write_text("VLLM_API_KEY=a-key-of-the-operators-own\n")
    if words == ("--adopt",):
        (kit / ".state").mkdir()
        (kit / ".state/installed").write_text("v1.0.0\n")
        edit(kit)
    done = scripts_kit.run(kit, "install.sh", *words, env=FAR, cwd=kit)
    assert done.returncode == 4 and "files are as SHA256SUMS says" in done.stderr, done.stderr
    assert scripts_kit.run(kit, "install.sh", env=FAR).returncode == 4, "it is known from then on"


def test_a_script_that_is_a_pipe_is_not_waited_for(kit: Path) -> None:
    (kit / "scripts/lib/core/common.sh").unlink()
    os.mkfifo(kit / "scripts/lib/core/common.sh")
    done = scripts_kit.run(kit, "install.sh", timeout=30)
    assert done.returncode == 20 and "not a plain file" in done.stderr


def test_a_journal_of_elsewhere_runs_nothing(shelf: scripts_kit.Shelf, kit: Path, tmp_path: Path) -> None:
    """.state/upgrade of a stranger names a folder whose scripts would be run."""
    trap = scripts_kit.make_kit(shelf, tmp_path / "trap")
    (trap / "scripts/deploy.sh").write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n")
    (kit / ".state").mkdir()
    (kit / ".state/upgrade").write_text(f"PHASE=done\nTO={trap}\n")
    (kit / ".state/previous").write_text(f"{trap}\n")
    for verb in ("status", "start", "rollback", "backup", "enable-boot"):
        done = scripts_kit.run(kit, "scripts/deploy.sh", verb)
        assert done.returncode == 20 and "was not made by an installation on this host" in done.stderr, done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_note_of_elsewhere_that_a_file_was_checked_is_not_believed(kit: Path, tmp_path: Path) -> None:
    """.state/compose.yaml with .state/compose.checked beside it: Docker is given neither."""
    document = b"services:\n  gateway:\n    image: x\n    privileged: true\n"
    (kit / ".state").mkdir()
    (kit / ".state/compose.yaml").write_bytes(document)
    (kit / ".state/compose.checked").write_text(hashlib.sha256(document).hexdigest() + "\n")
    (kit / ".state/start-order").write_text("gateway\n")
    (kit / ".env").write_text("VLLM_API_KEY=a-key-of-the-operators-own\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(f'#!/bin/sh\n[ "$1" != compose ] || echo "$*" >> {tmp_path}/asked\n')
    (tmp_path / "bin/docker").chmod(0o755)
    path = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    done = scripts_kit.run(kit, "scripts/deploy.sh", "stop", env=path)
    assert done.returncode == 20 and "was not made by an installation on this host" in done.stderr, done.stderr
    assert not (tmp_path / "asked").exists()
    for name in ("compose.yaml", "compose.checked", "start-order"):
        (kit / ".state" / name).rename(tmp_path / name)
    (kit / ".env").rename(tmp_path / ".env")
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0, "it is known now"
    for name in ("compose.yaml", "compose.checked", "start-order"):
        (tmp_path / name).rename(kit / ".state" / name)
    (tmp_path / ".env").rename(kit / ".env")
    assert scripts_kit.run(kit, "scripts/deploy.sh", "stop", env=path).returncode == 0
    assert "stop" in (tmp_path / "asked").read_text()


def test_another_kit_in_the_same_folder_is_not_the_one_that_was_installed(kit: Path) -> None:
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    (kit / ".state/installed").write_text("v1.0.0\n")
    scripts_kit.rewrite(kit, "README.md", b"another build\n")
    (kit / "config/own.yaml").write_text("{}")
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 20 and "extra: config/own.yaml" in done.stderr


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are for one."""
    folder = Path(tempfile.mkdtemp(prefix="offline-kit-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_record_that_somebody_else_could_write_counts_for_nothing(shelf: scripts_kit.Shelf, open_folder: Path) -> None:
    """Run as nobody, the record lies in that user's home; one that belongs to another user is none."""
    kit = scripts_kit.make_kit(shelf, open_folder / "a kit")
    home = open_folder / "home"
    home.mkdir()
    subprocess.run(["chown", "-R", "65534:65534", kit, home], check=True)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    env = {"HOME": str(home), "TMPDIR": str(home)}
    assert scripts_kit.run(kit, "scripts/verify.sh", env=env, prefix=nobody).returncode == 0
    (kit / ".state/installed").write_text("v1.0.0\n")
    edit(kit)
    assert scripts_kit.run(kit, "scripts/verify.sh", env=env, prefix=nobody).returncode == 0
    (record,) = (home / ".local/state/offline-kit/kits").iterdir()
    os.chown(record, 65533, 65533)
    assert scripts_kit.run(kit, "scripts/verify.sh", env=env, prefix=nobody).returncode == 20
