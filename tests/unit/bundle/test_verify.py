"""Whatever is done to a bundle, verify finds it, names the file, and never crashes.

One file, for it is a catalogue: each kind of damage stands beside its neighbours, so that one that is missing is seen.
"""

from __future__ import annotations

import gzip
import os
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from offline_kit.bundle.format import member, paths
from offline_kit.bundle.format.report import Report
from offline_kit.bundle.verify.verify import verify
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleUnreadable, KitError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import Files, Sample, files_of, forge, forge_raw, make_sample, put_json, raw_member, seal

WEIGHTS = "models/chat/model.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "blobs", weights=200_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("small")
    return make_sample(folder / "blobs", weights=600).pack(folder / "kit.tar.gz").read_bytes()


@pytest.fixture
def files(sample: Sample) -> Files:
    return files_of(sample)


def check(path: Path, quick: bool = False) -> Report:
    return verify(path, quick=quick, progress=Silent())


def said(report: Report) -> str:
    return "\n".join(str(finding) for finding in report.findings)


def test_whole(sample: Sample, tmp_path: Path) -> None:
    report = check(sample.pack(tmp_path / "kit.tar.gz"))
    assert (report.whole, report.form, report.name, report.version) == (True, "bundle", "kit", "v1.0.0")
    assert (report.findings, report.notes) == ((), ())
    assert report.files == len(sample.entries())
    assert report.bytes == sum(entry.size for entry in sample.entries())
    assert (report.unchecked_files, report.unchecked_bytes) == (0, 0)
    assert report.as_json()["whole"] is True


@pytest.mark.parametrize("again", [gzip.compress, lambda tar: gzip.compress(tar[:999], 1) + gzip.compress(tar[999:], 0)])
def test_compressed_again(sample: Sample, tmp_path: Path, again: Callable[[bytes], bytes]) -> None:
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    tar = gzip.decompress(bundle.read_bytes())
    bundle.write_bytes(again(tar))
    report = check(bundle)
    assert (report.whole, report.form, report.files) == (True, "recompressed", len(sample.entries()))


def test_compressed_again_and_damaged(sample: Sample, tmp_path: Path) -> None:
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    tar = gzip.decompress(bundle.read_bytes())
    place = tar.index(b"# A kit")
    for damaged in (
        tar[:place] + b"X" + tar[place + 1 :],
        tar[:-1024],
        tar + bytes(512),
        tar[:place],
        tar[:-100_000],
        tar[:-1],
    ):
        bundle.write_bytes(gzip.compress(damaged, 1))
        assert not check(bundle).whole
    packed = gzip.compress(tar, 1)
    for broken in (packed + b"x", packed + bytes(8), packed[:-1], packed[:-9], packed[: len(packed) // 2], packed + packed):
        bundle.write_bytes(broken)
        assert not check(bundle).whole, len(broken)
    for position in range(10, len(packed), 2011):
        broken = packed[:position] + bytes([packed[position] ^ 4]) + packed[position + 1 :]
        bundle.write_bytes(broken)
        assert check(bundle).whole == _unpacks_to(broken, tar), position


def _unpacks_to(data: bytes, tar: bytes) -> bool:
    """Whether a flip changed nothing: deflate has bits that only fill up a byte."""
    try:
        return gzip.decompress(data) == tar
    except (OSError, EOFError, zlib.error):
        return False


def test_an_empty_gzip_member_in_front(small: bytes, tmp_path: Path) -> None:
    """It would make the bundle pass as somebody else's compression, whose container is not proven."""
    bundle = tmp_path / "kit.tar.gz"
    for front in (gzip.compress(b""), gzip.compress(b"") * 3):
        bundle.write_bytes(front + small)
        assert "an empty gzip member is glued in" in said(check(bundle))
    packed = gzip.compress(gzip.decompress(small))
    for glued in (packed + gzip.compress(b""), gzip.compress(b"") + packed):
        bundle.write_bytes(glued)
        assert not check(bundle).whole


def test_flips(small: bytes, tmp_path: Path) -> None:
    """One bit flipped: in each byte of the structure around every fifth member and of the end mark, in every 61st other byte.

    All 64,721 positions were tried once by hand: none was accepted.
    """
    bundle = tmp_path / "kit.tar.gz"
    starts = starts_of(small)
    edges = {at + step for at in starts[::5] for step in (*range(29), -8, -7, -6, -5, -4, -3, -2, -1)}
    last = {*range(starts[-1], starts[-1] + 40), *range(len(small) - 16, len(small))}
    dice = random.Random(4)
    for position in sorted((edges | last | {*range(0, len(small), 61)}) & {*range(len(small))}):
        data = bytearray(small)
        data[position] ^= 1 << dice.randrange(8)
        bundle.write_bytes(data)
        assert not whole(bundle), f"a flip at {position} was accepted"


def starts_of(bundle: bytes) -> list[int]:
    """Where the members start."""
    return [at for at in range(len(bundle)) if bundle.startswith(member.MAGIC, at)]


def whole(path: Path) -> bool:
    try:
        return verify(path, jobs=1, progress=Silent()).whole
    except KitError:
        return False


def test_truncations(small: bytes, tmp_path: Path) -> None:
    bundle = tmp_path / "kit.tar.gz"
    for length in {*range(0, len(small), 499), *range(0, 600, 7), *range(len(small) - 1100, len(small), 11)}:
        bundle.write_bytes(small[:length])
        assert not whole(bundle), f"cut at {length} was accepted"


def test_damage_is_named_by_file_and_reading_goes_on(sample: Sample, tmp_path: Path) -> None:
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    data = bytearray(bundle.read_bytes())
    starts = starts_of(bytes(data))
    data[data.index(b"# A kit")] ^= 1  # content
    data[starts[9] + 20] ^= 1  # a member's length
    data[starts[20] + 29 + 3] ^= 1  # a name in a tar header
    data[starts[30] + 10] ^= 1  # a gzip header
    data[data.index(b'{"weight"') + 100_000] ^= 1
    bundle.write_bytes(data)
    found = {finding.where: finding.what for finding in check(bundle).findings}
    names = list(paths.with_folders("kit-v1.0.0", [entry.path for entry in sample.entries()]))
    inner = [name.partition("/")[2] for name in names]
    assert "README.md" in found and WEIGHTS in found
    assert found[inner[9]] == "its gzip header is damaged"
    assert inner[20] in found  # missing under its own name
    assert found[inner[30]] == "its gzip header is damaged"
    assert len(found) <= 7


def test_bytes_between_and_behind(small: bytes, tmp_path: Path) -> None:
    bundle = tmp_path / "kit.tar.gz"
    starts = starts_of(small)
    for at in (*starts[1::5], len(small)):
        for extra in (b"\0", b"x" * 600, gzip.compress(b""), gzip.compress(bytes(512)), raw_member(b"", b"")):
            bundle.write_bytes(small[:at] + extra + small[at:])
            assert not whole(bundle), (at, extra[:10])
    bundle.write_bytes(small + small)
    assert not whole(bundle)


def test_members_swapped_left_out_doubled(small: bytes, tmp_path: Path) -> None:
    bundle = tmp_path / "kit.tar.gz"
    starts = starts_of(small)
    members = [small[a:b] for a, b in zip(starts, [*starts[1:], len(small)], strict=True)]
    for number in range(len(members)):
        without = members[:number] + members[number + 1 :]
        for place in (number, len(members) - 2):
            changed = [without, [*members[:place], members[number], *members[place:]]]
            changed += [[*without[:place], members[number], *without[place:]]] if place != number else []
            for parts in changed:
                bundle.write_bytes(b"".join(parts))
                assert b"".join(parts) == small or not whole(bundle), (number, place)


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (lambda f: f.update({"extra.txt": (b"x", 0o644)}), "extra.txt", "is extra: SHA256SUMS"),
        (lambda f: f.pop("README.md"), "README.md", "is missing"),
        (lambda f: f.update({"README.md": (b"# a kit\n", 0o644)}), "README.md", "is changed"),
        (lambda f: f.update({"readme.md": f.pop("README.md")}), "readme.md", "is extra"),
        (lambda f: f.update({WEIGHTS: (f[WEIGHTS][0], 0o755)}), WEIGHTS, "is executable"),
        (lambda f: f.update({"install.sh": (f["install.sh"][0], 0o644)}), "install.sh", "is not executable"),
        (lambda f: f.pop("SHA256SUMS"), "SHA256SUMS", "is missing"),
        (lambda f: f.pop("lock.json"), "lock.json", "is missing"),
        (lambda f: f.pop("bundle.json"), "bundle.json", "is missing"),
        (lambda f: f.update({WEIGHTS: (f[WEIGHTS][0][:-1], 0o644)}), WEIGHTS, "is changed"),
    ],
)
def test_changed_files(files: Files, tmp_path: Path, change: Callable[[Files], object], where: str, what: str) -> None:
    change(files)
    report = check(forge(tmp_path / "kit.tar.gz", files))
    assert any(finding.where == where and what in finding.what for finding in report.findings), said(report)
    assert len({finding.where for finding in report.findings}) == len(report.findings), said(report)  # one fault, one finding


def a_model_file_more(files: Files) -> None:
    files["models/chat/more.bin"] = (b"x", 0o644)


def a_blob_more(files: Files) -> None:
    files[paths.blob(Digest.of(b"x"))] = (b"x", 0o644)


def a_lock_with_another_digest(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock["models"]["chat"]["files"][0].update(sha256="sha256:" + "0" * 64))


def a_lock_without_a_model(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock["models"].pop("chat"))


def a_lock_of_another_version(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock.update(lock_version=2))


def a_bundle_json_with_another_name(files: Files) -> None:
    put_json(files, "bundle.json", lambda contents: contents.update(name="other"))


def a_bundle_json_with_other_totals(files: Files) -> None:
    put_json(files, "bundle.json", lambda contents: contents["totals"].update(files=1))


def a_bundle_json_of_another_format(files: Files) -> None:
    put_json(files, "bundle.json", lambda contents: contents.update(format=2))


def a_tag_moved(files: Files) -> None:
    put_json(files, "images/manifest.json", lambda images: images[0].update(RepoTags=["evil:1"]))


def a_descriptor_less(files: Files) -> None:
    put_json(files, "images/index.json", lambda index: index["manifests"].pop())


def a_fact_changed(files: Files) -> None:
    files["deploy/kit.env"] = (files["deploy/kit.env"][0].replace(b"ACCELERATOR=cpu", b"ACCELERATOR=nvidia"), 0o644)


def a_changed_configuration(files: Files) -> None:
    files["config/models.json"] = (b'{"models":{}}', 0o644)


def another_diff_id(files: Files) -> None:
    def change(lock: dict[str, dict[str, dict[str, list[dict[str, str]]]]]) -> None:
        lock["images"]["engine"]["layers"][1]["diff_id"] = "sha256:" + "1" * 64

    put_json(files, "lock.json", change)


def a_younger_image(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock["images"]["engine"].update(created="2099-01-01T00:00:00Z"))


def a_variable_of_an_image(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock["images"]["engine"].update(environment={"CUDA_VERSION": "1.0"}))


def a_lock_whose_image_lacks_a_layer(files: Files) -> None:
    put_json(files, "lock.json", lambda lock: lock["images"]["gateway"]["layers"].pop())


def cut_weights_with_a_lock_that_agrees(files: Files) -> None:
    data = files[WEIGHTS][0][:-10]
    files[WEIGHTS] = (data, 0o644)
    locked = {"path": "model.safetensors", "size": len(data), "sha256": str(Digest.of(data))}
    put_json(files, "lock.json", lambda lock: lock["models"]["chat"]["files"].__setitem__(1, locked))


LIES: dict[Callable[[Files], None], str] = {
    a_model_file_more: "models/chat/more.bin: is extra: lock.json",
    a_blob_more: "is extra: lock.json",
    a_lock_with_another_digest: "models/chat/config.json: SHA256SUMS and lock.json disagree",
    a_lock_without_a_model: "models/chat/config.json: is extra: lock.json",
    a_lock_of_another_version: "lock.json: cannot be read as a lock",
    a_bundle_json_with_another_name: "bundle.json says other-v1.0.0",
    a_bundle_json_with_other_totals: "bundle.json: does not agree",
    a_bundle_json_of_another_format: "bundle.json: format",
    a_tag_moved: "images/manifest.json: is not what follows",
    a_descriptor_less: "images/index.json: is not what follows",
    a_fact_changed: "deploy/kit.env: is not what follows",
    a_changed_configuration: "config/models.json: SHA256SUMS and lock.json disagree",
    another_diff_id: "its diff IDs are not the lock's",
    a_younger_image: "its time or its variables are not the lock's",
    a_variable_of_an_image: "its time or its variables are not the lock's",
    a_lock_whose_image_lacks_a_layer: "its layers are not the lock's",
    cut_weights_with_a_lock_that_agrees: f"{WEIGHTS}: not a whole safetensors file: its tensors need",
}


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_lies_that_the_sums_agree_with(files: Files, tmp_path: Path, lie: Callable[[Files], None]) -> None:
    lie(files)
    report = check(forge(tmp_path / "kit.tar.gz", seal(files)))
    assert LIES[lie] in said(report), said(report)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.upper(),
        lambda text: text.replace(b"  ", b" *"),
        lambda text: text.replace(b"  ", b" "),
        lambda text: text[:-1],
        lambda text: text + b"\n",
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text + text.splitlines(keepends=True)[-1],
        lambda text: b"".join(reversed(text.splitlines(keepends=True))),
        lambda text: b"0" * 64 + b"  ../../etc/passwd\n" + text,
        lambda text: b"0" * 64 + b"  .env\n" + text,
        lambda text: text[1:],
        lambda text: b"",
        lambda text: b"\xff" + text,
    ],
)
def test_sums_in_another_form(files: Files, tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    files["SHA256SUMS"] = (change(files["SHA256SUMS"][0]), 0o644)
    assert not check(forge(tmp_path / "kit.tar.gz", files)).whole


@pytest.mark.parametrize(
    "name", ["kit-v1.0.0/../evil", "/etc/evil", "../evil", "other/evil", "kit-v1.0.0/a\nb", "kit-v1.0.0//x", ""]
)
def test_hostile_names(files: Files, tmp_path: Path, name: str) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files)
    evil = raw_member(member.render(member.Header(name, 3, 0o644, 315532800)), b"abc")
    data = bundle.read_bytes()[: -len(member.END)]
    bundle.write_bytes(data + evil + member.END)
    assert len(check(bundle).findings) == 1
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes())))
    assert not check(bundle).whole


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.GNUTYPE_SPARSE])
def test_links_and_devices(files: Files, tmp_path: Path, kind: bytes) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files)
    info = tarfile.TarInfo("kit-v1.0.0/README.md")
    info.type, info.linkname, info.mtime = kind, "/etc/passwd", 315532800
    data = bundle.read_bytes()[: -len(member.END)]
    bundle.write_bytes(data + raw_member(info.tobuf(tarfile.GNU_FORMAT), b"") + member.END)
    report = check(bundle)
    assert [finding.where for finding in report.findings] == ["README.md"], said(report)
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes())))
    assert not check(bundle).whole


@pytest.mark.parametrize("size", [2**33, 2**62, 2**87])
def test_hostile_sizes(files: Files, tmp_path: Path, size: int) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files)
    data = bundle.read_bytes()[: -len(member.END)]
    tar = member.render(member.Header("kit-v1.0.0/huge", size, 0o644, 315532800))
    bundle.write_bytes(data + raw_member(tar, b"") + member.END)
    assert "huge: is cut off" in said(check(bundle))
    bundle.write_bytes(gzip.compress(gzip.decompress(bundle.read_bytes())))
    assert "cut off" in said(check(bundle))


def test_a_long_name_without_end(tmp_path: Path, files: Files) -> None:
    bundle = forge(tmp_path / "kit.tar.gz", files)
    for length in (0, 1, 5000, 2**33 - 1):
        record = tarfile.TarInfo("././@LongLink")
        record.type, record.size = tarfile.GNUTYPE_LONGNAME, length
        data = bundle.read_bytes()[: -len(member.END)]
        broken = tmp_path / "broken.tar.gz"
        broken.write_bytes(data + raw_member(record.tobuf(tarfile.GNU_FORMAT), b"") + member.END)
        assert not check(broken).whole
        broken.write_bytes(gzip.compress(gzip.decompress(broken.read_bytes())))
        assert not check(broken).whole


def test_a_file_that_is_also_a_folder(files: Files, tmp_path: Path) -> None:
    files["scripts"] = (b"x", 0o644)
    assert "scripts: is both a file and a folder" in said(check(forge(tmp_path / "kit.tar.gz", seal(files))))


def test_another_top_folder(files: Files, tmp_path: Path) -> None:
    assert "bundle.json says kit-v1.0.0" in said(check(forge(tmp_path / "kit.tar.gz", files, top="kit-v2")))


def test_members_full_of_magic_do_not_take_for_ever(tmp_path: Path) -> None:
    bundle = tmp_path / "kit.tar.gz"
    bundle.write_bytes(member.MAGIC * 200_000)
    report = check(bundle)
    assert "too much is damaged" in said(report)
    assert len(report.findings) < 2000


def test_quick_says_what_it_did_not_check(sample: Sample, tmp_path: Path) -> None:
    sample = make_sample(tmp_path / "blobs", weights=3 << 20)
    bundle = sample.pack(tmp_path / "kit.tar.gz")
    report = check(bundle, quick=True)
    assert (report.whole, report.unchecked_files) == (True, 1)
    assert report.unchecked_bytes == sample.models["chat"].files[1].size
    data = bytearray(bundle.read_bytes())
    data[data.index(b'{"weight"') + (2 << 20)] ^= 1
    bundle.write_bytes(data)
    assert check(bundle, quick=True).whole
    assert not check(bundle).whole
    data[data.index(b'{"weight"')] ^= 1
    bundle.write_bytes(data)
    assert "not a whole safetensors file: its header cannot be read" in said(check(bundle, quick=True))


@pytest.mark.parametrize("data", [b"", b"\x1f", b"PK\x03\x04", b"x" * 5000, bytes(1024)])
def test_what_is_no_bundle(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleUnreadable):
        check(tmp_path / "nothing.tar.gz")
    other = tmp_path / "other"
    other.write_bytes(data)
    with pytest.raises(BundleUnreadable):
        check(other)
    with pytest.raises(BundleUnreadable, match="not a kit"):
        check(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BundleUnreadable):
        check(tmp_path / "pipe")


def test_an_empty_bundle_is_not_whole(tmp_path: Path) -> None:
    assert not check(forge_raw(tmp_path / "kit.tar.gz", [])).whole
    (tmp_path / "x.gz").write_bytes(gzip.compress(b""))
    assert not check(tmp_path / "x.gz").whole
