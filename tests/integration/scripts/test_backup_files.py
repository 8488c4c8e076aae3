"""backup, restore and support-bundle against hostile folders and files; no service runs, and no engine is asked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import scripts_kit

KEY = "A/key+of=16~or.more"
ENV = {"DOCKER_HOST": "unix:///nonexistent.sock"}


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    """A kit that looks installed."""
    made = scripts_kit.make_kit(shelf, tmp_path / "a kit")
    (made / ".state/tls").mkdir(parents=True)
    for name, text in (("compose.yaml", "services: {}\n"), ("start-order", "gateway\n"), ("ports", "8000 gateway\n")):
        (made / ".state" / name).write_text(text)
    (made / ".env").write_text(f"VLLM_API_KEY={KEY}\n")
    (made / ".state/keys").write_text("# added 2026-01-01T00:00:00Z team\nteam a-key-of-a-team-0123\n")
    return made


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder in which everybody may write and rename."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


def deploy(kit: Path, *words: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return scripts_kit.run(kit, "scripts/deploy.sh", *map(str, words), env=ENV, prefix=prefix)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.mark.parametrize("verb", ["backup", "support-bundle"])
def test_a_file_with_secrets_is_this_users_alone(kit: Path, shared: Path, verb: str) -> None:
    """Whatever lies there under names that could be foreseen, and whatever the umask is."""
    precious = shared.parent / "precious"
    precious.write_text("precious")
    for name in ("file.partial", "file.new", ".file.partial"):
        (shared / name).symlink_to(precious)
    target = shared / "file"
    done = deploy(kit, verb, target, prefix=("bash", "-c", 'umask 0; exec "$@"', "-"))
    assert done.returncode == 0, done.stderr
    assert mode(target) == 0o600 and target.stat().st_uid == os.geteuid() and target.stat().st_nlink == 1
    assert precious.read_text() == "precious"
    assert sorted(path.name for path in shared.iterdir()) == [".file.partial", "file", "file.new", "file.partial"]


@pytest.mark.parametrize("verb", ["backup", "support-bundle"])
@pytest.mark.parametrize("what", ["file", "link", "link to nothing", "folder"])
def test_nothing_that_is_there_is_replaced(kit: Path, shared: Path, verb: str, what: str) -> None:
    target, other = shared / "file", shared.parent / "other"
    if what == "file":
        target.write_text("somebody's")
    elif what == "folder":
        target.mkdir()
    else:
        target.symlink_to(other)
        if what == "link":
            other.write_text("somebody's")
    done = deploy(kit, verb, target)
    assert done.returncode == 2 and "there already" in done.stderr
    assert not other.exists() or other.read_text() == "somebody's"


def test_what_is_no_plain_file_is_refused_or_left_out_and_told(kit: Path, tmp_path: Path) -> None:
    """A pipe that somebody laid is a refusal before anything is read; a link is not followed."""
    (kit / "config/passwd").symlink_to("/etc/passwd")
    os.mkfifo(kit / ".state/tls/pipe")
    done = deploy(kit, "backup", tmp_path / "file")
    assert done.returncode == 20 and ".state/tls/pipe" in done.stderr and not (tmp_path / "file").exists(), done.stderr
    (kit / ".state/tls/pipe").unlink()
    done = deploy(kit, "backup", tmp_path / "file")
    assert done.returncode == 0 and "config/passwd" in done.stderr, done.stderr
    with tarfile.open(tmp_path / "file") as archive:
        assert {member.type for member in archive} == {tarfile.REGTYPE, tarfile.DIRTYPE}


class Archive:
    """A backup of the kit, taken apart: members can be changed, added and left out, the list mended or not."""

    def __init__(self, kit: Path, folder: Path) -> None:
        self.kit, self.file = kit, folder / "hostile.tar.gz"
        done = deploy(kit, "backup", folder / "honest.tar.gz")
        assert done.returncode == 0, done.stderr
        self.honest = folder / "honest.tar.gz"
        with tarfile.open(self.honest) as archive:
            self.members = [(member, self._content(archive, member)) for member in archive]

    @staticmethod
    def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        stream = archive.extractfile(member)
        return stream.read() if stream else b""

    def add(self, name: str, content: bytes = b"x", *, listed: bool = True, **fields: object) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        for key, value in fields.items():
            setattr(member, key, value)
        self.members.append((member, content))
        if listed:
            self.list(f"{hashlib.sha256(content).hexdigest()}  {name}\n")

    def list(self, line: str) -> None:
        member, content = self.members[0]
        assert member.name == "./SUMS"
        member.size = len(content) + len(line.encode())
        self.members[0] = (member, content + line.encode())

    def restore(self) -> subprocess.CompletedProcess[str]:
        with tarfile.open(self.file, "w:gz") as archive:
            for member, content in self.members:
                archive.addfile(member, io.BytesIO(content) if len(content) == member.size else None)
        return deploy(self.kit, "restore", self.file)


@pytest.fixture
def archive(kit: Path, tmp_path: Path) -> Archive:
    return Archive(kit, tmp_path)


def everything(kit: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted(kit.rglob("*")):
        if path.name not in ("lock", "record", "proven"):
            yield str(path.relative_to(kit)), path.read_bytes() if path.is_file() else b""


def link(archive: Archive) -> None:
    archive.add("./config/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd", listed=False)


def listed_link(archive: Archive) -> None:
    archive.add("./config/link", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")


def hard_link(archive: Archive) -> None:
    archive.add("./config/link", b"", type=tarfile.LNKTYPE, linkname="./.env", listed=False)


def link_then_file(archive: Archive) -> None:
    archive.add("./config/out", b"", type=tarfile.SYMTYPE, linkname=str(archive.kit.parent), listed=False)
    archive.add("./config/out/owned", b"x")


def device(archive: Archive) -> None:
    archive.add("./config/zero", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5, listed=False)


def pipe(archive: Archive) -> None:
    archive.add("./config/pipe", b"", type=tarfile.FIFOTYPE, listed=False)


def not_listed(archive: Archive) -> None:
    archive.add("./state/tls/server.key", b"x", listed=False)


def twice(archive: Archive) -> None:
    archive.members += [pair for pair in archive.members if pair[0].name == "./.env"]


def no_place_of_a_backup(archive: Archive) -> None:
    archive.add("./state/upgrade", b"PHASE=done\n")


def outside(archive: Archive) -> None:
    archive.add("./config/../../owned", b"x")


def absolute(archive: Archive) -> None:
    archive.add("/tmp/offline-kit-owned", b"x", listed=False)


def another_folder(archive: Archive) -> None:
    archive.add("./.ssh/", b"", type=tarfile.DIRTYPE, listed=False)


def line_break(archive: Archive) -> None:
    archive.add("./config/a\n./config/b", b"x", listed=False)


def two_lists(archive: Archive) -> None:
    archive.members.append(archive.members[0])


def missing(archive: Archive) -> None:
    archive.list(f"{'0' * 64}  ./config/not-there\n")


def larger_than_the_disk(archive: Archive) -> None:
    archive.add("./config/large", b"", size=1 << 50, listed=False)
    archive.list(f"{'0' * 64}  ./config/large\n")


@pytest.mark.parametrize(
    "change",
    [
        link, listed_link, hard_link, link_then_file, device, pipe, not_listed, twice, no_place_of_a_backup, outside,
        absolute, another_folder, line_break, two_lists, missing, larger_than_the_disk,
    ],
)  # fmt: skip
def test_restore_takes_what_its_list_names_and_nothing_else(archive: Archive, change: Callable[[Archive], None]) -> None:
    before = dict(everything(archive.kit))
    change(archive)
    done = archive.restore()
    assert done.returncode == 20, done.stderr
    assert dict(everything(archive.kit)) == before
    assert not (archive.kit.parent / "owned").exists() and not Path("/tmp/offline-kit-owned").exists()


def test_a_bomb_is_not_unpacked(archive: Archive) -> None:
    """More than the disk holds, in a few kilobytes: told from the header, not by filling the disk."""
    free = os.statvfs(archive.kit)
    archive.add("./config/large", b"", size=free.f_bavail * free.f_frsize + (1 << 30), listed=False)
    archive.list(f"{'0' * 64}  ./config/large\n")
    assert archive.restore().returncode == 20
    with archive.file.open("ab") as file:
        file.write(gzip.compress(bytes(64 << 20), 9) * 16)
    done = scripts_kit.run(archive.kit, "scripts/deploy.sh", "restore", str(archive.file), env=ENV, timeout=60)
    assert done.returncode == 20 and "bytes that are free here" in done.stderr, done.stderr


def test_modes_and_owners_of_the_file_are_not_taken(archive: Archive) -> None:
    """What would run is refused here for want of an engine; by then all was unpacked and set right."""
    for member, _ in archive.members:
        member.mode, member.uid, member.gid = 0o6777, 12345, 12345
    archive.add("./config/größe ü.json", b"{}")
    done = archive.restore()
    assert done.returncode == 3, done.stderr
    done = deploy(archive.kit, "restore", archive.honest)
    assert done.returncode == 3 and not (archive.kit / ".state/restoring").exists()
