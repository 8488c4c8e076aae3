"""The commands around a bundle as a user types them: split, join, verify of parts, diff, unpack; sizes as people write them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.pack import pack
from offline_kit.cli.main import cli
from offline_kit.cli.shared.size_options import parse_size
from offline_kit.common.errors import BundleDamaged, KitError, SpecError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import Sample, make_sample, safetensors

NAME = "kit-v1.0.0.tar.gz"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return make_sample(tmp_path_factory.mktemp("sample") / "blobs", weights=3_500_000)


@pytest.fixture
def bundle(sample: Sample, tmp_path: Path) -> Path:
    return sample.pack(tmp_path / NAME)


def said(*arguments: str | Path) -> str:
    """What the command prints; errors of the kit are raised as ``main`` would catch them."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], standalone_mode=False, obj={})
    if result.exception:
        raise result.exception
    return result.output


def test_split_verify_join(bundle: Path, tmp_path: Path) -> None:
    listed = Path(said("split", bundle, "--size", "1MiB", "-o", tmp_path / "a", "-q").strip())
    assert listed == tmp_path / "a/kit-v1.0.0.parts.json"
    parts = sorted((tmp_path / "a").glob("*.tar.gz.*"))
    assert "in 4 parts" in said("verify", "-q", *parts)
    assert json.loads(said("verify", "-q", "--json", listed))["parts"] == 4
    joined = Path(said("join", parts[0], "-o", tmp_path / "b", "-q").strip())
    assert joined.read_bytes() == bundle.read_bytes()
    parts[2].unlink()
    with pytest.raises(BundleDamaged, match=r"1 finding\(s\)"):
        said("verify", "-q", listed)


def test_unpack(bundle: Path, tmp_path: Path) -> None:
    assert str(tmp_path / "x/kit-v1.0.0") in said("unpack", "-q", bundle, tmp_path / "x")
    assert verify(tmp_path / "x/kit-v1.0.0", progress=Silent()).whole
    with pytest.raises(KitError, match="is there already"):
        said("unpack", "-q", bundle, tmp_path / "x")


def test_diff(sample: Sample, bundle: Path, tmp_path: Path) -> None:
    assert "  the same\n" in said("diff", bundle, bundle)
    later = make_sample(tmp_path / "blobs", weights=3_500_000)
    later.texts["config/models.json"] = b"{}\n"
    later.texts["scripts/new.sh"] = b"#!/bin/bash\n"
    later.model("chat", {"config.json": b"{}\n", "model.safetensors": safetensors(5000, seed=9)})
    later.model("rerank", {"weights.bin": b"0123456789"})
    del later.models["embedding"]
    later.image("engine", "test/engine:v2", {"etc/base": b"shared by both\n"}, {"engine": b"#!another\n"})
    later.pack(tmp_path / "kit-v2.0.0.tar.gz", "v2.0.0")
    text = said("diff", bundle, tmp_path / "kit-v2.0.0.tar.gz")
    for line in (
        "kit-v1.0.0 -> kit-v2.0.0",
        "  changed  image engine  test/engine:v1 ",
        "  changed  model chat  hf://test/chat 000000000000 -> hf://test/chat 000000000000",
        "  changed  file models/chat/model.safetensors  5.0 KiB",
        "  removed  model embedding",
        "  added    model rerank  - -> hf://test/rerank 000000000000  10 B",
        "  changed  file config/models.json",
        "  added    file scripts/new.sh",
        "  a delta carries ",
    ):
        assert line in text, text
    # A lock and a kit's folder will do; of a lock alone, only images, models and configuration are known.
    (tmp_path / "old.lock.json").write_text(sample.lock().text())
    subprocess.run(["tar", "-xzf", bundle], cwd=tmp_path, check=True)
    assert "  the same\n" in said("diff", tmp_path / "old.lock.json", tmp_path / "kit-v1.0.0")
    answer = json.loads(said("diff", "--json", tmp_path / "old.lock.json", tmp_path / "kit-v2.0.0.tar.gz"))
    assert (answer["a"], answer["b"], answer["same"]) == ("kit (a lock)", "kit-v2.0.0", False)
    assert "config/models.json" in [change["name"] for change in answer["changes"]]
    (tmp_path / "not.lock.json").write_text("{}")
    with pytest.raises(SpecError):
        said("diff", tmp_path / "not.lock.json", bundle)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), ("4G", 4 << 30), ("4GB", 4 * 10**9), ("700MB", 700 * 10**6), ("64k", 64000), ("64K", 65536),
     ("4gib", 4 << 30), (" 1 TiB ", 1 << 40)],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert parse_size(click.Context(cli), cli.params[0], text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1.5G", "4XB", "4GiBs", "1" * 30, "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_size(click.Context(cli), cli.params[0], text)


def test_zstd_is_the_same_on_any_number_of_threads(sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for cores in ({0}, {0, 1}, {0, 1, 2, 3, 4, 5, 6}):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, cores=cores: cores)
        out = tmp_path / f"{len(cores)}.tar.zst"
        pack(sample.entries(), "kit-v1.0.0", sample.path_of, out, progress=Silent())
        found.add(out.read_bytes())
    assert len(found) == 1
    data = found.pop()
    subprocess.run(["tar", "--zstd", "-xf", tmp_path / "1.tar.zst"], cwd=tmp_path, check=True)
    assert verify(tmp_path / "kit-v1.0.0", progress=Silent()).whole
    out = tmp_path / "kit.tar.zst"
    for broken in (
        data[:-1],
        data[:-4],
        data[:-5],
        data[: len(data) // 2],
        data + b"x",
        data + data,
        data[:-1] + b"x",
        data[:20],
        data[4:],
    ):
        out.write_bytes(broken)
        try:
            assert not verify(out, progress=Silent()).whole, len(broken)
        except KitError as error:
            assert error.exit_code == 21
