"""Which file of a model is in which layer of the unified image, and what it is put on."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline_kit.bundle.format.entries import Entry
from offline_kit.bundle.write.build_context import LAYERS, SHARD, base_of, layers_of
from offline_kit.common.digest import Digest
from tests.support.bundle_sample import make_sample


def entries(*sizes: int) -> list[Entry]:
    return [Entry(f"models/m/{at:03}", size, Digest.of(b""), 0o644, None) for at, size in enumerate(sizes)]


def names(layers: list[list[Entry]]) -> list[list[int]]:
    return [[int(entry.path.rpartition("/")[2]) for entry in layer] for layer in layers]


def test_a_shard_is_a_layer_and_small_files_share_one() -> None:
    assert names(layers_of(entries(10, SHARD, 20, 5 * SHARD))) == [[0, 2], [1], [3]]
    assert names(layers_of(entries(SHARD))) == [[0]] and layers_of([]) == []


@pytest.mark.parametrize("number", [LAYERS, LAYERS + 1, 163, 1000])
def test_there_are_never_more_layers_than_docker_allows(number: int) -> None:
    layers = names(layers_of(entries(1, *[SHARD] * number)))
    assert len(layers) == LAYERS + 1 and [at for layer in layers for at in layer] == list(range(number + 1))
    assert max(map(len, layers[1:])) - min(map(len, layers[1:])) <= 1


def test_the_base_is_the_engine_image_by_digest(tmp_path: Path) -> None:
    sample = make_sample(tmp_path)
    image = sample.images["engine"].model_copy(update={"source": "docker://vllm/vllm-openai:v0.33.0"})
    assert base_of(image) == f"docker.io/vllm/vllm-openai@{image.manifest.digest}"
    assert base_of(image.model_copy(update={"source": "docker-daemon://my/engine:1"})) == "my/engine:1"
