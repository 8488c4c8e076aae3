"""Which files of a model come along."""

from __future__ import annotations

from typing import Any

import pytest

from offline_kit.common.errors import SpecError
from offline_kit.intake.models.select_files import choose
from offline_kit.intake.sources.hubs import hub_common
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


def test_what_is_excluded_is_not_looked_at() -> None:
    spec = ModelSpec(source="hf://o/m", exclude=("~*", "logs"))
    assert hub_common.choose(["model.safetensors", "~$notes.docx", "logs/a\\b"], spec, "o/m") == ["model.safetensors"]
    with pytest.raises(SpecError, match=r"notes\.docx.*leave the file out with 'exclude'"):
        hub_common.choose(["model.safetensors", "~$notes.docx"], ModelSpec(source="hf://o/m"), "o/m")


def test_the_same_weights_in_two_forms_are_carried_once() -> None:
    both = ["config.json", "params.json", "consolidated.safetensors", "consolidated.safetensors.index.json", "tekken.json"]
    usual = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]
    kept = ["config.json", *usual, "params.json", "tekken.json"]
    assert chosen(both + usual) == kept
    assert chosen([*both, "model.safetensors"]) == ["config.json", "model.safetensors", "params.json", "tekken.json"]
    assert chosen(both) == sorted(both), "the only form"
    assert "consolidated.safetensors" in chosen(both + usual, exclude=["model*"])
    assert "consolidated.safetensors" in chosen(both + usual, include=["consolidated*", "*.json", "model*"])
    assert "consolidated.safetensors" in chosen(both + usual, sha256={"consolidated.safetensors": "0" * 64})
    assert chosen(["model.safetensors", "consolidated.safetensors"]) == ["consolidated.safetensors", "model.safetensors"]
    below = [*usual, "config.json", "vision/consolidated.safetensors"]
    assert chosen(below) == sorted(below), "a part of its own"


def test_one_file_beside_the_shards_of_an_index_and_variants_are_left_out() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    whole = ["config.json", *shards, "model.safetensors.index.json"]
    assert chosen([*whole, "model.safetensors"]) == whole
    assert "model.safetensors" in chosen([*whole, "model.safetensors"], include=["model*", "config.json"])
    assert "model.safetensors" in chosen(["config.json", *shards, "model.safetensors"]), "without an index: both are loaded"
    assert chosen(["model.safetensors", "model.fp16.safetensors"]) == ["model.safetensors"]
    assert chosen(["model.fp16.safetensors"]) == ["model.fp16.safetensors"], "the only form"
    assert len(chosen(["model.safetensors", "2_Dense/model.safetensors", "2_Dense/model.fp16.safetensors"])) == 3
