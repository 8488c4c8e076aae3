"""A bundle in parts: written, found, checked, split and joined; every bad part is named."""

from __future__ import annotations

import json
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from offline_kit.bundle import unpack
from offline_kit.bundle.extract import extract
from offline_kit.bundle.format import parts as volumes
from offline_kit.bundle.format.report import Report
from offline_kit.bundle.read.inspect import read_head
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.split_join import join, split
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write import staging as stages
from offline_kit.bundle.write.pack import pack
from offline_kit.bundle.write.staging import stage
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError, KitError, SpecError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import Sample, make_sample

NAME = "kit-v1.0.0.tar.gz"
PARTS = [f"{NAME}.00{number}" for number in (1, 2, 3, 4)]
SIZE = 1 << 20


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "blobs", weights=3_500_000)


@pytest.fixture
def parts(sample: Sample, tmp_path: Path) -> Path:
    """A folder with the sample in four parts."""
    folder = tmp_path / "parts"
    folder.mkdir()
    pack(sample.entries(), "kit-v1.0.0", sample.path_of, folder / NAME, split=SIZE, progress=Silent())
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def check(path: Path, *more: Path, quick: bool = False) -> Report:
    return verify(path, more=more, quick=quick, progress=Silent())


def said(report: Report) -> str:
    return "\n".join(str(finding) for finding in report.findings)


def test_parts_are_the_bundle_cut(parts: Path, sample: Sample, tmp_path: Path) -> None:
    whole = sample.pack(tmp_path / NAME)
    assert names(parts) == ["kit-v1.0.0.parts.json", "kit-v1.0.0.sha256", *PARTS]
    for folder in (parts, tmp_path):
        subprocess.run(["sha256sum", "--check", "--strict", "kit-v1.0.0.sha256"], cwd=folder, check=True)
    assert b"".join((parts / part).read_bytes() for part in PARTS) == whole.read_bytes()
    listed = json.loads((parts / "kit-v1.0.0.parts.json").read_text())
    assert (listed["name"], listed["size"]) == (NAME, whole.stat().st_size)
    assert listed["sha256"] == str(Digest.of_file(whole))
    assert [part["sha256"] for part in listed["parts"]] == [str(Digest.of_file(parts / part)) for part in PARTS]
    assert [part["size"] for part in listed["parts"]] == [SIZE] * 3 + [whole.stat().st_size - 3 * SIZE]


def test_cat_and_tar(parts: Path) -> None:
    subprocess.run("cat kit-v1.0.0.tar.gz.00? | tar -xzf -", shell=True, cwd=parts, check=True)
    assert check(parts / "kit-v1.0.0").whole


@pytest.mark.parametrize("name", ["kit-v1.0.0.parts.json", PARTS[0], PARTS[2]])
def test_any_part_leads_to_all(parts: Path, sample: Sample, name: str, tmp_path: Path) -> None:
    report = check(parts / name, *(parts / part for part in PARTS))
    assert (report.whole, report.parts, report.files) == (True, 4, len(sample.entries())), said(report)
    assert check(parts / name, quick=True).whole
    assert read_head(parts / name).lock == sample.lock()
    (parts / "kit-v1.0.0.parts.json").unlink(missing_ok=True)
    assert check(parts / PARTS[0]).whole, "without a .parts.json the numbers and the end mark tell"


def test_every_bad_part_is_named(parts: Path) -> None:
    listed = parts / "kit-v1.0.0.parts.json"
    data = {part: (parts / part).read_bytes() for part in PARTS}
    for part in PARTS:
        (parts / part).write_bytes(data[part][:5000] + bytes([data[part][5000] ^ 1]) + data[part][5001:])
        report = check(listed)
        assert f"{part}: is changed: " in said(report)
        assert len([f for f in report.findings if ".tar.gz.0" in f.where]) == 1
        (parts / part).write_bytes(data[part][:-1])
        assert f"{part}: has " in said(check(listed))
        (parts / part).unlink()
        assert f"{part}: is missing" in said(check(listed))
        with pytest.raises(BundleDamaged, match=part):
            join(listed, parts / "out", progress=Silent())
        with pytest.raises(BundleDamaged, match=part):
            extract(listed, parts / "out", progress=Silent())
        (parts / part).write_bytes(data[part])
    (parts / f"{NAME}.005").write_bytes(b"x")
    assert f"{NAME}.005: is extra" in said(check(listed))
    for part in (PARTS[1], PARTS[3]):
        (parts / part).unlink()
    assert said(check(listed)).count("is missing") == 2
    assert not (parts / "out").exists() or not names(parts / "out")


def test_parts_without_a_list(parts: Path) -> None:
    (parts / "kit-v1.0.0.parts.json").unlink()
    (parts / PARTS[1]).rename(parts / "away")
    assert f"{PARTS[1]}: is missing" in said(check(parts / PARTS[0]))
    (parts / "away").rename(parts / PARTS[1])
    (parts / PARTS[3]).unlink()
    assert "cut off" in said(check(parts / PARTS[0]))
    for part in PARTS[:3]:
        (parts / part).unlink()
    with pytest.raises(BundleUnreadable):
        check(parts / PARTS[0])


def test_swapped_parts(parts: Path) -> None:
    (parts / PARTS[1]).rename(parts / "x")
    (parts / PARTS[2]).rename(parts / PARTS[1])
    (parts / "x").rename(parts / PARTS[2])
    text = said(check(parts / PARTS[0]))
    assert f"{PARTS[1]}: is changed" in text and f"{PARTS[2]}: is changed" in text


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(name="other.tar.gz"),
        lambda document: document.update(size=document["size"] + 1),
        lambda document: document.update(parts=[]),
        lambda document: document["parts"].reverse(),
        lambda document: document["parts"][0].update(name="../x"),
        lambda document: document["parts"][0].update(name=f"{NAME}.1"),
        lambda document: document["parts"].pop(),
        lambda document: document.update(parts_format=2),
        lambda document: document.update(sha256="sha256:" + "0" * 64),
        lambda document: document["parts"][1].update(sha256="sha256:" + "0" * 64),
    ],
)
def test_a_list_that_lies(parts: Path, change: object) -> None:
    listed = parts / "kit-v1.0.0.parts.json"
    document = json.loads(listed.read_text())
    change(document)  # type: ignore[operator]
    listed.write_text(json.dumps(document))
    try:
        assert not check(listed).whole
    except KitError as error:
        assert error.exit_code == 20


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"parts": ' + b"[" * 5000])
def test_a_list_that_is_none(parts: Path, text: bytes) -> None:
    (parts / "kit-v1.0.0.parts.json").write_bytes(text)
    with pytest.raises(BundleDamaged):
        check(parts / "kit-v1.0.0.parts.json")


def test_the_list_of_another_bundle_leads_nowhere(parts: Path, sample: Sample, tmp_path: Path) -> None:
    """Another bundle's parts beside this one's, and its list under this one's name: nobody takes the one for the other."""
    other = "kit-v2.0.0.tar.gz"
    pack(sample.entries(), "kit-v2.0.0", sample.path_of, parts / other, split=SIZE, progress=Silent())
    (parts / "kit-v2.0.0.parts.json").rename(parts / "kit-v1.0.0.parts.json")
    assert "it was renamed" in said(check(parts / PARTS[0]))
    with pytest.raises(BundleDamaged, match="it was renamed"):
        extract(parts / PARTS[0], tmp_path / "here", progress=Silent())
    with pytest.raises(unpack.Refused, match="it was renamed"):
        unpack.files_of(parts / PARTS[0])


def test_a_list_without_any_of_its_parts(parts: Path) -> None:
    listed = parts / "kit-v1.0.0.parts.json"
    for name in PARTS:
        (parts / name).unlink()
    with pytest.raises(BundleUnreadable, match="none of its parts is there"):
        read_head(listed)
    assert said(check(listed)).count("is missing") == len(PARTS)


def test_parts_of_two_bundles(parts: Path, tmp_path: Path) -> None:
    other = tmp_path / "other-v1.tar.gz.001"
    other.write_bytes(b"x")
    with pytest.raises(BundleUnreadable, match="is no part of the bundle"):
        check(parts / PARTS[0], other)


def test_split_and_join(sample: Sample, tmp_path: Path) -> None:
    whole = sample.pack(tmp_path / NAME)
    before = whole.read_bytes()
    listed, report = split(whole, SIZE, tmp_path / "a", progress=Silent())
    assert (report.whole, report.parts, whole.read_bytes() == before) == (True, 4, True)
    joined, report = join(tmp_path / "a" / PARTS[3], tmp_path / "b", progress=Silent())
    assert (joined, joined.read_bytes() == before) == (tmp_path / "b" / NAME, True)
    assert names(tmp_path / "a") == ["kit-v1.0.0.parts.json", "kit-v1.0.0.sha256", *PARTS, "unpack.py"]
    # Fewer parts than before: those that would be glued to them by 'cat' go, after the new ones are proven.
    split(whole, 2 * SIZE, tmp_path / "a", progress=Silent())
    subprocess.run(["sha256sum", "--check", "--strict", "kit-v1.0.0.sha256"], cwd=tmp_path / "a", check=True)
    assert names(tmp_path / "a") == ["kit-v1.0.0.parts.json", "kit-v1.0.0.sha256", *PARTS[:2], "unpack.py"]
    assert check(listed).whole
    with pytest.raises(BundleUnreadable, match="in parts already"):
        split(listed, SIZE, tmp_path / "c", progress=Silent())
    with pytest.raises(BundleUnreadable, match="is not in parts"):
        join(whole, tmp_path / "c", progress=Silent())


def test_a_damaged_bundle_is_not_split(sample: Sample, tmp_path: Path) -> None:
    whole = sample.pack(tmp_path / NAME)
    data = bytearray(whole.read_bytes())
    data[-9] ^= 1
    whole.write_bytes(data)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / PARTS[0]).write_bytes(b"what was there")
    with pytest.raises(BundleDamaged):
        split(whole, SIZE, tmp_path / "a", progress=Silent())
    assert names(tmp_path / "a") == [PARTS[0]]
    with pytest.raises(BundleUnreadable):
        split(tmp_path / "none.tar.gz", SIZE, tmp_path, progress=Silent())


def test_sizes_that_cannot_be(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="at least"):
        pack(sample.entries(), "kit-v1.0.0", sample.path_of, tmp_path / NAME, split=SIZE - 1, progress=Silent())
    with pytest.raises(SpecError, match="at most 9999 parts"):
        volumes.digits_for(10_000 * SIZE, SIZE)
    assert volumes.digits_for(999 * SIZE, SIZE) == 3
    assert volumes.digits_for(999 * SIZE + 1, SIZE) == 4
    assert names(tmp_path) == []


def test_a_span_reads_across_its_files(tmp_path: Path) -> None:
    data = os.urandom(1000)
    cuts = [0, 1, 1, 333, 999, 1000, 1000]
    files = []
    for number, (start, end) in enumerate(pairwise(cuts)):
        files.append(tmp_path / str(number))
        files[-1].write_bytes(data[start:end])
    with MultiFile(files) as span:
        for offset in (0, 1, 332, 333, 998, 999, 1000, 5000):
            assert span.pread(700, offset) == data[offset : offset + 700]
        assert span.stream().read() == data
        whole, each = span.digests(lambda count: None)
        assert whole == Digest.of(data)
        assert each == [Digest.of_file(file) for file in files]


def test_one_builder_at_a_time(tmp_path: Path) -> None:
    final = tmp_path / NAME
    with stage(final) as folder:
        (folder / NAME).write_bytes(b"x")
        with pytest.raises(DiskError, match="another process"), stage(final):
            pass
        assert (folder / NAME).exists(), "the second one must not clear the first one's folder"
        with stage(tmp_path / "other.tar.gz"):
            pass
    assert names(tmp_path) == []
    folder.mkdir()
    (folder / "left by a run that was killed").write_bytes(b"x")
    (folder / "and a folder").mkdir()
    with stage(final) as folder:
        assert names(folder) == [stages._LOCK]
    with pytest.raises(DiskError), stage(tmp_path / "nowhere" / NAME):
        pass


@pytest.mark.parametrize("suffix", ["00000", "0", "", "00a", "-1", "sig"])
@pytest.mark.parametrize("listed", [True, False], ids=["by list", "by names"])
def test_what_a_glob_takes_and_the_list_does_not_name_is_found_by_every_reader(
    parts: Path, suffix: str, listed: bool, tmp_path: Path
) -> None:
    (parts / f"{NAME}.{suffix}").write_bytes(b"somebody else's")
    if not listed:
        (parts / "kit-v1.0.0.parts.json").unlink()
    first = parts / ("kit-v1.0.0.parts.json" if listed else PARTS[0])
    assert f"{NAME}.{suffix}: is extra" in said(check(first))
    with pytest.raises(BundleDamaged, match="is extra"):
        join(first, tmp_path / "joined", progress=Silent())
    with pytest.raises(BundleDamaged, match="is extra"):
        extract(first, tmp_path, progress=Silent())
    with pytest.raises(unpack.Refused, match="is extra"):
        unpack.files_of(first)


def test_a_stage_that_is_a_link_is_left_alone(sample: Sample, tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "file").write_text("precious")
    (tmp_path / f".{NAME}.partial").symlink_to(others)
    with pytest.raises(DiskError, match="not a folder of this user's"), stage(tmp_path / NAME):
        pass
    assert (others / "file").read_text() == "precious"
    assert names(others) == ["file"]
