"""unpack.py: a kit that is whole, or nothing; never anything outside; as a command alone and inside offline-kit.

One file, as unpack.py is: whatever ``verify`` and it must refuse alike is tried on the same forged bundle.
"""

from __future__ import annotations

import ast
import gzip
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from offline_kit.bundle import delta, unpack
from offline_kit.bundle.extract import extract
from offline_kit.bundle.format import member
from offline_kit.bundle.read.inspect import read_head
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.pack import pack
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import (
    Files,
    Sample,
    files_of,
    forge,
    forge_raw,
    make_large_sample,
    make_sample,
    raw_member,
    seal,
)

TOP = "kit-v1.0.0"
TIME = 315532800
SCRIPT = Path(unpack.__file__)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_large_sample(tmp_path_factory.mktemp("sample") / "blobs")


@pytest.fixture(scope="module")
def bundle(sample: Sample) -> Path:
    return sample.pack(sample.folder.parent / "kit.tar.gz")


def alone(bundle: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As on a host: this one file, nothing of the environment."""
    copied = folder.parent / "unpack.py"
    shutil.copy(SCRIPT, copied)
    command = [sys.executable, "-I", str(copied), str(bundle), str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env={}, check=False)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_alone_it_gives_what_tar_gives(bundle: Path, sample: Sample, tmp_path: Path) -> None:
    done = alone(bundle, tmp_path / "a")
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / "b").mkdir()
    subprocess.run(["tar", "-xzf", bundle], cwd=tmp_path / "b", check=True)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    for entry in sample.entries():
        ours, theirs = tmp_path / "a" / TOP / entry.path, tmp_path / "b" / TOP / entry.path
        assert ours.read_bytes() == theirs.read_bytes()
        states = [path.stat() for path in (ours, theirs)]
        assert [(s.st_mode, s.st_mtime) for s in states[:1]] == [(s.st_mode, s.st_mtime) for s in states[1:]]
    assert verify(tmp_path / "a" / TOP, progress=Silent()).whole


def test_it_runs_on_python_3_8_with_its_library_alone() -> None:
    text = SCRIPT.read_text()
    ast.parse(text, feature_version=(3, 8))
    names = {alias.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
    for newer in ("removesuffix", "removeprefix", "cancel_futures", "strict=", "pairwise", "list[", "dict["):
        assert newer not in text, newer


def recompress(bundle: Path, out: Path, kind: str, sample: Sample) -> Path:
    tar = gzip.decompress(bundle.read_bytes())
    if kind == "zst":
        pack(sample.entries(), TOP, sample.path_of, out.with_suffix(".tar.zst"), progress=Silent())
        return out.with_suffix(".tar.zst")
    if kind == "parts":
        pack(sample.entries(), TOP, sample.path_of, out, split=1 << 20, progress=Silent())
        return out.with_name(f"{out.name}.002")
    out.write_bytes(gzip.compress(tar, 1) if kind == "gzip" else gzip.compress(tar[:9999], 1) + gzip.compress(tar[9999:], 6))
    return out


@pytest.mark.parametrize("kind", ["gzip", "two members", "zst", "parts"])
def test_every_form(bundle: Path, sample: Sample, tmp_path: Path, kind: str) -> None:
    other = recompress(bundle, tmp_path / "kit.tar.gz", kind, sample)
    kit, report = extract(other, tmp_path / "a", progress=Silent())
    assert (kit, report.whole) == (tmp_path / "a" / TOP, True)
    assert verify(kit, progress=Silent()).whole
    done = alone(other, tmp_path / "b")
    assert done.returncode == (21 if kind == "zst" else 0), done.stderr
    assert tree(tmp_path / "a") == tree(tmp_path / "b") if kind != "zst" else "tar --zstd" in done.stderr


@pytest.mark.parametrize("which", ["first", "a later", "the end mark"])
def test_every_byte_of_a_header_counts_for_both_readers(bundle: Path, tmp_path: Path, which: str) -> None:
    """Which gunzip would refuse, or another tool read otherwise, although the lengths lead to the same files."""
    whole = bundle.read_bytes()
    starts = [at for at in range(len(whole)) if whole.startswith(member.MAGIC, at)]
    start = {"first": starts[0], "a later": starts[5], "the end mark": starts[-1]}[which]
    broken = tmp_path / "kit.tar.gz"
    for at in range(start, start + unpack.GZIP_HEAD + unpack.FRAME):
        broken.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            assert verify(broken, progress=Silent(), quick=True).findings, at - start
        except BundleUnreadable:
            assert start == 0
        with pytest.raises((BundleDamaged, BundleUnreadable)):
            extract(broken, tmp_path / "kits", progress=Silent())


def test_a_delta(bundle: Path, sample: Sample, tmp_path: Path) -> None:
    base = delta.compare(sample.lock(), read_head(bundle))
    entries = delta.omit_base(sample.entries(), base)
    pack(entries, TOP, sample.path_of, tmp_path / "d.tar.gz", progress=Silent())
    _, report = extract(tmp_path / "d.tar.gz", tmp_path / "a", progress=Silent())
    assert (report.findings, report.base, report.incomplete) == ((), TOP, True)
    assert "This is a delta" in alone(tmp_path / "d.tar.gz", tmp_path / "b").stdout
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    tar = tmp_path / "again.tar.gz"
    tar.write_bytes(gzip.compress(gzip.decompress((tmp_path / "d.tar.gz").read_bytes())))
    assert alone(tar, tmp_path / "c").returncode == 0


def refused(bundle: Path, folder: Path, text: str) -> None:
    """Both ways refuse, say why, and leave nothing; nothing lies beside either."""
    folder.mkdir(exist_ok=True)
    before = tree(folder.parent)
    with pytest.raises(BundleDamaged) as caught:
        extract(bundle, folder, progress=Silent())
    assert text in str(caught.value)
    done = alone(bundle, folder)
    (folder.parent / "unpack.py").unlink()
    assert (done.returncode, text in done.stdout, "Traceback" in done.stderr) == (20, True, False), done
    assert tree(folder.parent) == before


NAMES = {
    "../evil": "leaves the folder",
    f"{TOP}/../../evil": "leaves the folder",
    "/tmp/evil": "leaves the folder",
    f"{TOP}/a\nb": "leaves the folder",
    f"{TOP}//evil": "leaves the folder",
    f"{TOP}/README.md": "comes twice",
    f"{TOP}/scripts": "comes twice",
    f"{TOP}/README.md/evil": "has no entry before it",
    f"{TOP}/nowhere/evil": "has no entry before it",
    f"{TOP}/.state/installed": "its folder has no entry",
    f"{TOP}/.env": "belongs to the host",
    f"{TOP}/evil": "is extra",
    "other/evil": "lies outside",
    f"{TOP}/evil/": "is an empty folder",
    TOP: "lies outside",
    f"{TOP}/{'x' * 256}": "leaves the folder",
}


@pytest.mark.parametrize("name", NAMES)
def test_hostile_names(sample: Sample, tmp_path: Path, name: str) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files_of(sample))
    content, mode = (b"", 0o755) if name.endswith("/") else (b"abc", 0o644)
    evil = raw_member(member.render(member.Header(name, len(content), mode, TIME)), content)
    bundle.write_bytes(bundle.read_bytes()[: -len(member.END)] + evil + member.END)
    refused(bundle, tmp_path / "out", NAMES[name])
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes()), 1))
    refused(bundle, tmp_path / "out", NAMES[name])


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices(sample: Sample, tmp_path: Path, kind: bytes) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files_of(sample))
    info = tarfile.TarInfo(f"{TOP}/evil")
    info.type, info.linkname, info.mtime = kind, "/etc/passwd", TIME
    bundle.write_bytes(bundle.read_bytes()[: -len(member.END)] + raw_member(info.tobuf(tarfile.GNU_FORMAT), b"") + member.END)
    refused(bundle, tmp_path / "out", "what lies behind was not read")
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes()), 1))
    refused(bundle, tmp_path / "out", "what lies behind was not read")


@pytest.mark.parametrize("size", [2**40, 2**62, 2**87])
def test_bombs(sample: Sample, tmp_path: Path, size: int) -> None:
    """A file of a declared size that no disk holds is refused before a byte of it is written, whatever could be inflated."""
    head = member.render(member.Header(f"{TOP}/", 0, 0o755, TIME))
    huge = member.render(member.Header(f"{TOP}/install.sh", size, 0o644, TIME))
    forge_raw(tmp_path / "kit.tar.gz", [(head, b""), (huge, b"")])
    refused(tmp_path / "kit.tar.gz", tmp_path / "out", "its length is not that of its content")
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9) as stream:
        stream.write(head + huge)
        for _ in range(64):
            stream.write(bytes(1 << 20))
    (tmp_path / "kit.tar.gz").write_bytes(packed.getvalue())
    with pytest.raises(DiskError, match=f"does not fit on the disk: {size} bytes, .*name another FOLDER"):
        extract(tmp_path / "kit.tar.gz", tmp_path / "out", progress=Silent())
    done = alone(tmp_path / "kit.tar.gz", tmp_path / "out")
    assert done.returncode == 9 and "does not fit on the disk" in done.stderr and tree(tmp_path / "out") == []
    (tmp_path / "unpack.py").unlink()
    (tmp_path / "kit.tar.gz").write_bytes(gzip.compress(bytes(64 << 20), 9))
    with pytest.raises(BundleUnreadable, match="not made by offline-kit"):
        extract(tmp_path / "kit.tar.gz", tmp_path / "out", progress=Silent())
    assert alone(tmp_path / "kit.tar.gz", tmp_path / "out").returncode == 21


def a_changed_file(files: Files) -> None:
    files["models/chat/model.safetensors"] = (files["models/chat/model.safetensors"][0][:-1] + b"\xff", 0o644)


def a_missing_file(files: Files) -> None:
    del files["README.md"]


def no_sums(files: Files) -> None:
    del files["SHA256SUMS"]


def sums_in_another_form(files: Files) -> None:
    files["SHA256SUMS"] = (files["SHA256SUMS"][0].upper(), 0o644)


def sums_with_a_hostile_path(files: Files) -> None:
    files["SHA256SUMS"] = (b"0" * 64 + b"  ../../etc/passwd\n" + files["SHA256SUMS"][0], 0o644)


LIES: dict[Callable[[Files], None], str] = {
    a_changed_file: "models/chat/model.safetensors: is changed: ",
    a_missing_file: "README.md: is missing",
    no_sums: "SHA256SUMS: is missing",
    sums_in_another_form: "SHA256SUMS: is not a list of sums",
    sums_with_a_hostile_path: "SHA256SUMS: is not a list of sums",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_files_that_are_not_as_the_sums_say(sample: Sample, tmp_path: Path, lie: Callable[[Files], None]) -> None:
    files = files_of(sample)
    lie(files)
    bundle = forge(tmp_path / "kit.tar.gz", files)
    refused(bundle, tmp_path / "out", LIES[lie])
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes()), 1))
    refused(bundle, tmp_path / "out", LIES[lie])


def test_another_top_folder(sample: Sample, tmp_path: Path) -> None:
    refused(forge(tmp_path / "kit.tar.gz", files_of(sample), top="kit-v2"), tmp_path / "out", "bundle.json says kit-v1.0.0")


def test_a_lie_that_the_sums_agree_with_is_seen_by_offline_kit(sample: Sample, tmp_path: Path) -> None:
    files = files_of(sample)
    files["images/index.json"] = (files["images/index.json"][0] + b" ", 0o644)
    bundle = forge(tmp_path / "kit.tar.gz", seal(files))
    with pytest.raises(BundleDamaged, match=r"images/index\.json: is not what follows"):
        extract(bundle, tmp_path / "out", progress=Silent())
    assert tree(tmp_path / "out") == []


def test_what_is_there_stays(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / TOP).mkdir()
    (tmp_path / TOP / ".env").write_text("the operator's")
    with pytest.raises(DiskError, match="is there already"):
        extract(bundle, tmp_path, progress=Silent())
    (tmp_path / TOP).rename(tmp_path / "away")
    (tmp_path / TOP).symlink_to(tmp_path / "away")
    assert alone(bundle, tmp_path).returncode == 9
    assert tree(tmp_path / "away") == [".env"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".unpack")]


def test_what_is_no_bundle(tmp_path: Path) -> None:
    for data in (b"", b"PK\x03\x04", bytes(1024)):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(BundleUnreadable):
            extract(tmp_path / "x", tmp_path / "out", progress=Silent())
        assert alone(tmp_path / "x", tmp_path / "out").returncode == 21
    with pytest.raises(BundleUnreadable):
        extract(tmp_path / "none", tmp_path / "out", progress=Silent())
    assert alone(tmp_path / "none", tmp_path / "out").returncode == 21


def test_modes_do_not_depend_on_the_umask(bundle: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        kit, _ = extract(bundle, tmp_path, progress=Silent())
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in [kit, *kit.rglob("*")] if path.is_dir()} == {0o755}
    assert stat.S_IMODE((kit / "install.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((kit / "lock.json").stat().st_mode) == 0o644


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupt_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """A real Ctrl-C while it writes, and what a system that goes down sends."""
    large = make_sample(tmp_path / "blobs")
    large.model("large", {"weights.bin": bytes(256 << 20)})
    bundle = large.pack(tmp_path / "kit.tar.gz")
    command = [sys.executable, str(SCRIPT), str(bundle), str(tmp_path / "out"), "--jobs", "1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not list((tmp_path / "out").glob(".unpack-*/kit/models/large/*")) and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        try:
            _, said = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, "interrupted; nothing was left" in said) == (130, True), said
    assert tree(tmp_path / "out") == []


@pytest.mark.parametrize(
    "pair",
    [("models/chat/README.md", "models/chat/readme.md"), ("models/chat/e\u0301", "models/chat/\u00e9")],
    ids=["case", "normalisation"],
)
def test_two_names_that_are_one_on_some_hosts_are_refused_alike(sample: Sample, pair: tuple[str, str], tmp_path: Path) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", seal({**files_of(sample), pair[0]: (b"1", 0o644), pair[1]: (b"2", 0o644)}))
    said = "\n".join(str(finding) for finding in verify(bundle, progress=Silent()).findings)
    assert "is one name with" in said
    done = alone(bundle, tmp_path / "out")
    assert done.returncode == 20
    assert "is one name with" in done.stdout


@pytest.mark.parametrize("path", ["a/" * 1200 + "f", "models/a\u202egnp.sh", "models/a\x9bb"], ids=["deep", "bidi", "C1"])
def test_paths_that_no_bundle_has_are_refused_alike(sample: Sample, path: str, tmp_path: Path) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", seal({**files_of(sample), path: (b"1", 0o644)}))
    assert not verify(bundle, progress=Silent()).whole
    done = alone(bundle, tmp_path / "out")
    assert (done.returncode, "Traceback" in done.stderr) == (20, False)


def test_lock_and_bundle_json_have_one_form(sample: Sample, tmp_path: Path) -> None:
    for name in ("lock.json", "bundle.json"):
        files = files_of(sample)
        files[name] = (json.dumps(json.loads(files[name][0])).encode(), 0o644)
        report = verify(forge(tmp_path / f"{name}.tar.gz", seal(files)), progress=Silent())
        assert any(finding.where == name and "in the one form" in finding.what for finding in report.findings)
