"""Runs inside the CPU engine image: what vLLM itself says of the KV cache, as JSON on stdout.

    python3 plan_in_engine.py specs FOLDER      KV pages, groups and blocks of every fixture in FOLDER, by vLLM's own classes
    python3 plan_in_engine.py blocks JSON       model -> arguments: KV blocks of real engines, started one after another

Rules: nothing of ours is imported: what a layer caches comes from transformers' configuration classes and vLLM's convertor,
sizes and groups from vLLM's KV-cache specs; only what those need of a VllmConfig is made up, as plain values.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LENGTHS = (1000, 4096, 32768)
BATCHED, CONCURRENT = 2048, 2
MEMORY = 10 << 30


def specs(folder: Path) -> dict[str, Any]:
    """Fixture -> settings -> numbers."""
    from transformers import AutoConfig

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text())
        raw = dict(record["config"])
        config = AutoConfig.for_model(raw.pop("model_type"), **raw)
        found[path.stem] = {f"{tp}/{kv}": _numbers(record, config, tp, kv) for tp in (1, 2, 8) for kv in ("auto", "fp8")}
    return found


def _numbers(record: dict[str, Any], config: Any, tp: int, kv: str) -> dict[str, Any]:
    import torch
    from vllm.v1.core import kv_cache_utils as utils
    from vllm.v1.kv_cache_layout import KVCacheLayout

    text = config.get_text_config()
    dtype = torch.uint8 if kv == "fp8" else torch.bfloat16
    layers = _layers(record, config, text, tp, dtype)
    request = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=0, original_max_model_len=0),
        parallel_config=SimpleNamespace(decode_context_parallel_size=1, tensor_parallel_size=tp, pipeline_parallel_size=1),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=False),
        cache_config=SimpleNamespace(
            get_resolved_kv_cache_layout=lambda: KVCacheLayout.LBNHC,
            mamba_cache_mode="none",
            num_gpu_blocks_override=None,
            prefix_cache_retention_interval=None,
        ),
        attention_config=SimpleNamespace(hisparse_config=None),
        speculative_config=None,
        kv_transfer_config=None,
        max_in_flight_tokens=BATCHED * CONCURRENT,
        num_prefill_lookahead_tokens=0,
    )
    if not layers:
        return {"groups": 0, "per_token": 0}
    groups = utils.get_kv_cache_groups(request, dict(layers))
    made = utils.get_kv_cache_config_from_groups(request, groups, MEMORY)
    needed, at_once = {}, {}
    for length in LENGTHS:
        request.model_config.max_model_len = length
        needed[length] = utils._max_memory_usage_bytes_from_groups(request, groups)
        at_once[length] = utils.get_max_concurrency_for_kv_cache_config(request, made)
    growing = [spec for spec in layers.values() if type(spec).__name__ != "MambaSpec"]
    return {
        "groups": len(groups),
        "blocks": made.num_blocks,
        "needed": needed,
        "at_once": at_once,
        "per_token": sum(spec.real_page_size_bytes // spec.block_size for spec in growing),
        "block": growing[0].block_size if growing else 16,
        "state": max([spec.real_page_size_bytes for spec in layers.values() if type(spec).__name__ == "MambaSpec"], default=0),
    }


def _layers(record: dict[str, Any], config: Any, text: Any, tp: int, dtype: Any) -> dict[str, Any]:
    """One spec a layer, as the model files of vLLM make them."""
    from vllm.transformers_utils.model_arch_config_convertor import MODEL_ARCH_CONFIG_CONVERTORS, ModelArchConfigConvertorBase
    from vllm.v1 import kv_cache_interface as interface

    kind = text.model_type
    if kind in ("bert", "xlm-roberta"):
        return {}
    facts = MODEL_ARCH_CONFIG_CONVERTORS.get(config.model_type, ModelArchConfigConvertorBase)(config, text)
    count, size = facts.get_num_hidden_layers(), facts.get_head_size()
    mla = facts.is_deepseek_mla()
    # vllm/config/model.py get_num_kv_heads
    heads = 1 if mla else max(1, facts.get_total_num_kv_heads() // tp)
    block = 16
    names = _kinds(text, count)
    state = _state(record, text, tp)
    if state is not None and "attention" in names:
        one = heads * 2 * size * dtype.itemsize
        # vllm/platforms/interface.py _align_hybrid_block_size, for a backend with kernel blocks of 16
        block = max(16, 16 * -(-state.page_size_bytes // (16 * one)))
        state = interface.replace(state, page_size_padded=block * one)
    result: dict[str, Any] = {}
    for number, name in enumerate(names):
        common = {"block_size": block, "num_kv_heads": heads, "head_size": size, "dtype": dtype}
        if name == "sliding":
            result[f"layers.{number}"] = interface.SlidingWindowSpec(**common, sliding_window=text.sliding_window)
        elif name == "state":
            result[f"layers.{number}"] = state
        elif mla:
            result[f"layers.{number}"] = interface.MLAAttentionSpec(**common)
        else:
            result[f"layers.{number}"] = interface.FullAttentionSpec(**common)
    return result


def _kinds(text: Any, count: int) -> list[str]:
    """From what transformers' class says of each layer, or of all (vllm/engine/arg_utils.py: one window for all)."""
    names = getattr(text, "layers_block_type", None) or getattr(text, "layer_types", None)
    if text.model_type == "mamba":
        return ["state"] * count
    if names:
        return [{"sliding_attention": "sliding", "mamba": "state"}.get(name, "attention") for name in names]
    return ["sliding" if getattr(text, "sliding_window", None) else "attention"] * count


def _state(record: dict[str, Any], text: Any, tp: int) -> Any:
    import torch
    from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
    from vllm.v1.kv_cache_interface import MambaSpec

    if text.model_type == "jamba":
        sizes = (text.mamba_expand * text.hidden_size, text.mamba_d_state, text.mamba_d_conv)
    elif text.model_type == "mamba":
        sizes = (text.intermediate_size, text.state_size, text.conv_kernel)
    else:
        return None
    names = ("intermediate_size", "state_size", "conv_kernel")
    shapes = MambaStateShapeCalculator.mamba1_state_shape(tp_world_size=tp, **dict(zip(names, sizes, strict=True)))
    return MambaSpec(shapes=shapes, dtypes=(torch.bfloat16, torch.bfloat16), block_size=4096)


def blocks(requests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Real engines, started; what they decided about their caches. In one process: to import vLLM takes longest."""
    from vllm.distributed import cleanup_dist_env_and_memory

    found = {}
    for model, arguments in requests.items():
        found[model] = _started(model, arguments)
        cleanup_dist_env_and_memory()
    return found


def _started(model: str, arguments: dict[str, Any]) -> dict[str, Any]:
    from vllm import LLM

    engine = LLM(model=model, enforce_eager=True, gpu_memory_utilization=0.3, **arguments).llm_engine
    config = engine.vllm_config
    return {
        "blocks": config.cache_config.num_gpu_blocks,
        "block": config.cache_config.block_size,
        "batched": config.scheduler_config.max_num_batched_tokens,
        "sequences": config.scheduler_config.max_num_seqs,
        "tokens": config.cache_config.kv_cache_size_tokens,
        "dtype": str(config.model_config.dtype),
    }


def main(words: list[str]) -> None:
    answer = specs(Path(words[1])) if words[0] == "specs" else blocks(json.loads(words[1]))
    print("\n" + json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1:])
