"""Drafts, and states that are kept for every block: what the plan makes of arguments that add to the KV cache."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from benchmarks import plan_logs
from offline_kit.runtime.gpu_plan import architecture
from offline_kit.runtime.gpu_plan.engine_memory import Demand, Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.sizes import GIB
from tests.support.plan_samples import cards, settings

KEY = plan_logs.KEY
DRAFT: dict[str, Any] = {"method": "draft_model", "model": "/models/small", "num_speculative_tokens": 3}
MTP: dict[str, Any] = {"method": "mtp", "num_speculative_tokens": 1}


def requested(model: dict[str, Any]) -> Settings:
    """A configuration of one engine."""
    made: dict[str, Any] = {KEY: model}
    return settings(**made)


def planned(name: str, where: str = "80GiB", version: str = "0.33", tp: int = 1, more: str = "", **args: Any) -> Verdict:
    """The plan of a logged model with these arguments; ``more``: a model that the kit carries as "small"."""
    request = requested({"dtype": "auto", "max_model_len": 4096, "tensor_parallel_size": tp, "engine_args": args})
    known = {KEY: plan_logs.facts(name)} | ({"small": plan_logs.facts(more)} if more else {})
    return evaluate(request, known, cards(where), Image(vllm=Vllm.parse(version)))


def need(*words: Any, **more: Any) -> Demand:
    return planned(*words, **more).slots[KEY, "0"].need


def test_a_draft_of_the_kit_is_counted_with_weights_and_cache() -> None:
    """0.494 billion parameters in bfloat16 and 24 layers of 2 heads of 64; kv_cache_utils.py: one group of all layers."""
    bare = need("Qwen3-8B")
    with_draft = need("Qwen3-8B", more="Qwen2.5-0.5B-Instruct", speculative_config=DRAFT)
    assert with_draft.loaded - bare.loaded == with_draft.draft == pytest.approx(494_032_768 * 2, rel=0.002)
    assert with_draft.token_bytes - bare.token_bytes == 24 * 2 * 64 * 2 * 2
    assert with_draft.pool.block_bytes[0] - bare.pool.block_bytes[0] == 16 * 24 * 2 * 64 * 2 * 2
    assert any("its activations and graphs are not" in note for note in with_draft.notes)
    halves = need("Qwen3-8B", "2x80GiB", tp=2, more="Qwen2.5-0.5B-Instruct", speculative_config=DRAFT)
    assert 0.4 * with_draft.draft < halves.draft < 0.6 * with_draft.draft
    given = {**DRAFT, "draft_tensor_parallel_size": 1}
    assert need("Qwen3-8B", "2x80GiB", tp=2, more="Qwen2.5-0.5B-Instruct", speculative_config=given).draft == with_draft.draft


def test_a_draft_that_is_not_known_leaves_a_doubt() -> None:
    verdict = planned("Qwen3-8B", speculative_config=DRAFT)
    assert verdict.outcome == "may not start" and "the draft 'small'" in verdict.warnings[0].what
    assert any("the draft model of speculative_config is not counted" in note for note in verdict.slots[KEY, "0"].need.notes)


def test_a_model_s_own_drafting_layer_is_one_more_layer_of_attention() -> None:
    """Qwen3.6-27B: vllm's log "Add 3 padding layers, may waste at most 6.25%": 48 states in 3 groups of 17, 17 of attention."""
    bare, own = need("Qwen3.6-27B"), need("Qwen3.6-27B", speculative_config=MTP)
    assert sorted(len(group.members) for group in own.pool.groups) == [16, 16, 16, 17]
    assert sorted(len(group.members) for group in bare.pool.groups) == [16, 16, 16, 16]
    assert own.token_bytes - bare.token_bytes == 4 * 256 * 2 * 2
    assert 0.3 * GIB < own.loaded - bare.loaded < 1.2 * GIB, "its weights"
    deep, deeper = need("DeepSeek-V3", "8x141GiB", tp=8), need("DeepSeek-V3", "8x141GiB", tp=8, speculative_config=MTP)
    assert deeper.token_bytes - deep.token_bytes == 576 * 2


@pytest.mark.parametrize("method", ["ngram", "suffix"])
def test_methods_without_a_model_take_no_weights(method: str) -> None:
    bare = need("Qwen3.6-27B")
    given = need("Qwen3.6-27B", speculative_config={"method": method, "num_speculative_tokens": 4})
    assert given.loaded == bare.loaded and given.token_bytes == bare.token_bytes


def test_what_drafts_on_a_pipeline_is_named() -> None:
    notes = need("Qwen3-8B", "2x80GiB", pipeline_parallel_size=2, speculative_config=MTP).notes
    assert any("is not counted on a pipeline" in note for note in notes)


NEMOTRON = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hidden_size": 4480, "num_hidden_layers": 8,
    "hybrid_override_pattern": "M-M*M-M*", "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128,
    "intermediate_size": 15680, "vocab_size": 131072, "max_position_embeddings": 131072, "mamba_num_heads": 128,
    "mamba_head_dim": 80, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "args", "every"),
    [
        ("0.31", {"mamba_cache_mode": "all", "enable_prefix_caching": True}, True),
        ("0.31", {"mamba_cache_mode": "all", "enable_prefix_caching": False}, False),
        ("0.31", {}, False),
        ("0.27", {"enable_prefix_caching": True}, True),
        ("0.27", {}, False),
        ("0.27", {"enable_prefix_caching": True, "mamba_cache_mode": "align"}, False),
        ("0.28", {"enable_prefix_caching": True}, False),
    ],
)
def test_states_that_are_kept_for_every_block(version: str, args: dict[str, Any], every: bool) -> None:
    """kv_cache_interface.py MambaSpec.max_memory_usage_bytes, models/config.py MambaModelConfig: "all" from 0.16 to 0.27 where
    prefix caching is on and the model can, to 0.31 where it is given; blocks are multiples of the chunk, 256."""
    arch = architecture.read(architecture.subset(NEMOTRON))
    request = requested({"dtype": "auto", "max_model_len": 131072, "engine_args": args})
    image = Image(vllm=Vllm.parse(version))
    verdict = evaluate(request, {KEY: Facts(arch, ())}, cards("80GiB"), image)
    pool = verdict.slots[KEY, "0"].need.pool
    block = next(page.block for group in pool.groups for _, page in group.members)
    states = sum(1 for group in pool.groups if any(page.kind == "state" for _, page in group.members))
    per_state = (pool.blocks_for(131072) - -(-131072 // block) * (len(pool.groups) - states)) // states
    assert pool.options.every_state is every
    assert per_state == (-(-131072 // block) if every else pool.options.state_blocks)
    assert not every or block % 256 == 0


def test_models_without_such_states_fall_back_and_later_versions_refuse_the_mode() -> None:
    """models/config.py: "falling back to 'align' mode"; config/cache.py of 0.32: Literal["align", "none"]."""
    args: dict[str, Any] = {"mamba_cache_mode": "all", "enable_prefix_caching": True}
    assert need("Qwen3.6-27B", version="0.31", **args).pool == need("Qwen3.6-27B", version="0.31").pool
    refused = planned("Qwen3.6-27B", version="0.32", **args)
    assert "0.32 has no mamba_cache_mode 'all'" in str(refused.mistakes[0])
    assert dataclasses.replace(refused, mistakes=()).outcome != refused.outcome
