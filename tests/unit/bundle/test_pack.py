"""Packing: the same bytes every time, and nothing left behind when it fails."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.bundle.read.inspect import inspect
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write import archive
from offline_kit.bundle.write.pack import pack, packed_size
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DigestMismatch, DiskError, SpecError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import VERSION, Sample, digest_of, files_of, forge, forge_raw, make_sample

TOP = f"kit-{VERSION}"
BLOB = archive.BYTES_AT_ONCE


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "blobs")


def test_size_is_known_before(sample: Sample, tmp_path: Path) -> None:
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    assert bundle.stat().st_size == packed_size(sample.entries(), TOP)


def test_the_forger_of_these_tests_writes_the_same(sample: Sample, tmp_path: Path) -> None:
    """Two writers that share no code beyond headers agree: the tests' own bundles are what they claim to be."""
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    assert forge(tmp_path / "forged", files_of(sample)).read_bytes() == bundle.read_bytes()


@pytest.mark.parametrize("size", [BLOB - 512, BLOB - 1, BLOB, BLOB + 1, 2 * BLOB, 9 * BLOB + 77])
def test_contents_longer_than_a_buffer(sample: Sample, tmp_path: Path, size: int) -> None:
    sample.model("large", {"a.bin": os.urandom(size), "b.bin": b"behind it"})
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    assert bundle.read_bytes() == forge(tmp_path / "forged", files_of(sample)).read_bytes()
    assert verify(bundle, progress=Silent()).findings == ()


def test_same_bytes_in_other_surroundings(tmp_path: Path) -> None:
    """Another process, umask, time zone, locale, hash seed and working folder."""
    script = (
        "import sys; from pathlib import Path; from tests.support.bundle_sample import make_sample; "
        "from offline_kit.bundle.write.pack import pack; from offline_kit.common.progress import Silent\n"
        "sample = make_sample(Path(sys.argv[1]), weights=3_000_000)\n"
        "for name, split in (('gz.tar.gz', None), ('zst.tar.zst', None), ('parts.tar.gz', 1 << 20)):\n"
        "    pack(sample.entries(), 'kit-v1.0.0', sample.path_of, Path(sys.argv[2]) / name, split=split, progress=Silent())\n"
    )

    def digests(folder: Path) -> tuple[str, ...]:
        files = sorted(path for path in folder.iterdir() if path.is_file())
        assert [path.name for path in files][:4] == ["gz.sha256", "gz.tar.gz", "parts.parts.json", "parts.sha256"]
        assert len(files) == 2 + 2 + 2 + 3
        return tuple(map(digest_of, files))

    found = set()
    for number, (umask, zone, locale) in enumerate([("077", "Pacific/Apia", "C"), ("000", "Asia/Kolkata", "tr_TR.UTF-8")]):
        out = tmp_path / f"out{number}"
        out.mkdir()
        surroundings = {"TZ": zone, "LC_ALL": locale, "PYTHONHASHSEED": str(number), "PYTHONPATH": str(Path.cwd())}
        command = f'umask {umask}; cd /; exec "$@"'
        arguments = ["bash", "-c", command, "-", sys.executable, "-c", script, str(tmp_path / f"b{number}"), str(out)]
        subprocess.run(arguments, env=surroundings, check=True)
        found.add(digests(out))
    sample = make_sample(tmp_path / "here", weights=3_000_000)
    assert {second for _, second, *_ in found} == {digest_of(sample.pack(tmp_path / "here.tar.gz"))}
    assert len(found) == 1


def test_source_date(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sample.pack(tmp_path / "a").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    second = sample.pack(tmp_path / "b")
    assert second.read_bytes() != first
    assert verify(second, progress=Silent()).whole
    for wrong in ("", "0", "-1", "tomorrow", "1e9", "99999999999", "²"):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", wrong)
        with pytest.raises(SpecError, match="SOURCE_DATE_EPOCH"):
            sample.pack(tmp_path / "c")


def test_every_missing_blob_is_named_before_anything_is_written(sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "kit.tar.gz"
    for file in sample.models["embedding"].files[:2]:
        sample.path_of(file.sha256).unlink()
    with pytest.raises(DiskError) as caught:
        sample.pack(out)
    assert "models/embedding/1_Pooling/config.json" in str(caught.value)
    assert "models/embedding/empty" in str(caught.value)
    assert not out.exists()


@pytest.mark.parametrize("change", [b"", b"short", b"x" * 5000])
def test_blob_of_another_size(sample: Sample, tmp_path: Path, change: bytes) -> None:
    file = sample.models["chat"].files[1]
    sample.path_of(file.sha256).write_bytes(change)
    with pytest.raises(DigestMismatch, match=r"models/chat/model\.safetensors.* instead of "):
        sample.pack(tmp_path / "kit.tar.gz")
    assert not (tmp_path / "kit.tar.gz").exists()


def test_blob_that_shrinks_while_it_is_packed(sample: Sample, tmp_path: Path) -> None:
    sample.model("large", {"a.bin": os.urandom(8 * BLOB)})
    blob = sample.path_of(sample.models["large"].files[0].sha256)
    entries = sample.entries()
    asked: list[Digest] = []

    def path_of(digest: Digest) -> Path:
        asked.append(digest)
        if asked.count(digest) == 2 and sample.path_of(digest) == blob:  # the first time its size is looked at
            os.truncate(blob, 3 * BLOB)
        return sample.path_of(digest)

    with pytest.raises(DigestMismatch, match="early while it was packed"):
        pack(entries, TOP, path_of, tmp_path / "kit.tar.gz", progress=Silent())
    assert not (tmp_path / "kit.tar.gz").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]


def test_output_that_cannot_be_written(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="No such file or directory"):
        sample.pack(tmp_path / "nowhere" / "kit.tar.gz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(DiskError, match="Is a directory"):
        sample.pack(tmp_path / "folder")


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process may be larger than this, as on FAT, where it would be 4 GiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    yield 1_500_000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_bundle_that_the_file_system_cannot_take(tmp_path: Path, small_files: int) -> None:
    sample = make_sample(tmp_path / "blobs", weights=1_400_000)
    sample.model("large", {"a.bin": os.urandom(1_000_000)})
    (tmp_path / "out").mkdir()
    with pytest.raises(DiskError, match=r"a file of that size \(\d+ bytes\) cannot be made there.*--split"):
        sample.pack(tmp_path / "out/kit.tar.gz")
    assert list((tmp_path / "out").iterdir()) == []
    # the remedy
    pack(sample.entries(), TOP, sample.path_of, tmp_path / "out/kit.tar.gz", split=1 << 20, progress=Silent())
    assert len(list((tmp_path / "out").glob("kit.tar.gz.0*"))) > 1


def test_a_bundle_whose_size_is_not_known_before(tmp_path: Path, small_files: int) -> None:
    """zstd: what is refused while it is written has the same remedy."""
    sample = make_sample(tmp_path / "blobs", weights=1_400_000)
    sample.model("large", {"a.bin": os.urandom(1_000_000)})
    with pytest.raises(DiskError, match="--split"):
        sample.pack(tmp_path / "kit.tar.zst")
    assert [path.name for path in tmp_path.iterdir()] == ["blobs"]


def test_what_an_earlier_run_left_is_replaced(sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "kit-v1.tar.gz"
    out.write_bytes(b"x" * 10_000_000)
    sample.pack(out)
    assert verify(out, progress=Silent()).whole


def test_interrupt_leaves_nothing(tmp_path: Path) -> None:
    """A real Ctrl-C, while a real process is writing: the first blobs flow, then a pipe that never gives anything."""
    script = (
        "import os, sys; from pathlib import Path; from tests.support.bundle_sample import make_sample; "
        "from offline_kit.bundle.write.pack import pack; from offline_kit.common.progress import Silent; "
        "sample = make_sample(Path(sys.argv[1])); entries = sample.entries(); last = entries[-1].digest; "
        "blob = sample.path_of(last); data = blob.read_bytes(); asked = []\n"
        "def path_of(digest):\n"
        "    if digest == last:\n"
        "        asked.append(1)\n"
        "        if len(asked) == 2: blob.unlink(); os.mkfifo(blob); print('now', flush=True)\n"
        "    return sample.path_of(digest)\n"
        "pack(entries, 'kit-v1.0.0', path_of, Path(sys.argv[2]), progress=Silent())\n"
    )
    out = tmp_path / "kit.tar.gz"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    arguments = [sys.executable, "-c", script, str(tmp_path / "blobs"), str(out)]
    with subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"now\n"
        time.sleep(0.2)
        assert out.exists()
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        process.kill()
        process.communicate()
    assert not out.exists()


def test_inspect(sample: Sample, tmp_path: Path) -> None:
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    found = inspect(bundle)
    contents = found.contents
    assert found.scan is None and found.rehearsal is None
    assert (contents.name, contents.version, contents.platform, contents.accelerator) == ("kit", VERSION, "linux/amd64", "cpu")
    assert contents.models["chat"].bytes == sample.models["chat"].size
    assert contents.as_json()["totals"]["files"] == len(sample.entries()) - 1
    head = tmp_path / "head.tar.gz"
    head.write_bytes(bundle.read_bytes()[:8000])
    assert inspect(head) == found


def test_inspect_of_something_else(tmp_path: Path) -> None:
    other = tmp_path / "x.tar.gz"
    with pytest.raises(BundleUnreadable):
        inspect(other)
    with pytest.raises(BundleUnreadable):
        inspect(tmp_path)
    other.write_bytes(b"not gzip at all")
    with pytest.raises(BundleUnreadable):
        inspect(other)
    with pytest.raises(BundleUnreadable, match=r"no bundle\.json"):
        inspect(forge_raw(other, []))
    other.write_bytes(other.read_bytes()[:100])
    with pytest.raises(BundleDamaged):
        inspect(other)
