"""What vLLM refuses whatever memory there is: each rule with the file of vLLM that says so."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import plan_logs
from offline_kit.runtime.gpu_plan import architecture
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from tests.support.plan_samples import cards, record, settings

KEY = plan_logs.KEY


def plan(known: Facts, where: str = "NVIDIA L40S", version: str = "0.33.0", arguments: Any = None, **model: Any) -> Verdict:
    entry = {"dtype": "auto", "max_model_len": 4096, "engine_args": arguments or {}, **model}
    made: dict[str, Any] = {KEY: entry}
    return evaluate(settings(**made), {KEY: known}, cards(where), Image(vllm=Vllm.parse(version)))


def refusals(verdict: Verdict) -> list[str]:
    return [mistake.what for mistake in verdict.mistakes if "GiB" not in mistake.what]


def with_rope(**config: Any) -> Facts:
    """Llama 3.1 8B with another rotary embedding."""
    recorded = record("Llama-3.1-8B-Instruct")
    changed = {**recorded["config"], "max_position_embeddings": 8192, **config}
    return Facts.of({**recorded, "config": architecture.subset(changed)})


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("version", "rope", "longest"),
    [
        ("0.33.0", {"rope_scaling": {"type": "linear", "factor": 4.0}}, 32768),
        ("0.33.0", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}}, 16384),
        ("0.33.0", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 8192),
        ("0.33.0", {"rope_scaling": {"type": "longrope", "factor": 8.0, "long_factor": [1.0]}}, 8192),
        ("0.29.0", {"rope_scaling": YARN}, 16384),
        ("0.30.0", {"rope_scaling": YARN}, 8192),
        ("0.33.0", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2}}}, 16384),
        ("0.33.0", {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": "2"}}}, 8192),
    ],
)
def test_the_longest_context_is_that_of_the_rotary_embedding(version: str, rope: dict[str, Any], longest: int) -> None:
    """config/model.py _get_and_verify_max_len: of the wheels 0.29.0 and 0.30.0, in which YaRN differs."""
    known = with_rope(**rope)
    accepted = plan(known, "NVIDIA H200", version, max_model_len=longest)
    assert not refusals(accepted) and accepted.slots[KEY, "0"].need.longest == longest
    (refused,) = refusals(plan(known, "NVIDIA H200", version, max_model_len=longest + 1))
    assert refused == f"{longest + 1} is more than the {longest} tokens that the model was made for"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"max_num_batched_tokens": 512, "max_num_seqs": 1024}, "512 is less than max_num_seqs (1024)"),
        ({"max_num_batched_tokens": 512}, None),  # max_num_seqs follows
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 4095}, "4095 is less than max_model_len (4096)"),
        ({"enable_chunked_prefill": False, "max_num_batched_tokens": 4096}, None),
        ({"enable_chunked_prefill": False}, None),
        ({"enable_lora": True, "max_lora_rank": 24}, "vLLM has none of 24"),
        ({"enable_lora": True, "max_lora_rank": 320}, None),
    ],
)
def test_numbers_that_vllm_does_not_take_together(arguments: dict[str, Any], said: str | None) -> None:
    """config/scheduler.py verify_max_model_len, config/lora.py MaxLoRARanks."""
    found = refusals(plan(plan_logs.facts("Llama-3.1-8B-Instruct"), arguments=arguments))
    assert bool(found) == bool(said) and all(str(said) in line for line in found)


def test_a_batch_that_is_told_bounds_the_sequences_that_are_not() -> None:
    """engine/arg_utils.py _set_default_max_num_seqs_and_batched_tokens_args."""
    verdict = plan(plan_logs.facts("Llama-3.1-8B-Instruct"), "NVIDIA H200", arguments={"max_num_batched_tokens": 512})
    assert verdict.slots[KEY, "0"].need.args.sequences == 512


@pytest.mark.parametrize(
    ("version", "tp", "arguments", "said"),
    [
        ("0.27.1", 8, {}, "8 parts of down_proj have 192 columns, no whole blocks of 128 (fp8)"),
        ("0.27.1", 8, {"enable_expert_parallel": True}, None),  # the log q3-235b-fp8-8xl40s: it started
        ("0.27.1", 4, {}, None),
        ("0.29.0", 8, {}, None),  # made finer: gcd(128, 192, 4096) is 64
    ],
)
def test_experts_in_fp8_are_cut_into_whole_blocks(version: str, tp: int, arguments: dict[str, Any], said: str | None) -> None:
    """fp8.py create_weights: "192 is not divisible by weight quantization block_n = 128"; fused_moe/oracle/fp8.py of 0.29."""
    known = plan_logs.facts("Qwen3-235B-A22B-FP8")
    where = f"NVIDIA H100 80GB HBM3:{tp}"
    found = refusals(plan(known, where, version, arguments, tensor_parallel_size=tp))
    assert found == ([said] if said else [])


def quantised(name: str, columns: int, **quantization: Any) -> Facts:
    """Qwen3 8B with one quantised matrix of so many columns."""
    config = {**record("Qwen3-8B")["config"], "quantization_config": quantization}
    shape, dtype = ([columns, 512], "I32") if quantization["quant_method"] == "awq" else ([4096, columns], "F8_E4M3")
    row = {"name": name, "dtype": dtype, "shape": shape, "size": columns, "count": 36, "layers": "0-35"}
    return Facts.of({"config": architecture.subset(config), "tensors": [row]})


FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (quantised("model.layers.*.mlp.down_proj.weight", 9728, **FP8), "have 1216 columns"),
        (quantised("model.layers.*.mlp.shared_expert.down_proj.weight", 512, **FP8), "have 64 columns"),
        (quantised("model.layers.*.mlp.down_proj.weight", 12288, **FP8), None),
        # of merged matrices a mismatch is let through (linear.py _maybe_allow_fp8_block_shape_mismatch)
        (quantised("model.layers.*.mlp.gate_proj.weight", 9728, **FP8), None),
        (quantised("mtp.layers.*.mlp.down_proj.weight", 9728, **FP8), None),
        (quantised("model.layers.*.mlp.down_proj.qweight", 13824, **AWQ), "have 1728 columns"),
        (quantised("model.layers.*.mlp.down_proj.qweight", 27648, **AWQ), None),
        (quantised("model.layers.*.mlp.down_proj.qweight", 13824, quant_method="awq", bits=4, group_size=-1), None),
    ],
)
def test_quantised_matrices_are_cut_into_whole_blocks(known: Facts, said: str | None) -> None:
    """fp8_utils.py validate_fp8_block_shape; auto_awq.py: "The input size is not aligned with the quantized weight shape"."""
    found = refusals(plan(known, "NVIDIA H100 80GB HBM3:8", tensor_parallel_size=8))
    assert bool(found) == bool(said) and all(str(said) in line for line in found)


@pytest.mark.parametrize(("where", "refused"), [("NVIDIA A100-SXM4-80GB:8", True), ("NVIDIA H200:8", False)])
def test_sparse_attention_has_no_backend_before_hopper(where: str, refused: bool) -> None:
    """platforms/cuda.py _get_backend_priorities, supports_compute_capability of v1/attention/backends/mla."""
    found = refusals(plan(plan_logs.facts("GLM-5.1-FP8"), where, tensor_parallel_size=8))
    assert any("sparse attention" in line for line in found) == refused
    assert not refusals(plan(plan_logs.facts("DeepSeek-V3"), where, tensor_parallel_size=8)), (
        "MLA that is not sparse has Triton"
    )
