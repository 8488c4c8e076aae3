"""Weights that are whole, and every way in which they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, KitError, NotFound
from offline_kit.intake.models.check_weights import check_model, tensors
from offline_kit.spec.lock import LockedFile
from tests.support.intake_samples import safetensors, write

WHOLE = safetensors({"a": b"x" * 100, "empty": b"", "b": b"y" * 28})


def found(path: Path, data: bytes) -> set[str]:
    path.write_bytes(data)
    return tensors(path, len(data), "model.safetensors")


def test_a_whole_file(tmp_path: Path) -> None:
    assert found(tmp_path / "f", WHOLE) == {"a", "b", "empty"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"12345",
        WHOLE[:-1],
        WHOLE + b"z",
        WHOLE[:40],
        b"\xff" * 200,
        (2).to_bytes(8, "little") + b"[]" + b"x",
        (4).to_bytes(8, "little") + b'{"a"' + b"x",
        WHOLE.replace(b'"shape": [100]', b'"shape": [101]'),
        WHOLE.replace(b"[100, 128]", b"[101, 129]"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DigestMismatch, match=r"model\.safetensors: not a whole safetensors file"):
        found(tmp_path / "f", data)


def check(folder: Path) -> None:
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [
        LockedFile(path=str(path.relative_to(folder)), size=path.stat().st_size, sha256=Digest.of_file(path)) for path in paths
    ]
    check_model(files, lambda file: folder / file.path, "chat")


def index(**weights: str) -> bytes:
    return json.dumps({"weight_map": weights}).encode()


def test_shards_and_index(tmp_path: Path) -> None:
    name = "model.safetensors.index.json"
    shards = {"m-1.safetensors": safetensors({"a": b"1"}), "m-2.safetensors": safetensors({"b": b"2"})}
    check(write(tmp_path / "good", {**shards, name: index(a="m-1.safetensors", b="m-2.safetensors")}))
    below = {f"sub/{path}": data for path, data in shards.items()}
    check(write(tmp_path / "below", {**below, f"sub/{name}": index(a="m-1.safetensors", b="m-2.safetensors")}))
    broken: list[tuple[dict[str, bytes], type[KitError], str]] = [
        ({**shards, name: index(a="m-1.safetensors", c="m-3.safetensors")}, NotFound, r"not there: m-3\.safetensors"),
        ({**shards, name: index(a="m-1.safetensors", b="m-1.safetensors")}, DigestMismatch, r"m-1\.safetensors holds b"),
        ({**shards, name: b"[]"}, DigestMismatch, "not an index"),
        ({**shards, "m-2.safetensors": shards["m-2.safetensors"][:-1]}, DigestMismatch, r"chat: m-2\.safetensors"),
    ]
    for number, (files, kind, text) in enumerate(broken):
        with pytest.raises(kind, match=text):
            check(write(tmp_path / str(number), files))
