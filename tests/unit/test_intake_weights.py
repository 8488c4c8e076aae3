"""Which files of a model come along."""

from __future__ import annotations

from typing import Any

import pytest

from offline_kit.errors import SpecError
from offline_kit.intake.weights import choose
from offline_kit.spec.manifest import ModelSpec

BGE = [
    "1_Pooling/config.json",
    "config.json",
    "pytorch_model.bin",
    "sparse_linear.pt",
    "onnx/model.onnx",
    "imgs/a.jpg",
    ".gitattributes",
]


def chosen(paths: list[str], **fields: Any) -> list[str]:
    return choose(paths, ModelSpec(source="hf://o/m", **fields), "o/m")


def test_pickles_beside_safetensors_stay_behind() -> None:
    paths = ["model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", "training_args.bin", "optimizer.pt"]
    extra = ["README.md", "LICENSE", ".gitattributes", "original/consolidated.00.pth", "tf_model.h5", "flax_model.msgpack"]
    assert chosen(paths + extra) == ["LICENSE", "README.md", "model.safetensors"]
    assert "pytorch_model.bin" in chosen(paths, allow_pickle=True)


def test_pickles_alone_are_refused_by_name() -> None:
    with pytest.raises(SpecError, match=r"pytorch_model\.bin, sparse_linear\.pt -> say 'allow_pickle: true'"):
        chosen(BGE)
    with pytest.raises(SpecError, match=r"2_Dense/pytorch_model\.bin"):
        chosen(["model.safetensors", "2_Dense/pytorch_model.bin"])
    kept = chosen(BGE, allow_pickle=True, exclude=["onnx/*", "imgs/"])
    assert kept == ["1_Pooling/config.json", "config.json", "pytorch_model.bin", "sparse_linear.pt"]


def test_patterns_cover_whole_paths_and_folders() -> None:
    paths = ["a/b/c.json", "a/model.safetensors", "model.safetensors", "x.json"]
    assert chosen(paths, include=["a"]) == ["a/b/c.json", "a/model.safetensors"]
    assert chosen(paths, exclude=["*.json"]) == ["a/model.safetensors", "model.safetensors"]
    with pytest.raises(SpecError, match="include: no file matches 'nothing'"):
        chosen(paths, include=["nothing", "x.json"])
    with pytest.raises(SpecError, match="no file is left"):
        chosen(paths, exclude=["*"])


def test_a_demand_must_name_a_file() -> None:
    with pytest.raises(SpecError, match=r"'modell\.safetensors'.* -> did you mean 'model\.safetensors'\?"):
        chosen(["model.safetensors"], sha256={"modell.safetensors": "0" * 64})
