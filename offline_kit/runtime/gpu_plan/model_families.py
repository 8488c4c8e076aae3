"""Peculiarities of model families: how config.json names its numbers, and which layer is of which kind.

Rules: one function a question; what a family leaves out of its config.json is what its configuration class in transformers
assumes; nothing here knows about memory. Read against vLLM 0.32 and transformers 5.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping

# Bidirectional: prefill only, no KV cache (vllm/model_executor/layers/attention/encoder_only_attention.py).
ENCODERS = frozenset((
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "mpnet", "distilbert", "deberta", "deberta-v2", "nomic_bert",
    "modernbert", "new", "gte", "snowflake_arctic_embed", "jina_bert", "eurobert", "neobert", "clip", "siglip",
))  # fmt: skip
# Decoders whose every rule is in this file: what is computed for them is exact and not a bound.
KNOWN = frozenset((
    "llama", "mistral", "mixtral", "ministral", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "qwen2_vl",
    "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "phi", "phi3", "phimoe", "gemma",
    "gemma2", "gemma3", "gemma3_text", "gpt_oss", "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "starcoder2", "falcon", "mpt",
    "opt", "bloom", "cohere", "cohere2", "olmo", "olmo2", "olmo3", "olmoe", "stablelm", "internlm2", "internlm3", "baichuan",
    "glm", "glm4", "glm4_moe", "chatglm", "granite", "granitemoe", "granitemoehybrid", "exaone", "exaone4", "minicpm",
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "llama4_text", "smollm3", "ernie4_5", "ernie4_5_moe",
    "gemma3n_text", "gemma4", "gemma4_text", "glm_moe_dsa", "glm4_moe_lite", "kimi_linear", "minimax_m2",
    "mistral3", "mistral4", "qwen3_5", "qwen3_5_text", "qwen3_5_moe", "qwen3_5_moe_text",
    "hunyuan_v1_dense", "jamba", "bamba", "nemotron_h", "falcon_h1", "mamba", "mamba2", "falcon_mamba", "lfm2", "lfm2_moe",
    "seed_oss", "arcee", "apertus", "dots1", "nemotron",
))  # fmt: skip
KEYS = frozenset((
    "architectures", "model_type", "is_encoder_decoder", "is_decoder", "is_causal", "tie_word_embeddings", "torch_dtype",
    "dtype", "num_labels", "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_attention_heads", "n_head",
    "n_heads", "num_heads", "hidden_size", "n_embd", "d_model", "dim", "n_head_kv", "num_kv_heads", "num_key_value_heads",
    "multi_query_group_num", "num_attention_groups", "multi_query", "new_decoder_architecture", "attn_config", "head_dim",
    "hidden_size_per_head", "kv_channels", "intermediate_size", "ffn_hidden_size", "n_inner", "moe_intermediate_size",
    "shared_expert_intermediate_size", "intermediate_size_mlp", "vocab_size", "padded_vocab_size", "max_position_embeddings",
    "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "sliding_window", "use_sliding_window",
    "max_window_layers", "layer_types", "layers_block_type", "sliding_window_pattern", "attention_chunk_size",
    "no_rope_layers", "no_rope_layer_interval", "full_attention_interval", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim",
    "qk_nope_head_dim", "v_head_dim", "index_topk", "index_head_dim", "n_routed_experts", "num_local_experts", "num_experts",
    "moe_num_experts", "num_nextn_predict_layers", "attn_layer_period", "attn_layer_offset", "attn_layer_indices",
    "hybrid_override_pattern", "expand", "state_size", "conv_kernel", "n_groups", "mamba_expand", "mamba_d_state",
    "mamba_d_conv", "mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_d_ssm", "mamba_num_heads", "mamba_head_dim",
    "ssm_state_size", "mamba_ssm_cache_dtype", "mamba_ssm_dtype", "linear_num_key_heads", "linear_num_value_heads",
    "linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim", "conv_dim", "conv_L_cache",
    "num_experts_per_tok", "num_experts_per_token", "num_global_key_value_heads", "global_head_dim", "num_kv_shared_layers",
    "linear_attn_config", "partial_rotary_factor", "rope_local_base_freq", "model_max_length", "n_shared_experts",
))  # fmt: skip
# Of which kind a value is; what is in none of these is a number, or a list of them.
TEXTS = frozenset(("model_type", "torch_dtype", "dtype", "hybrid_override_pattern", "mamba_ssm_cache_dtype", "mamba_ssm_dtype"))
LISTS = frozenset(("architectures", "layer_types", "layers_block_type", "attn_layer_indices", "no_rope_layers"))
OBJECTS = frozenset(("attn_config", "linear_attn_config"))
SWITCHES = frozenset((
    "is_encoder_decoder", "is_decoder", "is_causal", "tie_word_embeddings", "multi_query", "new_decoder_architecture",
    "use_sliding_window",
))  # fmt: skip
# Numbers that some families give for each layer.
PER_LAYER = frozenset((
    "num_key_value_heads", "num_kv_heads", "n_head_kv", "num_attention_heads", "num_heads", "intermediate_size",
    "ffn_hidden_size", "moe_intermediate_size", "num_experts_per_tok", "num_experts", "n_routed_experts", "num_local_experts",
    "moe_num_experts",
))  # fmt: skip
# What a family's own class assumes where config.json is silent (Gemma ties its embeddings, and publishes no word of it).
_TIED = frozenset((
    "gemma", "gemma2", "gemma3", "gemma3_text", "cohere", "cohere2", "gpt2", "gpt_bigcode", "falcon", "mpt", "bloom", "opt",
    "starcoder2",
))  # fmt: skip


EXPERTS = ("n_routed_experts", "num_local_experts", "num_experts", "moe_num_experts")
# transformers_utils/model_arch_config_convertor.py is_deepseek_mla; Mistral 4 has its own (models/mistral.py).
_LATENT = frozenset((
    "deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "kimi_linear", "longcat_flash", "pangu_ultra_moe", "glm4_moe_lite",
    "glm_moe_dsa", "mistral4",
))  # fmt: skip
_NOT_ROTARY = frozenset(
    ("gpt2", "gpt_bigcode", "bloom", "mpt", "opt", "jamba", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
)
_FOR_IMAGES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5")


def is_encoder(config: Mapping[str, Any]) -> bool:
    """Whether the model reads a text as a whole and keeps no cache."""
    kind = str(config.get("model_type", ""))
    if kind in ENCODERS:
        return not config.get("is_decoder")
    return config.get("is_causal") is False or any("Bidirectional" in name for name in config.get("architectures") or ())


def is_mla(text: Mapping[str, Any]) -> bool:
    """Whether it caches one compressed row a token (multi-head latent attention)."""
    return text.get("model_type") in _LATENT and bool(text.get("kv_lora_rank"))


def kv_heads(text: Mapping[str, Any], heads: int) -> int:
    """KV heads of one layer, before they are spread over GPUs."""
    kind = text.get("model_type")
    if kind == "falcon" and not text.get("new_decoder_architecture") and text.get("multi_query", True):
        return 1
    if kind == "gpt_bigcode" and text.get("multi_query", True):
        return 1
    inner = text.get("attn_config")
    if isinstance(inner, dict) and inner.get("kv_n_heads"):
        return int(inner["kv_n_heads"])
    for name in ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups"):
        value = text.get(name)
        if isinstance(value, list):
            value = max([item for item in value if isinstance(item, int)], default=0)
        if value:
            return int(value)
    return heads


def head_size(text: Mapping[str, Any], hidden: int, heads: int) -> int:
    """Values of one head."""
    for name in ("head_dim", "hidden_size_per_head", "kv_channels"):
        if text.get(name):
            return int(text[name])
    if text.get("model_type") in ("gemma2", "gemma3", "gemma3_text", "gemma"):
        return 256
    return hidden // heads if heads else 0


def dense_width(text: Mapping[str, Any], hidden: int) -> int:
    """The inner size of an MLP that every token passes through; 0 where all layers have experts."""
    dense = [text.get(name) or 0 for name in ("intermediate_size", "ffn_hidden_size", "n_inner", "intermediate_size_mlp")]
    dense = [max(value) if isinstance(value, list) and value else value for value in dense]
    widest = max([int(value) for value in dense if isinstance(value, int)] + [0])
    if expert_width(text) and not text.get("moe_intermediate_size"):
        return int(text.get("intermediate_size_mlp") or 0)
    return widest or (0 if expert_width(text) else 4 * hidden)


def expert_width(text: Mapping[str, Any]) -> int:
    """The inner size of one expert (Mixtral and gpt-oss call it ``intermediate_size``); 0 without experts."""
    if not any(text.get(name) for name in EXPERTS):
        return 0
    for name in ("moe_intermediate_size", "intermediate_size"):
        value = text.get(name)
        value = max([item for item in value if isinstance(item, int)], default=0) if isinstance(value, list) else value
        if isinstance(value, int) and value:
            return value
    return 0


def active_experts(text: Mapping[str, Any]) -> int:
    """How many experts one token passes through."""
    for name in ("num_experts_per_tok", "num_experts_per_token"):
        value = text.get(name)
        value = max([item for item in value if isinstance(item, int)], default=0) if isinstance(value, list) else value
        if isinstance(value, int) and value:
            return value
    return 1


def shared_width(text: Mapping[str, Any]) -> int:
    """The inner size of the experts that all tokens pass through, together."""
    args = text.get("shared_expert_intermediate_size")
    if isinstance(args, int) and args:
        return args
    count = text.get("n_shared_experts")
    return count * expert_width(text) if isinstance(count, int) else 0


def rotary_tables(text: Mapping[str, Any], head: int) -> int:
    """Values for one position in the tables of rotary embeddings that vLLM keeps: their dimensions, over all tables.

    ``layers/rotary_embedding/base.py``: one row of cosines and sines a position, one table for each set of parameters; for
    images four times as many positions (``mrope.py``). 0 for families without.
    """
    kind = str(text.get("model_type", ""))
    if kind in _NOT_ROTARY:
        return 0
    if is_mla(text):
        return int(text.get("qk_rope_head_dim") or 0)
    share = text.get("partial_rotary_factor", 0.25 if kind.startswith(("qwen3_next", "qwen3_5")) else 1)
    values = int(head * share) if isinstance(share, (int, float)) else head
    values *= 4 if kind.startswith(_FOR_IMAGES) else 1
    return values * (2 if text.get("rope_local_base_freq") or kind.startswith(("gemma3", "gemma4")) else 1)


def is_tied(config: Mapping[str, Any], text: Mapping[str, Any]) -> bool:
    """Whether the output matrix is the embedding, so that it is loaded once."""
    for place in (config, text):
        if "tie_word_embeddings" in place:
            return bool(place["tie_word_embeddings"])
    return text.get("model_type") in _TIED or config.get("model_type") in _TIED


def window(text: Mapping[str, Any]) -> int:
    """The sliding window in tokens, 0 for none: where config.json is silent, what the family's class assumes."""
    return int(text.get("sliding_window", 4096 if text.get("model_type") == "mistral" else 0) or 0)


def layer_kinds(text: Mapping[str, Any], count: int) -> List[str]:
    """Per layer: full, sliding, chunked, state, both (attention and state side by side) or none."""
    kind = str(text.get("model_type", ""))
    own = _OWN.get(kind)
    names = text.get("layer_types") or text.get("layers_block_type")
    if own is not None:
        kinds = own(text, count)
    elif names:
        kinds = [_NAMED.get(str(name), "full") for name in names]
    elif text.get("linear_num_value_heads"):
        kinds = _every(int(text.get("full_attention_interval") or 4), "state", count)
    elif kind in _PATTERNS or isinstance(text.get("sliding_window_pattern"), int):
        kinds = _every(int(text.get("sliding_window_pattern") or _PATTERNS.get(kind, 1)), "sliding", count)
    elif window(text) and text.get("use_sliding_window", not kind.startswith("qwen")):
        kinds = ["sliding"] * count
    else:
        kinds = ["full"] * count
    kinds = [*kinds[:count], *["full"] * (count - len(kinds))]
    # The last layers read what earlier ones cached (gemma3n.py, gemma4.py kv_sharing_target_layer_name).
    shared = int(text.get("num_kv_shared_layers") or 0)
    return [*kinds[: count - shared], *["none"] * shared] if 0 < shared < count else kinds


def _every(period: int, other: str, count: int) -> List[str]:
    """Each ``period``-th layer is full attention."""
    return ["full" if (number + 1) % period == 0 else other for number in range(count)]


def _jamba(text: Mapping[str, Any], count: int) -> List[str]:
    period, offset = int(text.get("attn_layer_period") or 8), int(text.get("attn_layer_offset") or 4)
    return ["full" if number % period == offset else "state" for number in range(count)]


def _bamba(text: Mapping[str, Any], count: int) -> List[str]:
    return ["full" if number in (text.get("attn_layer_indices") or ()) else "state" for number in range(count)]


def _nemotron_h(text: Mapping[str, Any], count: int) -> List[str]:
    del count
    return [{"M": "state", "*": "full"}.get(letter, "none") for letter in text.get("hybrid_override_pattern") or ""]


def _llama4(text: Mapping[str, Any], count: int) -> List[str]:
    every = int(text.get("no_rope_layer_interval") or 4)
    rope = text.get("no_rope_layers") or [int((number + 1) % every != 0) for number in range(count)]
    return ["chunked" if flag else "full" for flag in rope]


def _kimi_linear(text: Mapping[str, Any], count: int) -> List[str]:
    args = text.get("linear_attn_config")
    full = args.get("full_attn_layers") if isinstance(args, dict) else None  # counted from 1
    full = full if isinstance(full, list) else []
    return ["full" if number + 1 in full else "state" for number in range(count)]


_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
_OWN: Dict[str, Callable[[Mapping[str, Any], int], List[str]]] = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), lambda text, count: ["state"] * count),
    "falcon_h1": lambda text, count: ["both"] * count,
    "nemotron_h": _nemotron_h,
    "jamba": _jamba,
    "bamba": _bamba,
    "llama4_text": _llama4,
    "kimi_linear": _kimi_linear,
}
_NAMED = {
    **dict.fromkeys(("full_attention", "attention", "global_attention", "full"), "full"),
    **dict.fromkeys(("sliding_attention", "sliding_window"), "sliding"),
    **dict.fromkeys(("mamba", "linear_attention", "conv", "recurrent"), "state"),
    **dict.fromkeys(("mlp", "moe"), "none"),
    "chunked_attention": "chunked",
    "hybrid": "both",
}
