"""Ordinary tools read a bundle; a kit that they unpacked verifies; a disk that fills up leaves nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.bundle.format import member
from offline_kit.bundle.format.report import Report
from offline_kit.bundle.read.inspect import read_texts
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.pack import pack, packed_size
from offline_kit.bundle.write.staging import check_file_size
from offline_kit.common.errors import BundleDamaged, DiskError
from offline_kit.common.progress import Silent, Task
from tests.support.bundle_sample import Sample, make_large_sample

TOP = "kit-v1.0.0"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_large_sample(tmp_path_factory.mktemp("sample") / "blobs")


@pytest.fixture(scope="module")
def bundle(sample: Sample) -> Path:
    return sample.pack(sample.folder.parent / "kit.tar.gz")


def run(command: str, folder: Path, bundle: Path) -> str:
    environment = {**os.environ, "BUNDLE": str(bundle), "LC_ALL": "C.UTF-8"}
    arguments = ["bash", "-o", "pipefail", "-euc", command]
    done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return done.stdout


def check(path: Path, quick: bool = False) -> Report:
    return verify(path, quick=quick, progress=Silent())


def said(report: Report) -> list[str]:
    return [str(finding) for finding in report.findings]


EXTRACT = {
    "GNU tar": 'tar -xzf "$BUNDLE"',
    "GNU tar, another umask": 'umask 077; tar -xzf "$BUNDLE"',
    "BusyBox tar": 'busybox tar -xzf "$BUNDLE"',
    "BSD tar": 'bsdtar -xf "$BUNDLE"',
    "pigz": 'pigz -dc "$BUNDLE" | tar -xf -',
    "gzip": 'gzip -dc "$BUNDLE" | tar -xf -',
    "BusyBox gunzip": 'busybox gunzip -c "$BUNDLE" | tar -xf -',
    "zstd": 'zstd --format=gzip -dc "$BUNDLE" | tar -xf -',
    "in parts": 'split -b 1M "$BUNDLE" part.; cat part.* | tar -xzf -; rm part.*',
}


@pytest.mark.parametrize("tool", EXTRACT)
def test_unpacked_by(tool: str, sample: Sample, bundle: Path, tmp_path: Path) -> None:
    run(EXTRACT[tool], tmp_path, bundle)
    report = check(tmp_path / TOP)
    assert (report.whole, report.form, report.files, said(report)) == (True, "kit", len(sample.entries()), [])
    run("sha256sum --strict --quiet -c SHA256SUMS && busybox sha256sum -c SHA256SUMS", tmp_path / TOP, bundle)
    for entry in sample.entries():
        assert (tmp_path / TOP / entry.path).stat().st_mode & 0o777 == entry.mode, entry.path
    folders = [path for path in (tmp_path / TOP).rglob("*") if path.is_dir()]
    assert {path.stat().st_mode & 0o777 for path in [tmp_path / TOP, *folders]} == {0o755}


def test_tarfile(sample: Sample, bundle: Path) -> None:
    with tarfile.open(bundle) as archive:
        infos = archive.getmembers()
        names = [info.name.removeprefix(f"{TOP}/") for info in infos if info.isfile()]
        assert names == [entry.path for entry in sample.entries()]
        assert {(info.uid, info.gid, info.uname, info.gname, info.mtime) for info in infos} == {(0, 0, "", "", 315532800)}


@pytest.mark.parametrize("tool", ["gzip -t", "pigz -t", "busybox gzip -t", "zstd --format=gzip -t -q"])
def test_tested_by(tool: str, bundle: Path, tmp_path: Path) -> None:
    run(f'{tool} "$BUNDLE"', tmp_path, bundle)


@pytest.mark.parametrize("tool", ["gzip -1", "pigz -p 2", "pigz -i -b 128", "busybox gzip", "zstd --format=gzip -q -c"])
def test_compressed_again_by(tool: str, bundle: Path, tmp_path: Path) -> None:
    run(f'gzip -dc "$BUNDLE" | {tool} >again.tar.gz', tmp_path, bundle)
    report = check(tmp_path / "again.tar.gz")
    assert (report.whole, report.form, said(report)) == (True, "recompressed", [])


@pytest.mark.parametrize("tool", ["tar -tvf -", "busybox tar -tvf -", "bsdtar -tvf -"])
def test_sizes_over_8_gib(tool: str, tmp_path: Path) -> None:
    """Only the header: the tools list the file before they miss its content."""
    header = member.render(member.Header(f"{TOP}/huge", 9 * 2**30, 0o644, 315532800))
    listed = subprocess.run(tool.split(), input=header + bytes(10240), capture_output=True, check=False)
    assert str(9 * 2**30).encode() in listed.stdout


@pytest.fixture
def kit(bundle: Path, tmp_path: Path) -> Path:
    run('tar -xzf "$BUNDLE"', tmp_path, bundle)
    return tmp_path / TOP


def test_kit_changed(kit: Path) -> None:
    weights = kit / "models/chat/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[2_000_000] ^= 16
    weights.write_bytes(data)
    (kit / "README.md").unlink()
    (kit / "scripts/extra.sh").write_text("x")
    (kit / "config/models.json").write_text("{}")
    (kit / "models/mine").mkdir()
    (kit / "models/mine/config.json").write_text("{}")
    found = {finding.where: finding.what for finding in check(kit).findings}
    assert found.keys() == {
        "models/chat/model.safetensors",
        "README.md",
        "scripts/extra.sh",
        "config/models.json",
        "models/mine/config.json",
    }
    assert found["README.md"] == "is missing"
    assert found["config/models.json"].startswith("is changed")


def test_kit_links_and_pipes(kit: Path, tmp_path: Path) -> None:
    (kit / "README.md").rename(tmp_path / "README.md")
    (kit / "README.md").symlink_to(tmp_path / "README.md")
    (kit / "scripts/lib").rename(tmp_path / "lib")
    (kit / "scripts/lib").symlink_to(tmp_path / "lib")
    os.mkfifo(kit / "pipe")
    found = said(check(kit))
    assert "README.md: is a symbolic link" in found
    assert "scripts/lib: is a symbolic link" in found
    assert "scripts/lib/core/common.sh: is missing" in found
    assert "pipe: is neither a file nor a folder" in found


def test_what_belongs_to_the_host_is_not_counted(kit: Path) -> None:
    (kit / ".env").write_text("VLLM_API_KEY=x\n")
    (kit / ".state").mkdir()
    (kit / ".state/receipt.json").write_text("{}")
    assert said(check(kit)) == []


def test_what_belongs_to_the_operator_once_installed(kit: Path) -> None:
    (kit / ".state").mkdir()
    (kit / ".state/installed").write_text("")
    (kit / "config/models.json").write_text('{"models": {"mine": {}}}')
    (kit / "config/own.yaml").write_text("{}")
    (kit / "models/mine").mkdir()
    (kit / "models/mine/model.safetensors").write_text("cut off, and nobody's business")
    report = check(kit)
    assert said(report) == []
    assert report.notes == (
        "models/mine/: a folder of the operator's, not checked",
        "config/models.json: edited by the operator",
        "config/own.yaml: added by the operator",
    )
    (kit / "models/chat/own.bin").write_text("x")
    (kit / "models/loose").write_text("x")
    (kit / "config/vllm_config.yaml").unlink()
    found = {finding.where for finding in check(kit).findings}
    assert found == {"models/chat/own.bin", "models/loose", "config/vllm_config.yaml"}


def test_kit_quick(kit: Path) -> None:
    report = check(kit, quick=True)
    assert (report.whole, report.unchecked_files) == (True, 1)
    os.truncate(kit / "models/chat/model.safetensors", 2_500_000)
    assert any("its tensors need" in line for line in said(check(kit, quick=True)))


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB of its own; needs root, as the testbed does."""
    mount = tmp_path / "disk"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_disk_too_small(sample: Sample, tiny_disk: Path) -> None:
    (tiny_disk / "other").write_bytes(bytes(6_000_000))
    with pytest.raises(DiskError, match=rf"needs {packed_size(sample.entries(), TOP)} bytes, \d+ are free"):
        sample.pack(tiny_disk / "kit.tar.gz")
    assert [path.name for path in tiny_disk.iterdir()] == ["other"]
    os.truncate(tiny_disk / "other", 0)
    assert check(sample.pack(tiny_disk / "kit.tar.gz")).whole


@pytest.mark.fault("pack", "disk full", "filled by somebody else while it is written: exit 9, and nothing is left")
def test_disk_that_fills_up_while_packing(sample: Sample, tiny_disk: Path) -> None:
    class Greedy(Silent):
        """Somebody else takes the space just after it was counted."""

        def task(self, title: str, total: int, items: int = 0) -> Task:
            (tiny_disk / "other").write_bytes(bytes(7_000_000))
            return super().task(title, total, items)

    with pytest.raises(DiskError, match="the disk became full; it needs"):
        pack(sample.entries(), TOP, sample.path_of, tiny_disk / "kit.tar.gz", progress=Greedy())
    assert [path.name for path in tiny_disk.iterdir()] == ["other"]


def test_file_system_that_takes_no_large_files(tmp_path: Path) -> None:
    """ext2 in blocks of 1 KiB ends at 16 GiB a file, as FAT at 4."""
    image, mount = tmp_path / "image", tmp_path / "disk"
    mount.mkdir()
    with image.open("wb") as file:
        file.truncate(8 << 20)
    subprocess.run(["mkfs.ext2", "-q", "-b", "1024", str(image)], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True)
    try:
        check_file_size(mount, 8 << 30)
        with pytest.raises(DiskError, match=r"a file of that size .* cannot be made there.*--split"):
            check_file_size(mount, 32 << 30)
        assert [path.name for path in mount.iterdir()] == ["lost+found"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_every_tool_is_here() -> None:
    """A missing tool is an error, not a test that quietly proves less."""
    assert [tool for tool in ("tar", "busybox", "bsdtar", "gzip", "pigz", "zstd", "sha256sum") if not shutil.which(tool)] == []


@pytest.mark.parametrize("name", ["bundle.json", "lock.json", "SHA256SUMS", "config/models.json"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder"])
def test_what_is_no_plain_file_is_never_opened(kit: Path, name: str, kind: str) -> None:
    """A pipe would wait for ever, /dev/zero would fill the memory."""
    place = kit / name
    content = place.read_bytes()
    place.unlink()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "link":
        (kit.parent / "elsewhere").write_bytes(content)
        place.symlink_to(kit.parent / "elsewhere")
    else:
        place.mkdir()
    assert said(check(kit))
    with pytest.raises(BundleDamaged, match=f"{name}: is no plain file"):
        read_texts(kit, (name,))
