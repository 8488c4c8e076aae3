"""What of a model's config.json decides how much memory an engine takes: its layers and what each of them caches.

Rules: ``subset`` keeps the keys that are read here and drops the rest, so that a lock carries facts and not prose; ``read``
never fails on a model that it does not know: it takes every layer for full attention, which is an upper bound, and says so
(``exact`` False, ``notes``). Sources are vLLM 0.32: number of KV heads, head size and MLA from
``transformers_utils/model_arch_config_convertor.py``; kinds of layers from the model files (``per_layer_sliding_window`` in
gemma2.py, gemma3.py, llama.py; ``ChunkedLocalAttention`` in llama4.py; ``get_layers_start_end_indices`` and block types in
``config/model.py``); one window for all layers without ``layer_types`` from ``engine/arg_utils.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional, Tuple

from . import model_families
from .overhead import tower
from .overhead.tower import Tower
from .recurrent_state import State, state_of
from .refusals import context_length
from .refusals.context_length import NO_SCALING, RopeScaling, rope_scaling_of

FULL, SLIDING, CHUNKED, MLA, STATE = "full", "sliding", "chunked", "mla", "state"
LONGEST = 1 << 12  # layers, and items of a list
_TEXT = ("text_config", "llm_config", "language_config", "thinker_config")


@dataclass(frozen=True)
class Cache:
    """What one layer caches. ``heads`` are KV heads of the whole model; ``sizes`` the K and V values of one head."""

    kind: str
    heads: int = 0
    sizes: int = 0
    window: int = 0
    state: Optional[State] = None
    fixed_bytes: int = 0  # bytes of one value where the cache's dtype does not follow the model's


@dataclass(frozen=True)
class Architecture:
    """The facts of one model. ``layers``: per decoder layer what it caches (nothing, one or two caches).

    ``longest``: positions as published, ``rope_scaling``: what becomes of them; ``block``: columns that share a
    scale of quantised weights; ``query_size``: values of one query head; ``latent``: of the row that MLA caches, without its
    rotary part (``sparse``: it reads chosen rows), and ``unpacked_size`` of the key and value that one head makes of it;
    ``rotary``: of one position in the rotary tables.
    """

    model_type: str
    layers: Tuple[Tuple[Cache, ...], ...]
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocab: int
    dtype: str
    tied: bool
    longest: int
    rope_scaling: RopeScaling = NO_SCALING
    experts: int = 0
    expert_width: int = 0
    active_experts: int = 0
    shared_width: int = 0
    query_size: int = 0
    latent: int = 0
    sparse: bool = False
    unpacked_size: int = 0
    rotary: int = 0
    encoder: bool = False
    vision: Optional[Tower] = None
    quantization: str = ""
    block: int = 0
    exact: bool = True
    notes: Tuple[str, ...] = field(default=())


def subset(config: Mapping[str, Any]) -> Dict[str, Any]:
    """The part of a config.json that ``read`` looks at."""
    config = cleaned(config)
    # "sliding_window": null says that there is none, where a family's class would assume one.
    known = [
        key for key in sorted(config) if key in model_families.KEYS and (config[key] is not None or key == "sliding_window")
    ]
    kept: Dict[str, Any] = {key: config[key] for key in known}
    kept.update(context_length.subset(config))
    for key in _TEXT:
        if isinstance(config.get(key), dict):
            kept[key] = subset(config[key])
    if isinstance(config.get("vision_config"), dict):
        kept["vision_config"] = tower.subset(config["vision_config"])
    if isinstance(config.get("audio_config"), dict):
        kept["audio_config"] = {"model_type": str(config["audio_config"].get("model_type", ""))}
    if isinstance(config.get("mm_tokens_per_image"), int):
        kept["mm_tokens_per_image"] = config["mm_tokens_per_image"]
    quantization = config.get("quantization_config") or config.get("compression_config")
    if isinstance(quantization, dict):
        said = ("quant_method", "bits", "fmt", "format", "kv_cache_scheme", "weight_block_size", "group_size")
        kept["quantization_config"] = {key: quantization[key] for key in said if quantization.get(key) is not None}
    return kept


def cleaned(config: Mapping[str, Any]) -> Dict[str, Any]:
    """``config`` without values that are of another kind than their key: what a stranger wrote cannot end a plan."""
    return {key: value for key, value in config.items() if key not in model_families.KEYS or value is None or _fits(key, value)}


def _fits(key: str, value: Any) -> bool:
    if key in model_families.TEXTS:
        return isinstance(value, str)
    if key in model_families.LISTS:
        kind = int if key in ("attn_layer_indices", "no_rope_layers") else str
        return isinstance(value, list) and len(value) <= LONGEST and all(isinstance(item, kind) for item in value)
    if key in model_families.OBJECTS:
        return isinstance(value, dict)
    if key in model_families.SWITCHES:
        return isinstance(value, bool)
    several = isinstance(value, list) and len(value) <= LONGEST and key in model_families.PER_LAYER
    numbers = value if several else [value]
    most = LONGEST if key in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") else 1 << 40
    return all(_is_number(item, most) for item in numbers) or value == "auto"


def _is_number(value: Any, most: int) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= most


def read(config: Mapping[str, Any]) -> Architecture:
    """The architecture that a config.json (or its ``subset``) describes."""
    text = cleaned(text_config(config))
    config = cleaned(config)
    kind = str(text.get("model_type", ""))
    count = _first(text, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    heads = _first(text, "num_attention_heads", "n_head", "n_heads", "num_heads")
    hidden = _first(text, "hidden_size", "n_embd", "d_model", "dim")
    kv_heads = model_families.kv_heads(text, heads)
    head_size = model_families.head_size(text, hidden, heads)
    encoder = model_families.is_encoder(config)
    notes = []
    if encoder:
        layers: Tuple[Tuple[Cache, ...], ...] = ((),) * count
    else:
        layers = _layers(text, count, kv_heads, head_size)
    exact = encoder or kind in model_families.KNOWN
    if not exact:
        notes.append(f"the architecture '{kind or 'unknown'}' is not known here: every layer is taken for full attention")
    if any(cache.kind == STATE and cache.state is None for layer in layers for cache in layer):
        exact = False
        notes.append("the size of its recurrent state is not known here: counted as full attention")
        layers = tuple(tuple(_grown(cache, kv_heads, head_size) for cache in layer) for layer in layers)
    if config.get("is_encoder_decoder"):
        exact = False
        notes.append("an encoder-decoder: its cross-attention cache is not counted")
    quantization = config.get("quantization_config") or text.get("quantization_config") or {}
    return Architecture(
        model_type=kind,
        layers=layers,
        hidden=hidden,
        intermediate=model_families.dense_width(text, hidden),
        heads=heads,
        kv_heads=kv_heads,
        head_size=head_size,
        vocab=_first(text, "vocab_size", "padded_vocab_size"),
        dtype=str(config.get("torch_dtype") or config.get("dtype") or text.get("torch_dtype") or text.get("dtype") or ""),
        tied=model_families.is_tied(config, text),
        longest=_first(
            text,
            "max_position_embeddings",
            "n_positions",
            "max_seq_len",
            "seq_length",
            "max_sequence_length",
            "model_max_length",
        ),
        rope_scaling=rope_scaling_of(text),
        experts=_first(text, *model_families.EXPERTS),
        expert_width=model_families.expert_width(text),
        active_experts=model_families.active_experts(text),
        shared_width=model_families.shared_width(text),
        query_size=_query_size(text) or head_size,
        latent=int(text["kv_lora_rank"]) if model_families.is_mla(text) else 0,
        sparse=model_families.is_mla(text) and bool(text.get("index_topk")),
        unpacked_size=_first(text, "qk_nope_head_dim") + _first(text, "v_head_dim"),
        rotary=0 if encoder else model_families.rotary_tables(text, head_size),
        encoder=encoder,
        vision=tower.read(config),
        quantization=str(quantization.get("quant_method", "")).lower(),
        block=_block(quantization),
        exact=exact,
        notes=tuple(notes),
    )


def _block(quantization: Mapping[str, Any]) -> int:
    """Columns that share a scale; 0 where a row or the whole matrix has one."""
    size = quantization.get("weight_block_size")
    size = size[-1] if isinstance(size, list) and size else quantization.get("group_size")
    return size if isinstance(size, int) and not isinstance(size, bool) and 0 < size < LONGEST else 0


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration: its own, or that of a model with eyes or ears."""
    for key in _TEXT:
        if isinstance(config.get(key), dict):
            return text_config(config[key])
    return config


def _layers(text: Mapping[str, Any], count: int, kv_heads: int, head_size: int) -> Tuple[Tuple[Cache, ...], ...]:
    full = _latent(text) if model_families.is_mla(text) else (_full(text, kv_heads, head_size),)
    window, chunk = model_families.window(text), int(text.get("attention_chunk_size") or 0)
    state = Cache(STATE, state=state_of(text))
    kinds: Dict[str, Tuple[Cache, ...]] = {
        FULL: full,
        SLIDING: (Cache(SLIDING, kv_heads, 2 * head_size, window),) if window else full,
        CHUNKED: (Cache(CHUNKED, kv_heads, 2 * head_size, chunk),) if chunk else full,
        STATE: (state,),
        "both": (*full, state),
        "none": (),
    }
    return tuple(kinds[name] for name in model_families.layer_kinds(text, count))


def _full(text: Mapping[str, Any], kv_heads: int, head_size: int) -> Cache:
    """The cache of a layer that sees all: Gemma 4 has other heads there (gemma4.py)."""
    heads = _first(text, "num_global_key_value_heads") or kv_heads
    return Cache(FULL, heads, 2 * (_first(text, "global_head_dim") or head_size))


def _latent(text: Mapping[str, Any]) -> Tuple[Cache, ...]:
    row = (Cache(MLA, 1, int(text["kv_lora_rank"]) + _first(text, "qk_rope_head_dim")),)
    index = int(text.get("index_head_dim") or 0)
    if not text.get("index_topk") or not index:
        return row
    # DeepSeek-V3.2, GLM-5: one more row a token, fp8 values and a 4-byte scale for every 128 of them (deepseek_v2.py).
    return (*row, Cache(MLA, 1, index + index // 128 * 4, fixed_bytes=1))


def _query_size(text: Mapping[str, Any]) -> int:
    if not model_families.is_mla(text):
        return 0
    return _first(text, "qk_nope_head_dim") + _first(text, "qk_rope_head_dim")


def _grown(cache: Cache, kv_heads: int, head_size: int) -> Cache:
    return Cache(FULL, kv_heads, 2 * head_size) if cache.kind == STATE and cache.state is None else cache


def _first(text: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = text.get(name)
        if isinstance(value, list):
            value = max([item for item in value if isinstance(item, int)], default=0)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value:
            return int(value)
    return 0
