"""verify.sh and the first step of install.sh: whatever is wrong with a kit's files is named, and nothing is started."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scripts_kit

PATH_TOOLS = (
    "bash",
    "awk",
    "cat",
    "chmod",
    "cmp",
    "cut",
    "date",
    "df",
    "dirname",
    "env",
    "find",
    "flock",
    "grep",
    "gzip",
    "head",
    "id",
    "ls",
    "mkdir",
    "mktemp",
    "mv",
    "nproc",
    "od",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "stat",
    "sync",
    "tail",
    "tar",
    "tr",
    "uname",
    "wc",
    "xargs",
    "cp",
    "sleep",
    "timeout",
)


def limited_path(folder: Path, *left_out: str) -> str:
    """A PATH with nothing but links to PATH_TOOLS, less `left_out`."""
    folder.mkdir()
    for name in set(PATH_TOOLS) - set(left_out):
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    return str(folder)


def flip(path: Path, offset: int | None = None) -> None:
    data = bytearray(path.read_bytes())
    where = len(data) // 2 if offset is None else offset
    data[where] ^= 0x20
    times = path.stat()
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def files_of(kit: Path) -> Iterator[Path]:
    return (path for path in sorted(kit.rglob("*")) if path.is_file() and ".state" not in path.parts)


def test_a_whole_kit_is_whole_and_remembered(kit: Path) -> None:
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 0, done.stderr
    count = len((kit / "SHA256SUMS").read_text().splitlines())
    assert f"all {count} files" in done.stderr and "a file.bin" in (kit / ".state/proven").read_text()
    again = scripts_kit.run(kit, "scripts/verify.sh", "--quick")
    assert f"0 read (0 B), {count} proven earlier" in again.stderr
    full = scripts_kit.run(kit, "scripts/verify.sh")
    assert "proven earlier" not in full.stderr


def test_what_changed_since_it_was_proven_is_read_again_even_with_the_old_times(kit: Path) -> None:
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    flip(kit / "models/chat/a file.bin")
    done = scripts_kit.run(kit, "scripts/verify.sh", "--quick")
    assert done.returncode == 20 and "changed: models/chat/a file.bin" in done.stderr


def test_a_flipped_bit_in_any_file_is_found_and_nothing_is_started(kit: Path) -> None:
    for path in files_of(kit):
        before, name = path.read_bytes(), str(path.relative_to(kit))
        flip(path)
        script = "install.sh" if name.endswith(".sh") else "scripts/verify.sh"
        done = scripts_kit.run(kit, script)
        assert done.returncode == 20, (name, done.stderr)
        # a flip in SHA256SUMS hits one line, in kit.env it may end everything before sums are looked at
        expected = {"SHA256SUMS": "", "deploy/kit.env": "deploy/kit.env"}.get(name, name)
        assert expected in done.stderr and "damaged" in done.stderr
        assert not (kit / ".env").exists() and not (kit / ".state/compose.yaml").exists()
        path.write_bytes(before)
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0


def test_a_flipped_bit_anywhere_in_the_sums_is_found(kit: Path) -> None:
    sums = kit / "SHA256SUMS"
    whole = sums.read_bytes()
    for offset in range(0, len(whole), len(whole) // 40):
        flip(sums, offset)
        done = scripts_kit.run(kit, "scripts/verify.sh", "--quick")
        assert done.returncode == 20, (offset, done.stderr)
        sums.write_bytes(whole)


def test_all_findings_come_at_once(kit: Path) -> None:
    (kit / "models/chat/config.json").unlink()
    (kit / "models/rerank/config.json").write_text("{}")
    (kit / "models/embedding/one too many.txt").write_text("x")
    (kit / "scripts/link.sh").symlink_to("/bin/true")
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 20
    for finding in (
        "missing: models/chat/config.json",
        "changed: models/rerank/config.json",
        "extra: models/embedding/one too many.txt",
        "not a plain file (symbolic link): scripts/link.sh",
        "4 finding(s)",
    ):
        assert finding in done.stderr
    # a pipe would be waited for by whoever reads it: it is told before anything is read
    os.mkfifo(kit / "config/pipe")
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 20 and "config/pipe" in done.stderr and "not a plain file" in done.stderr
    assert not (kit / ".state/proven").exists()


@pytest.mark.parametrize(
    "change, says",
    [
        (lambda text: text.replace(text[:64], text[:64].upper(), 1), "line 1 is not"),
        (lambda text: text.replace("  ", " ", 1), "line 1 is not"),
        (lambda text: text.replace("  ", " *", 1), "line 1 is not"),
        (lambda text: text.replace("\n", "\r\n"), "line 1 is not"),
        (lambda text: "".join(sorted(text.splitlines(True), key=lambda line: line[66:], reverse=True)), "not sorted"),
        (lambda text: text.splitlines(True)[0] + text, "named twice"),
        (lambda text: text.replace("  README.md", "  ../README.md"), "not a path"),
        (lambda text: text.replace("  README.md", "  /README.md"), "not a path"),
        (lambda text: text + "0" * 64 + "  SHA256SUMS\n", "not a path"),
        (lambda text: "", "empty"),
        (lambda text: text[: len(text) // 2], ""),
    ],
)
def test_sums_of_another_shape_are_refused(kit: Path, change: object, says: str) -> None:
    assert callable(change)
    (kit / "SHA256SUMS").write_text(change((kit / "SHA256SUMS").read_text()), newline="")
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 20 and says in done.stderr


def test_no_sums_is_no_pass(kit: Path) -> None:
    (kit / "SHA256SUMS").unlink()
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 20
    assert scripts_kit.run(kit, "install.sh").returncode == 20


def test_a_line_break_in_a_name_is_found(kit: Path) -> None:
    (kit / "models/chat/two\nlines").write_text("x")
    done = scripts_kit.run(kit, "scripts/verify.sh")
    assert done.returncode == 20 and "lines" in done.stderr


def test_what_is_the_operators_is_no_damage(kit: Path) -> None:
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0  # from here on this host knows the folder
    (kit / ".env").write_text("VLLM_API_KEY=x\n")
    (kit / ".state/anything").write_text("x")
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 0
    (kit / "config/models.json").write_text("{}")
    (kit / "models/mine").mkdir()
    (kit / "models/mine/config.json").write_text("{}")
    before = scripts_kit.run(kit, "scripts/verify.sh")
    assert before.returncode == 20 and "changed: config/models.json" in before.stderr and "extra: models/mine" in before.stderr
    (kit / ".state/installed").write_text("v1.0.0\n")
    after = scripts_kit.run(kit, "scripts/verify.sh")
    assert after.returncode == 0, after.stderr
    assert "note: changed: config/models.json" in after.stderr and "note: extra: models/mine/config.json" in after.stderr
    (kit / "models/chat/extra").write_text("x")
    assert scripts_kit.run(kit, "scripts/verify.sh").returncode == 20


def test_without_openssl_and_flock_it_works_as_well(kit: Path, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", "flock")
    assert scripts_kit.run(kit, "scripts/verify.sh", env={"PATH": path}).returncode == 0
    flip(kit / "models/chat/a file.bin")
    done = scripts_kit.run(kit, "scripts/verify.sh", env={"PATH": path})
    assert done.returncode == 20 and "changed: models/chat/a file.bin" in done.stderr


def test_messages_carry_no_colours_into_a_file(kit: Path) -> None:
    assert not re.search(r"[\x1b\r]", scripts_kit.run(kit, "scripts/verify.sh").stderr)
