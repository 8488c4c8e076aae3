"""Rules of the plan, each with its right value from a public start log (tests/data/plan-logs) or from vLLM's code (named).

One file, for it is a catalogue: a rule stands beside those that it could contradict.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from benchmarks import plan_logs
from offline_kit.runtime.gpu_plan import architecture, gpus, kv_cache
from offline_kit.runtime.gpu_plan.engine_memory import Demand, Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.suggest import apply, suggestions
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.sizes import GIB
from tests.support.plan_samples import cards, facts, settings

CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in plan_logs.cases()}
KEY = plan_logs.KEY


def logged(name: str, **changes: Any) -> Verdict:
    """The plan of a logged case, with some of its fields changed."""
    return plan_logs.plan({**CASES[name], **changes})


def need(name: str, **changes: Any) -> Demand:
    return logged(name, **changes).slots[KEY, "0"].need


def request(env: str = "", **values: Any) -> Settings:
    """A configuration of one engine."""
    made: dict[str, Any] = {KEY: {"dtype": "auto", **values}}
    return settings(env=env, **made)


def model(name: str, where: str = "80GiB", version: str = "0.33", **arguments: Any) -> Demand:
    """What a model of the logs asks for with these arguments."""
    known = {KEY: plan_logs.facts(name)}
    return (
        evaluate(request(max_model_len=4096, engine_args=arguments), known, cards(where), Image(vllm=Vllm.parse(version)))
        .slots[KEY, "0"]
        .need
    )


# State layers


def test_more_sequences_than_blocks_for_states_are_refused_and_the_highest_that_starts_is_named() -> None:
    """The log: "max_num_seqs (1024) exceeds available Mamba cache blocks (635)"; with 256 the same engine started."""
    verdict = logged("q3.8-27b-pro-1024")
    (refused,) = verdict.mistakes
    assert refused.field == f"models.{KEY}.engine_args.max-num-seqs" and "max_num_seqs is 1024 by default" in refused.what
    assert verdict.blocks(KEY).least <= 635 <= verdict.blocks(KEY).most
    best = int(refused.remedy.split()[3])
    assert 256 < best < 700
    known = {KEY: plan_logs.facts("Qwen3.6-27B")}
    suggested = next(item for item in suggestions(verdict, known) if item.kind == "fewer sequences at once")
    assert suggested.changes == {KEY: {"engine_args": {"max-num-seqs": best}}}
    changed = apply(dataclasses.replace(verdict.settings, visible=("0",)), suggested.changes)
    assert evaluate(changed, known, verdict.gpus, verdict.image).outcome == "starts"
    more = {KEY: {"engine_args": {"max-num-seqs": best + 1}}}
    assert evaluate(apply(verdict.settings, more), known, verdict.gpus, verdict.image).outcome == "may not start"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": "0.19.0"}, "until 0.19 the sizes of graphs are cut instead (config/compilation.py)"),
        ({"args": {"enforce_eager": True}}, "has_full_cudagraphs() is false"),
        ({"args": {"compilation_config": {"cudagraph_mode": "PIECEWISE"}}}, "the same"),
        ({"gpu": "NVIDIA A100-SXM4-80GB", "max_model_len": 4096}, "256 sequences by default on an A100 (arg_utils.py)"),
        ({"args": {"max_num_seqs": 256}}, "the log of this engine: it started"),
    ],
)
def test_when_the_blocks_for_states_are_not_compared(changes: dict[str, Any], why: str) -> None:
    assert logged("q3.8-27b-pro-1024", **changes).fits, why


# fp8 KV caches


@pytest.mark.parametrize(
    ("name", "gpu", "dtype", "said"),
    [
        ("q3.8-27b-fp8-2x3090", "NVIDIA GeForce RTX 3090:2", "fp8_e4m3", None),  # its log: it started, on FlashInfer
        ("q3-8b-4090", "NVIDIA A100-SXM4-80GB", "fp8", None),
        ("q3-8b-4090", "Tesla T4", "fp8", "an fp8 KV cache needs 8.0 (FlashInfer)"),
        (
            "oss-20b-marlin",
            "NVIDIA A100-SXM4-80GB",
            "fp8",
            "an fp8 KV cache needs 8.9 with attention sinks, which Triton serves",
        ),
        ("oss-20b-marlin", "NVIDIA L40S", "fp8", None),
        ("gemma4-31b-awq", "NVIDIA A100-SXM4-80GB", "fp8", "an fp8 KV cache needs 8.9 with heads of 256 and 512 values"),
        ("q3-8b-4090", "NVIDIA H100 80GB HBM3", "nvfp4", "an nvfp4 KV cache needs 10.0"),
        ("q3-8b-4090", "NVIDIA B200", "nvfp4", None),
    ],
)
def test_an_fp8_kv_cache_by_the_backend_that_serves_it(name: str, gpu: str, dtype: str, said: str | None) -> None:
    """flashinfer.py supports_compute_capability and supports_sink; triton_attn.py "requires SM89+"; Gemma4Config."""
    args = {**CASES[name]["args"], "kv_cache_dtype": dtype}
    found = [
        mistake.what for mistake in logged(name, gpu=gpu, args=args, util=0.9).mistakes if "KV cache needs" in mistake.what
    ]
    assert bool(found) == (said is not None) and (said is None or said in found[0])


# Overheads


@pytest.mark.parametrize(
    ("name", "gib"),
    [("q2.5-32b-awq-4k", 1.59), ("q3.5-9b-l40s", 0.78), ("q3.8-27b-pro-256", 0.69), ("q3.6-27b-bf16-gb10", 1.94)],
)
def test_the_estimates_for_graphs_that_were_logged_lie_within_the_bounds(name: str, gib: float) -> None:
    overhead = need(name).overhead
    part = overhead.graphs + overhead.graphs_outside
    assert part.least <= gib * GIB <= part.most
    assert bool(overhead.graphs.most) == (name != "q3.5-9b-l40s"), "0.19 does not take them off the KV cache"


@pytest.mark.parametrize(
    ("name", "version", "counted"),
    [("Qwen3-8B", "0.21", True), ("Qwen3-8B", "0.22", False), ("Qwen3-8B", "0.28", False), ("Qwen3-8B", "0.29", True),
     ("Qwen2.5-7B-Instruct", "0.24", True), ("Qwen2.5-7B-Instruct", "0.25", False), ("Qwen3-30B-A3B", "0.28", True),
     ("Qwen3.6-27B", "0.28", True), ("Qwen3-8B", "0.19", False)],
)  # fmt: skip
def test_graphs_come_off_the_share_where_a_runner_estimates_them(name: str, version: str, counted: bool) -> None:
    """v1/worker/gpu/model_runner.py profile_cudagraph_memory: 0 until 0.28; config/vllm.py use_v2_model_runner says whose."""
    overhead = model(name, version=version).overhead
    assert (overhead.graphs.most > 0, overhead.graphs_outside.most > 0) == (counted, not counted)


def test_graphs_of_experts_have_a_wider_bound() -> None:
    """vllm-project/vllm#50722: "Estimated CUDA graph memory: 2.22 GiB total" of Qwen3.5-35B-A3B on four ranks."""
    experts, dense = (model(name, version="0.24", max_num_seqs=256) for name in ("Qwen3.5-35B-A3B-FP8", "Qwen3.5-9B"))
    per_layer = [(asked.overhead.graphs.most - (160 << 20)) / layers for asked, layers in ((experts, 40), (dense, 32))]
    assert per_layer[0] == pytest.approx(1.4 * per_layer[1], rel=0.001)


def test_flashinfer_s_workspace_is_made_with_the_first_graph() -> None:
    """envs.py VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE; a log of 64 layers and 9 graphs, fp8: "Estimated ...: 0.61 GiB"."""
    args: dict[str, Any] = {"max_num_seqs": 8, "max_num_batched_tokens": 65536}
    fp8, plain = (model("Qwen3.6-27B-NVFP4", version="0.23", kv_cache_dtype=kind, **args) for kind in ("fp8", "auto"))
    assert fp8.args.graphs == 9 and fp8.overhead.graphs.least <= 0.61 * GIB <= fp8.overhead.graphs.most
    assert fp8.overhead.graphs.most - plain.overhead.graphs.most == 394 << 20


def test_graphs_follow_layers_sizes_and_mode() -> None:
    base = model("Qwen3-8B", "24GiB", max_num_seqs=256)
    assert (base.args.graph_sizes[:4], base.args.graph_sizes[-1], base.args.graphs) == ((1, 2, 4, 8), 512, 51 + 35)
    few = model("Qwen3-8B", "24GiB", max_num_seqs=2)
    assert few.args.graph_sizes == (1, 2, 4) and few.overhead.graphs.likely < base.overhead.graphs.likely / 5
    assert model("Llama-3.1-70B-Instruct", max_num_seqs=256).overhead.graphs.most > 2 * base.overhead.graphs.most
    sizes = {"cudagraph_capture_sizes": [1, 8], "cudagraph_mode": "FULL_DECODE_ONLY"}
    assert model("Qwen3-8B", compilation_config=sizes).args.graphs == 2
    assert model("Qwen3-8B", compilation_config={"cudagraph_mode": "NONE"}).overhead.graphs.most == 0
    assert model("Qwen3-8B", compilation_config={"max_cudagraph_capture_size": 8}).args.graph_sizes == (1, 2, 4, 8)


def test_the_sampler_is_a_maximum_with_the_layers_and_v2_keeps_a_count_of_tokens() -> None:
    """The log: 1,024 sequences instead of 256 cost 17 blocks of 51,380,224 bytes (penalties.py: 4 bytes and a bit)."""
    few, many = need("q3.8-27b-pro-256"), need("q3.8-27b-pro-1024")
    cost = many.overhead.total.likely - few.overhead.total.likely
    assert cost == pytest.approx(17 * 51380224, rel=0.15)
    assert many.overhead.buffers.likely - few.overhead.buffers.likely == 768 * 248320 * 33 // 8


def test_sorting_all_logits_cost_gigabytes_until_0_16() -> None:
    """Two logs with 1,024 sequences: what 0.9.2 and 0.11.0 took beside weights and KV cache."""
    for name, true in (("q3-235b-fp8-h100", 71.19 - 8.11), ("oss-120b-h100-.95", 75.15 - 1.71)):
        asked = need(name)
        bounds = asked.overhead.total
        assert bounds.least <= true * GIB - asked.loaded <= bounds.most, name
        later = need(name, version="0.18.0").overhead.total
        assert later.likely < bounds.likely - 4 * GIB


def test_several_ranks_have_nccl_and_more_before_0_11() -> None:
    one, four = need("q3-8b-4090"), need("q3-235b-fp8-h100", version="0.12.0")
    assert one.overhead.libraries.most < GIB and four.overhead.libraries.least <= 1.7 * GIB <= four.overhead.libraries.most
    assert need("q3-235b-fp8-h100").overhead.libraries.likely > four.overhead.libraries.likely


def test_adapters_are_reported_with_the_weights_and_graphs_are_captured_twice() -> None:
    """The log: two adapters of rank 16 raised "Model loading took" from 15.27 to 15.45 GiB, and cost a GiB besides."""
    bare, lora = need("q3-8b-4090"), need("q3-8b-lora-4090")
    assert (lora.loaded - bare.loaded) / GIB == pytest.approx(15.45 - 15.27, abs=0.03)
    assert lora.overhead.graphs.most == bare.overhead.graphs.most == 0, "0.27: the second runner does not count them"
    cost = lora.overhead.activations.most - bare.overhead.activations.most
    assert 1.06 * GIB <= cost <= 1.5 * GIB, "the log: 4.63 GiB for the KV cache instead of 5.87, of which 0.18 are weights"
    bare, lora = need("q3-8b-4090", version="0.29.0"), need("q3-8b-lora-4090", version="0.29.0")
    assert lora.overhead.graphs.likely > 1.8 * bare.overhead.graphs.likely > 0


def test_an_image_of_the_largest_size_is_looked_at_in_the_trial_run() -> None:
    """Two logs of one tower: activations of 1.89 (0.29; 2.58 less 0.69 for graphs) and 1.84 GiB (0.27; 3.78 less 1.94)."""
    for name, true in (("q3.8-27b-pro-256", 1.89), ("q3.6-27b-bf16-gb10", 1.84)):
        part = need(name).overhead.activations
        assert part.least <= true * GIB <= part.most and part.likely / GIB == pytest.approx(true, rel=0.05)
    blind = need("q3.8-27b-pro-256", args={"max_num_seqs": 256, "limit_mm_per_prompt": {"image": 0, "video": 0}})
    assert blind.overhead.activations.most < 1.7 * GIB
    small = need("q3.8-27b-pro-256", args={"max_num_seqs": 256, "mm_processor_kwargs": {"max_pixels": 1024 * 1024}})
    assert small.overhead.activations.likely < need("q3.8-27b-pro-256").overhead.activations.likely


def test_experts_count_as_many_as_a_token_passes_through() -> None:
    """fused_moe.py: of each chosen expert max(2 x inner, hidden) + inner; Mixtral and gpt-oss name the width otherwise."""
    arch = facts("Mixtral-8x7B-Instruct-v0.1").arch
    assert (arch.expert_width, arch.active_experts, arch.intermediate) == (14336, 2, 0)
    arch = plan_logs.facts("gpt-oss-20b").arch
    assert (arch.expert_width, arch.active_experts, arch.intermediate) == (2880, 4, 0)
    arch = plan_logs.facts("Qwen3-30B-A3B").arch
    assert (arch.expert_width, arch.active_experts, arch.intermediate) == (768, 8, 6144)
    assert model("Qwen3-30B-A3B").overhead.activations.likely >= 8192 * 2 * 8 * (2048 + 768)


# Architectures


def test_gemma_4_has_other_heads_where_it_sees_all() -> None:
    """gemma4.py: 50 windows of 16 heads of 256, 10 layers of 4 heads of 512; the last layers may share a cache."""
    arch = plan_logs.facts("gemma-4-31B-it-AWQ").arch
    assert arch.exact and kv_cache.per_token(arch, kv_cache.Options()) == 50 * 16 * 256 * 4 + 10 * 4 * 512 * 4
    shared = {"model_type": "gemma3n_text", "num_hidden_layers": 6, "num_attention_heads": 8, "hidden_size": 64,
              "vocab_size": 9, "num_kv_shared_layers": 2, "layer_types": ["full_attention"] * 6}  # fmt: skip
    assert [len(layer) for layer in architecture.read(shared).layers] == [1, 1, 1, 1, 0, 0]


def test_kimi_linear_has_latent_rows_and_states() -> None:
    """The log of 0.11.1: 75,840 tokens in 2.3 GiB; its block is 960 tokens."""
    verdict = logged("kimi-linear-tp2", args={**CASES["kimi-linear-tp2"]["args"], "kv_cache_memory_bytes": int(2.3 * GIB)})
    pool = verdict.slots[KEY, "0"].need.pool
    assert {page.block for group in pool.groups for _, page in group.members} == {960}
    assert pool.tokens(verdict.blocks(KEY).likely, 120000, by_concurrency=False) == 75840
    state = next(
        cache.state for layer in plan_logs.facts("Kimi-Linear-48B-A3B-AWQ").arch.layers for cache in layer if cache.state
    )
    assert state.size(2, 2) == 3 * 32 * 128 // 2 * 3 * 2 + 32 // 2 * 128**2 * 4, "mamba_utils.py kda_state_shape"


def test_mistral_4_caches_320_values_a_layer() -> None:
    """Its refusal: 22.5 GiB for 1,048,576 tokens, which is 23,040 bytes a token."""
    asked = need("mistral4-119b")
    assert asked.token_bytes == 23040 and (asked.kv_least - asked.pool.block_bytes[0]) / GIB == pytest.approx(22.5, abs=0.005)


def test_quantised_mla_keeps_what_it_unpacks() -> None:
    """The log of DeepSeek-V3 at TP 16: 40.3173 GiB. mla_attention.py: heads x 512 x (nope + value) x 2 bytes x layers."""
    assert need("ds-v3-tp16").loaded / GIB == pytest.approx(40.3173, abs=0.01)
    glm = request(tensor_parallel_size=8)
    asked = evaluate(glm, {KEY: plan_logs.facts("GLM-5.1-FP8")}, cards("8x141GiB")).slots[KEY, "0"].need
    tables = 202752 * 64 * 2
    assert asked.derived - tables == 78 * 8 * 512 * (192 + 256) * 2 and (asked.derived - tables) / GIB == pytest.approx(
        0.27, abs=0.01
    )


def test_experts_in_mxfp4_are_padded_by_their_backend() -> None:
    """Logs: 13.72 GiB of 20B on Marlin, 64.38 of 120B on Triton, which serves compute capability 9.0 to 10.x."""
    assert need("oss-20b-marlin").loaded / GIB == pytest.approx(13.72, rel=0.01)
    assert need("oss-120b-triton", gpu="NVIDIA H100 80GB HBM3").loaded / GIB == pytest.approx(64.38, rel=0.01)
    lora = {"enable_lora": True}
    assert need("oss-120b-triton", gpu="NVIDIA H100 80GB HBM3", args=lora).weights.rank / GIB == pytest.approx(65.89, rel=0.01)


@pytest.mark.parametrize(("version", "gib"), [("0.11.0", 65.9651), ("0.12.0", 64.38)])
def test_experts_in_mxfp4_run_on_marlin_until_triton_s_kernels_come_along(version: str, gib: float) -> None:
    """vllm-project/vllm#23278 (0.10.1 on an H100): 65.9651; utils/import_utils.py has_triton_kernels of 0.12: third_party."""
    assert need("oss-120b-h100-.9", version=version).loaded / GIB == pytest.approx(gib, rel=0.002)


def test_sorting_takes_38_5_bytes_a_logit() -> None:
    """Two logs of 0.10.2 name their activations: 1.4 GiB of 256 sequences (TP 8), 5.58 of 1,024; both of 151,936 tokens."""
    for name, gib in (("q3-235b-fp8-8xl40s", 1.4), ("q3-next-80b-2xh200", 5.58)):
        part = need(name).overhead.activations
        assert part.least <= gib * GIB <= part.likely * 1.08 <= part.most * 1.08, name


def test_rotary_tables_are_part_of_what_is_loaded() -> None:
    """Logs: 51.35 GiB with 786,432 tokens where the same model takes 51.1 with 262,144; four positions for each (mrope.py)."""
    for name in ("q3.8-27b-pro-256", "q3.6-27b-bf16-gb10", "q3.5-9b-l40s", "l3.1-8b-0.10.1"):
        assert need(name).loaded / GIB == pytest.approx(CASES[name]["logged"]["weights"], abs=0.03), name


@pytest.mark.parametrize(
    "name", ["Qwen3.5-9B", "Qwen3.5-35B-A3B-FP8", "GLM-5.1-FP8", "Kimi-Linear-48B-A3B-AWQ", "Mistral-Small-4-119B"]
)
def test_what_is_known_is_not_called_unknown(name: str) -> None:
    assert plan_logs.facts(name).arch.exact and plan_logs.facts(name).arch.notes == ()


# Arguments


def test_arguments_that_move_memory_are_computed() -> None:
    base = model("Qwen3-8B")
    assert base.loaded - model("Qwen3-8B", cpu_offload_gb=4).loaded == 4 * GIB
    halved = model("Qwen3-8B", quantization="bitsandbytes").weights.rank
    assert 0.3 * base.weights.rank < halved < 0.5 * base.weights.rank
    assert model("Qwen3-8B", decode_context_parallel_size=2).pool.blocks_for(4096) == base.pool.blocks_for(4096) // 2
    for dtype, size in (("nvfp4", 72), ("int4_per_token_head", 64 + 4), ("fp8_per_token_head", 128 + 4), ("fp8", 128)):
        assert model("Qwen3-8B", kv_cache_dtype=dtype).token_bytes == 36 * 8 * 2 * size, dtype
    rows = model("DeepSeek-V3", "8x141GiB", kv_cache_dtype="fp8_ds_mla").token_bytes
    assert rows == 61 * 656, "flashmla_sparse.py: 512 + 4 x 4 + 64 x 2"
    state = model("Qwen3.6-27B", mamba_ssm_cache_dtype="bfloat16").pool.block_bytes
    assert state < model("Qwen3.6-27B").pool.block_bytes, "its float32 states are halved"


def test_the_number_of_blocks_can_be_told() -> None:
    asked = request(engine_args={"num_gpu_blocks_override": 300}, max_model_len=4096)
    verdict = evaluate(asked, {KEY: plan_logs.facts("Qwen3-8B")}, cards("80GiB"))
    assert verdict.blocks(KEY).likely == 300


@pytest.mark.parametrize(
    ("blocks", "version", "outcome"),
    [(257, "0.33", "starts"), (256, "0.33", "does not start"), (10**9, "0.33", "does not start"), (256, "0.20", "starts")],
)
def test_blocks_that_are_told_must_hold_one_sequence_and_fit(blocks: int, version: str, outcome: str) -> None:
    """kv_cache_utils.py get_kv_cache_configs: adjusted_memory is what is checked since 0.21, without the null block."""
    asked = request(max_model_len=4096, engine_args={"num_gpu_blocks_override": blocks})
    image = Image(vllm=Vllm.parse(version))
    verdict = evaluate(asked, {KEY: plan_logs.facts("Qwen3-8B")}, cards("NVIDIA L40S"), image)
    assert verdict.outcome == outcome
    assert verdict.fits or "num_gpu_blocks_override" in str(verdict.mistakes[0])


def test_the_tower_can_be_left_out_or_whole_on_every_rank() -> None:
    with_tower, blind = model("Qwen2.5-VL-7B-Instruct"), model("Qwen2.5-VL-7B-Instruct", language_model_only=True)
    assert 1.2 * GIB < with_tower.weights.rank - blind.weights.rank < 1.4 * GIB
    assert blind.overhead.activations.most < with_tower.overhead.activations.least
    two = request(tensor_parallel_size=2, engine_args={"mm_encoder_tp_mode": "data"})
    known = {KEY: plan_logs.facts("Qwen2.5-VL-7B-Instruct")}
    whole = evaluate(two, known, cards("2x80GiB")).slots[KEY, "0"].need
    cut = evaluate(
        dataclasses.replace(two, models=(dataclasses.replace(two.models[0], engine_args={}),)), known, cards("2x80GiB")
    )
    assert 0.55 * GIB < whole.weights.rank - cut.slots[KEY, "0"].need.weights.rank < 0.7 * GIB


def test_experts_are_cut_by_all_ranks_or_stay_whole() -> None:
    """layers/fused_moe/config.py: TP x DP ranks share the experts; with expert parallel each has whole ones."""
    plain = model("Qwen3-30B-A3B", "2x80GiB")
    parallel: dict[str, Any] = {"data_parallel_size": 2}
    for more in (parallel, {**parallel, "enable_expert_parallel": True}):
        asked = model("Qwen3-30B-A3B", "2x80GiB", **more)
        assert 0.5 * plain.weights.rank < asked.weights.rank < 0.6 * plain.weights.rank
        assert any("all-to-all" in note for note in asked.notes)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"speculative_config": {"model": "/models/draft", "num_speculative_tokens": 3}}, "the draft model"),
        ({"kv_transfer_config": {"kv_connector": "x"}}, "buffers of the KV connector (kv_transfer_config)"),
        ({"enable_eplb": True}, "copies of experts that load balancing makes (enable_eplb)"),
        ({"compilation_config": {"pass_config": {"enable_sp": True}}}, "compilation_config"),
        ({"hf_overrides": {"num_hidden_layers": 4}}, "what hf_overrides changes"),
        ({"quantization": "torchao"}, "what quantization: torchao makes of the weights"),
        ({"kv_cache_dtype": "turboquant_4bit_nc"}, "the KV dtype turboquant_4bit_nc is not known"),
    ],
)
def test_what_is_not_counted_is_named(arguments: dict[str, Any], said: str) -> None:
    assert any(said in note for note in model("Qwen3-8B", **arguments).notes)
    assert not any(said in note for note in model("Qwen3-8B").notes)


def test_layers_of_a_pipeline_may_be_spread_otherwise_by_a_variable() -> None:
    """vllm/distributed/utils.py get_pp_indices; the variable is the engine's, so that the plan cannot see it."""
    notes = model("Qwen3-8B", "2x80GiB", pipeline_parallel_size=2).notes
    assert any("VLLM_PP_LAYER_PARTITION" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "tp", "ranks", "said"),
    [
        ("Qwen3-8B", 1, 2, "2 does not divide tensor_parallel_size (1)"),  # config/parallel.py
        ("Qwen3-8B", 8, 2, "2 is more than 8 GPUs hold copies of its 8 KV heads"),  # config/model.py max_dcp_size
        ("Qwen3-Coder-30B-A3B-Instruct", 8, 2, None),  # 4 KV heads: two copies of each
        ("DeepSeek-V3", 8, 8, None),  # MLA: every rank has the whole row
    ],
)
def test_ranks_that_share_a_context_are_part_of_tp(name: str, tp: int, ranks: int, said: str | None) -> None:
    asked = request(max_model_len=4096, tensor_parallel_size=tp, engine_args={"decode_context_parallel_size": ranks})
    verdict = evaluate(asked, {KEY: plan_logs.facts(name)}, cards(f"{tp}x400GiB"))
    assert [said in str(mistake) for mistake in verdict.mistakes if said] == ([True] if said else [])
    assert said is not None or verdict.fits


# Cards


def test_one_engine_alone_may_ask_for_all_of_a_card() -> None:
    alone = request(gpu_memory_utilization=0.98, max_model_len=4096)
    verdict = evaluate(alone, {KEY: plan_logs.facts("Qwen3-8B")}, cards("NVIDIA L40S"))
    assert verdict.fits and verdict.outcome == "may not start" and "0.98 of GPU 0" in verdict.warnings[0].what
    half = {"gpu_memory_utilization": 0.48, "max_model_len": 512, "dtype": "auto"}
    made: dict[str, Any] = {KEY: half, "other": half}
    known = dict.fromkeys(made, plan_logs.facts("Qwen3-0.6B"))
    assert "0.96 of GPU 0, more than 0.95" in str(evaluate(settings(**made), known, cards("NVIDIA L40S")).mistakes[0])


def test_unified_memory_and_slices_are_cards_too() -> None:
    (spark,) = gpus.parse_csv("0, NVIDIA GB10, [N/A], [N/A], 12.1, 580.95.05")
    assert (spark.total, spark.unified, spark.capability) == (124610, True, (12, 1))
    assert any("is a guess" in note for note in model("Qwen3-8B", "GB10").notes)
    (named,) = gpus.parse("NVIDIA A100-SXM4-80GB MIG 3g.40gb")
    assert (named.total, named.capability) == (38912, (8, 0)) and named.usable < 38912
    uuid = "MIG-aaaaaaaa-bbbb-5ccc-8ddd-eeeeeeeeeeee"
    listed = gpus.parse_csv(f"{uuid}, NVIDIA A100-SXM4-80GB MIG 3g.40gb, 40192, , [N/A], 550.1")
    assert (listed[0].id, listed[0].total, listed[0].capability) == (uuid, 40192, (8, 0))
    asked = request(f"CUDA_VISIBLE_DEVICES={uuid}", max_model_len=4096)
    known = {KEY: plan_logs.facts("Qwen3-8B")}
    assert evaluate(asked, known, gpus.of_totals({uuid: 40192})).outcome == "starts"
    assert not evaluate(asked, known, gpus.of_totals({uuid: 9728})).fits
    unknown = evaluate(asked, known, cards("24GiB"))
    assert f"nothing is known of {uuid}" in str(unknown.warnings[0])


# Versions


@pytest.mark.parametrize(
    ("text", "version", "known"),
    [("0.21.0", (0, 21), True), ("0.8.5.post1", (0, 8), True), ("v0.29.0+cu129", (0, 29), True), ("", (0, 33), False),
     ("main", (0, 33), False), ("0.2x", (0, 33), False), ("0.1.dev19754+g3a0914114", (0, 33), False),
     ("0.29.1rc1.dev17+gd2d649e67", (0, 29), True)],
)  # fmt: skip
def test_the_version_of_vllm(text: str, version: tuple[int, int], known: bool) -> None:
    assert (Vllm.parse(text).version, Vllm.parse(text).known) == (version, known)


def test_defaults_and_what_is_printed_follow_the_version() -> None:
    """arg_utils.py: 16,384 from 160 GiB since 0.28; kv_cache_interface.py: one batch in flight until 0.25."""
    assert [model("Qwen3-8B", "180GiB", version).args.batched for version in ("0.27", "0.28")] == [8192, 16384]
    windows = [model("gpt-oss-20b", "24GiB", version).pool.options.in_flight for version in ("0.25", "0.26")]
    assert windows == [2048, 4096]
    states = [model("Qwen3.5-9B", "48GiB", version).pool.options.state_blocks for version in ("0.27", "0.28")]
    assert states == [1, 2], "arg_utils.py: prefix caching is off by default with state layers until 0.27"
    asked = [model("Qwen3.5-9B", "48GiB", "0.27", enable_prefix_caching=on).pool.options.state_blocks for on in (True, False)]
    assert asked == [2, 1]
    assert model("Qwen3-8B", "48GiB", "0.27").pool == model("Qwen3-8B", "48GiB", "0.28").pool
    pool = model("Qwen3.5-9B", "48GiB").pool
    assert pool.tokens(1000, 4096) == int(1000 / pool.blocks_for(4096) * 4096) != pool.tokens(1000, 4096, by_concurrency=False)


@pytest.mark.parametrize(("version", "gib"), [("0.12", 12.0), ("0.15.2", 24.0), ("0.16", 24.0), ("0.17", 12.0)])
def test_a_stage_of_a_pipeline_needed_room_for_all_layers_for_a_while(version: str, gib: float) -> None:
    """vllm-project/vllm#34076: "(24.0 GiB KV cache is needed" of 262,144 tokens, PP 2, on 0.15.2; kv_cache_utils.py."""
    asked = {"model": "Qwen3-Coder-30B-A3B-Instruct-FP8", "gpu": "2x40GiB", "tp": 1, "max_model_len": 262144, "util": 0.9}
    case = {**CASES["q3c-30b-fp8-221k"], **asked, "args": {"pipeline_parallel_size": 2}, "version": version}
    verdict = plan_logs.plan(case)
    need = verdict.slots[KEY, "0"].need
    assert need.kv_least - need.pool.block_bytes[0] * (1 if gib == 12 else 2) == gib * GIB
    assert verdict.outcome == ("starts" if gib == 12 else "does not start")


# What strangers write

JUNK: tuple[Any, ...] = ("x", -1, True, [], ["a"], {"a": 1}, 1.5, 10**9)


@pytest.mark.parametrize("name", ["Qwen3.6-27B", "Kimi-Linear-48B-A3B-AWQ", "gemma-4-31B-it-AWQ", "gpt-oss-20b"])
def test_a_configuration_of_wrong_kinds_is_planned_by_what_is_left(name: str) -> None:
    held = json.loads((plan_logs.FOLDER / f"models/{name}.json").read_text())
    text = held["config"].get("text_config", held["config"])
    for key in sorted(text):
        for junk in (*JUNK, float("nan")):
            text_changed = {**text, key: junk}
            config = {**held["config"], "text_config": text_changed} if "text_config" in held["config"] else text_changed
            known = Facts.of({"config": architecture.subset(config), "tensors": held["tensors"]})
            asked = evaluate(request(max_model_len=2048), {KEY: known}, cards("80GiB")).slots[KEY, "0"].need
            assert asked.overhead.total.least <= asked.overhead.total.most, (key, junk)


@pytest.mark.parametrize(
    "argument",
    ["compilation_config", "speculative_config", "limit_mm_per_prompt", "mm_processor_kwargs", "cpu_offload_gb", "max_num_seqs",
     "kv_cache_memory_bytes", "kv_cache_dtype", "quantization", "num_gpu_blocks_override", "pipeline_parallel_size",
     "data_parallel_size", "decode_context_parallel_size", "mamba_cache_dtype", "enable_lora", "max_loras", "block_size"],
)  # fmt: skip
def test_arguments_of_wrong_kinds_end_no_plan(argument: str) -> None:
    for junk in (
        *JUNK,
        None,
        0,
        '{"cudagraph_mode": 5, "max_cudagraph_capture_size": 1000000000000}',
    ):
        for name in ("Qwen2.5-VL-7B-Instruct", "Qwen3.6-27B"):
            asked = request(max_model_len=2048, engine_args={argument: junk, "max_num_batched_tokens": 10**12})
            assert evaluate(asked, {KEY: plan_logs.facts(name)}, cards("2x80GiB")).outcome, (argument, junk)
