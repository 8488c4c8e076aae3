"""Real architectures: weights to the byte against what is published, and which layers cache what."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from offline_kit.runtime.gpu_plan import architecture, kv_cache, tensor_table
from offline_kit.runtime.gpu_plan.weight_memory import Loading, weights
from tests.data.architectures import make
from tests.support import plan_in_engine
from tests.support.plan_samples import FIXTURES, FOLDER, facts, record


def _bytes(published: dict[str, int], packed: bool) -> int:
    """The published counts in bytes. Of MXFP4 a page counts two values a byte in the blocks, and one in the scales: 32 to 1."""
    if packed:
        return 2 * published["BF16"] + published["U8"] * 17 // 33
    return sum(count * make.BYTES[dtype] for dtype, count in published.items())


def test_there_are_enough_of_them() -> None:
    assert len(FIXTURES) >= 25
    kinds = {facts(name).arch.model_type for name in FIXTURES}
    wanted = {
        "llama",
        "qwen2",
        "qwen3_moe",
        "mixtral",
        "gemma2",
        "gemma3_text",
        "deepseek_v3",
        "gpt_oss",
        "jamba",
        "mamba",
        "bert",
    }
    assert wanted <= kinds


@pytest.mark.parametrize("name", FIXTURES)
def test_the_bytes_are_the_published_ones(name: str) -> None:
    recorded = record(name)
    assert tensor_table.total(recorded["tensors"]) == _bytes(recorded["published"], "gpt-oss" in name)


@pytest.mark.parametrize("name", FIXTURES)
def test_an_engine_holds_what_is_published_less_what_it_does_not_load(name: str) -> None:
    known = facts(name)
    own = {"F32": 4, "F16": 2}.get(max(record(name)["published"], key=lambda kind: record(name)["published"][kind]), 2)
    planned = weights(known.tensors, known.arch, Loading(dtype_bytes=own)).rank
    stored = tensor_table.total(known.tensors)
    left = {  # what is in the file and not loaded, or padded
        "Qwen3-0.6B": -151936 * 1024 * 2,  # the tied output matrix, once more
        "falcon-7b": -65024 * 4544 * 2,  # the tied output matrix, once more
        "gpt2": -12 * 1024 * 1024 * 4 + (50304 - 50257) * 768 * 4,  # masks; rows up to a multiple of 64
        "DeepSeek-V3": None,  # the layer for speculation
        "gpt-oss-20b": None, "gpt-oss-120b": None,  # experts padded for the kernels
        "all-MiniLM-L6-v2": -512 * 8 + (30528 - 30522) * 384 * 4, "bge-large-en-v1.5": -512 * 8 + (30528 - 30522) * 1024 * 4,
        "bge-reranker-v2-m3": (250048 - 250002) * 1024 * 4,
        "mamba-130m-hf": (50304 - 50280) * 768 * 4,
        "Jamba-v0.1": 28 * 8192 * 16 * 2,  # the state matrix is float32 in vLLM
    }.get(name, 0)  # fmt: skip
    if left is None:
        assert 0.97 * stored < planned < 1.1 * stored
    else:
        assert planned == stored + left


def test_the_layer_for_speculation_counts_when_it_is_asked_for() -> None:
    known = facts("DeepSeek-V3")
    without, both = (
        weights(known.tensors, known.arch, Loading(dtype_bytes=2, speculative=flag)).rank for flag in (False, True)
    )
    assert both == tensor_table.total(known.tensors) and both - without > 11 * 10**9


@pytest.mark.parametrize("name", FIXTURES)
@pytest.mark.parametrize("tp", [2, 4, 8])
def test_ranks_hold_together_at_least_the_whole(name: str, tp: int) -> None:
    known = facts(name)
    if known.arch.heads % tp or (known.arch.kv_heads % tp and tp % known.arch.kv_heads):
        return  # vLLM refuses that
    one = weights(known.tensors, known.arch, Loading(dtype_bytes=2)).rank
    each = weights(known.tensors, known.arch, Loading(dtype_bytes=2, tp=tp)).rank
    assert one / tp <= each + tp and each < one
    stages = weights(known.tensors, known.arch, Loading(dtype_bytes=2, pp=2)).ranks
    tied = known.arch.vocab * known.arch.hidden * 2 + 64 * known.arch.hidden * 2 if known.arch.tied else 0
    assert one <= sum(stages) <= one + tied + 2


@pytest.mark.parametrize("name", FIXTURES)
def test_the_kv_cache_is_the_one_that_vllm_computes(name: str) -> None:
    """Against the record of vLLM's own classes (tests/integration/plan/test_engine.py holds it against vLLM)."""
    theirs = json.loads((FOLDER.parent / "vllm-0.32.0-kv.json").read_text())[name]
    assert len(theirs) == 6
    for setting, their in theirs.items():
        tp, kv = setting.split("/")
        in_flight = plan_in_engine.BATCHED * plan_in_engine.CONCURRENT
        options = kv_cache.Options(tp=int(tp), kv_bytes=1 if kv == "fp8" else 2, in_flight=in_flight)
        pool = kv_cache.pool(facts(name).arch, options)
        ours: dict[str, Any] = {"groups": len(pool.groups), "per_token": kv_cache.per_token(facts(name).arch, options)}
        if pool.groups:
            blocks, lengths = pool.blocks([plan_in_engine.MEMORY]), plan_in_engine.LENGTHS
            ours["blocks"] = blocks
            ours["needed"] = {str(length): pool.needed(length) - pool.block_bytes[0] for length in lengths}
            ours["at_once"] = {str(length): blocks / pool.blocks_for(length) for length in lengths}
        assert ours == {key: their[key] for key in ours}, setting


def test_qwen2_5_32b() -> None:
    known = facts("Qwen2.5-32B-Instruct")
    assert sum(math.prod(row["shape"]) * row["count"] for row in known.tensors) == 32_763_876_352
    assert f"{weights(known.tensors, known.arch, Loading(dtype_bytes=2, tp=2)).rank / 2**30:.2f}" == "30.51"
    assert kv_cache.per_token(known.arch, kv_cache.Options()) == 256 * 1024
    assert kv_cache.per_token(known.arch, kv_cache.Options(tp=2)) == 128 * 1024


def test_few_kv_heads_are_replicated() -> None:
    known = facts("Qwen2.5-7B-Instruct").arch  # 4 KV heads
    sizes = [kv_cache.per_token(known, kv_cache.Options(tp=tp)) for tp in (1, 2, 4, 8)]
    assert sizes == [57344, 28672, 14336, 14336]
    latent = facts("DeepSeek-V3").arch
    assert {kv_cache.per_token(latent, kv_cache.Options(tp=tp)) for tp in (1, 8)} == {61 * 576 * 2}


def _kinds(name: str) -> dict[str, int]:
    layers = facts(name).arch.layers
    found: dict[str, int] = {}
    for layer in layers:
        key = "+".join(cache.kind for cache in layer) or "none"
        found[key] = found.get(key, 0) + 1
    return found


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("gemma-2-9b-it", {"sliding": 21, "full": 21}),
        ("gemma-3-27b-it", {"sliding": 52, "full": 10}),
        ("gpt-oss-120b", {"sliding": 18, "full": 18}),
        ("Mistral-7B-v0.1", {"sliding": 32}),
        ("Mistral-Small-24B-Instruct-2501", {"full": 40}),
        ("Jamba-v0.1", {"state": 28, "full": 4}),
        ("mamba-130m-hf", {"state": 24}),
        ("DeepSeek-V2-Lite-Chat", {"mla": 27}),
        ("bge-large-en-v1.5", {"none": 24}),
        ("Qwen2.5-7B-Instruct", {"full": 28}),
    ],
)
def test_what_each_layer_caches(name: str, kinds: dict[str, int]) -> None:
    assert _kinds(name) == kinds
    assert facts(name).arch.exact


def test_what_is_not_known_is_bounded_and_says_so() -> None:
    config = {"model_type": "brand_new", "num_hidden_layers": 4, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 10}
    read = architecture.read(config)
    assert [layer[0].kind for layer in read.layers] == ["full"] * 4 and not read.exact
    assert "every layer is taken for full attention" in read.notes[0]
    recurrent = architecture.read({**config, "layer_types": ["linear_attention", "full_attention"] * 2})
    assert [layer[0].kind for layer in recurrent.layers] == ["full"] * 4 and len(recurrent.notes) == 2
    assert architecture.read({}).layers == ()


@pytest.mark.parametrize(
    ("config", "kinds"),
    [
        ({"model_type": "llama4_text", "attention_chunk_size": 8192}, ["chunked", "chunked", "chunked", "full"]),
        ({"model_type": "nemotron_h", "hybrid_override_pattern": "M-*M"}, ["state", "none", "full", "state"]),
        ({"model_type": "bamba", "attn_layer_indices": [1]}, ["state", "full", "state", "state"]),
        ({"model_type": "qwen3_next", "linear_num_value_heads": 2}, ["state", "state", "state", "full"]),
        ({"model_type": "cohere2", "sliding_window": 4096}, ["sliding", "sliding", "sliding", "full"]),
        ({"model_type": "falcon_h1"}, ["both"] * 4),
    ],
)
def test_the_kinds_of_layers(config: dict[str, Any], kinds: list[str]) -> None:
    from offline_kit.runtime.gpu_plan import model_families

    assert model_families.layer_kinds(config, 4) == kinds


def test_fixtures_are_what_the_script_writes(tmp_path: Any) -> None:
    make.main(tmp_path)
    for name in FIXTURES:
        assert json.loads((tmp_path / f"{name}.json").read_text()) == json.loads((FOLDER / f"{name}.json").read_text())


def test_rows_say_everything_that_sizes_depend_on() -> None:
    header = {
        "__metadata__": {},
        **{f"model.layers.{n}.w.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]} for n in (0, 1, 3)},
        "b": {"dtype": "NEW", "shape": [], "data_offsets": [5, 7]},
    }
    rows = tensor_table.rows([header])
    assert rows == [
        {"name": "b", "dtype": "NEW", "shape": [], "size": 2, "count": 1},
        {"name": "model.layers.*.w.weight", "dtype": "F16", "shape": [2, 3], "size": 12, "count": 3, "layers": "0-1,3"},
    ]
    assert tensor_table.total(rows) == 38 and tensor_table.numbers("0-1,3") == [0, 1, 3]
    with pytest.raises(ValueError, match="lacks dtype"):
        tensor_table.rows([{"x": {"dtype": "F16"}}])


def test_which_files_hold_the_weights() -> None:
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert tensor_table.weights_files(
        [*shards, "consolidated.safetensors", "config.json", "1_Pooling/model.safetensors"]
    ) == tuple(shards)
    assert tensor_table.weights_files(["pytorch_model.bin", "training_args.bin", "colbert_linear.pt"]) == ("pytorch_model.bin",)
    assert tensor_table.weights_files(["README.md"]) == ()
