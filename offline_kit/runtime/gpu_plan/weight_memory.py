"""Bytes of weights that one rank of an engine holds, from the table of tensors.

Rules, read from vLLM 0.32 (files below ``vllm/model_executor/``):

- linear layers are cut by TP (``layers/linear.py``); of K and V a rank holds max(1, KV heads // TP) heads, so that few heads
  are replicated; norms, biases, routers (``ReplicatedLinear``), MLA's down projections and position tables are on every rank;
- embedding and output matrix have their rows padded to a multiple of 64, then cut by TP
  (``layers/vocab_parallel_embedding.py``);
- what is published but not loaded counts nothing: a tied output matrix, rotary tables, masks, layers for speculation that was
  not asked for; the output matrix of an embedding model (``models/adapters.py``);
- floating-point weights take the engine's dtype; quantised ones and their scales stay as they are;
- MXFP4 experts are padded to multiples of 128 and 256 (``layers/fused_moe/oracle/mxfp4.py``); on compute capability 9 to 10
  they run on Triton kernels, where two logs disagree, one of 120B with its hidden size padded, one of 20B without: the larger
  counts;
- of a pipeline, the stage that holds most decides; all experts are resident, cut by TP x DP, or whole experts on each with
  expert parallel (``layers/fused_moe/config.py`` FusedMoEParallelConfig);
- bitsandbytes packs linear layers as they are loaded: 4 bits a value and a scale for 64 (``quantization/bitsandbytes.py``);
- beside what is published: tables of rotary embeddings (``layers/rotary_embedding``), and of quantised MLA models W_UK and
  W_UV in the model's dtype (``layers/attention/mla_attention.py`` process_weights_after_loading).

What is not certain is counted as the larger; ``pickle`` weights are taken to be all floating point of the model's own dtype.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, Sequence, Tuple

from .architecture import MLA, Architecture
from .kv_cache import stage_layers
from .tensor_table import FLOATS, WHOLE_FILE, Row, elements, numbers

DTYPE_BYTES = {"float64": 8, "float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_UNUSED = re.compile(r"rotary_emb\.inv_freq|position_ids|masked_bias|(?:^|\.)(?:attn|attention)\.bias$|num_batches_tracked")
_EMBEDDING = re.compile(r"(?:embed_tokens|word_embeddings|tok_embeddings|wte|embed_in|embeddings?)\.weight$")
_HEAD = re.compile(r"(?:^|\.)(?:lm_head|embed_out|output)\.weight$|^cls\.predictions|^lm_head\.")
_REPLICATED = re.compile(
    r"q_a_proj|kv_a_proj|router|(?:mlp|moe|block_sparse_moe|feed_forward)\.gate\.|position_embeddings|wpe\.|token_type|norm|pooler"
    r"|classifier|shared_expert_gate|indexer"
)
_KEY_VALUE = re.compile(r"(?:^|[._])(?:k|v|key|value|wk|wv)(?:_proj)?\.(?!.*experts)[a-z_]+$")
_FUSED = re.compile(r"qkv_proj|query_key_value|c_attn|Wqkv|qkv\.|wqkv")
_SIDE = re.compile(r"(?:^|\.)(?:visual|vision|vision_tower|vision_model|audio_tower|multi_modal_projector|mm_|model\.visual)")
_EXPERTS = re.compile(r"(?:^|\.)experts\.")
ONLINE = {"fp8": 1.0, "bitsandbytes": 0.5 + 4 / 64}  # bytes a value
_DRAFT = re.compile(r"(?:^|\.)mtp\.")


@dataclass(frozen=True)
class Weights:
    """``ranks``: bytes on one GPU of each pipeline stage; ``stored``: bytes as published; ``exact``: no bound was needed."""

    ranks: Sequence[int]
    stored: int
    exact: bool = True

    @property
    def rank(self) -> int:
        return max(self.ranks, default=0)


@dataclass(frozen=True)
class Loading:
    """How an engine loads. ``online``: what it quantises to as it loads; ``triton``: MXFP4 experts run on Triton kernels;
    ``blind``: the tower for images is left out; ``tower_alone``: every rank has the whole tower."""

    dtype_bytes: int
    tp: int = 1
    pp: int = 1
    dp: int = 1
    pooling: bool = False
    speculative: bool = False
    online: str = ""
    triton: bool = False
    expert_parallel: bool = False
    blind: bool = False
    tower_alone: bool = False


def weights(table: Iterable[Row], arch: Architecture, how: Loading) -> Weights:
    """The weights of ``arch`` whose tensors are ``table``."""
    table = list(table)
    loaded = [row for row in table if _is_loaded(row, arch, how)]
    stages = stage_layers(len(arch.layers), how.pp)
    ranks = [sum(_on_stage(row, arch, how, stage) for row in loaded) for stage in enumerate(stages)]
    exact = all(row["dtype"] != WHOLE_FILE for row in loaded)
    return Weights(tuple(-int(-rank // 1) for rank in ranks), sum(row["size"] * row["count"] for row in table), exact)


def derived(arch: Architecture, how: Loading, length: int) -> int:
    """Bytes that a rank makes of the weights, or beside them, when it has loaded them; vLLM reports them with the weights."""
    positions = max(arch.longest, length) if arch.rotary else 0
    unpacked = 0
    if arch.quantization and arch.latent:
        # Keys and values of the latent row: heads x latent x (query without rotary part + value).
        latent = [layer for layer in arch.layers if any(cache.kind == MLA for cache in layer)]
        unpacked = len(latent) // how.pp * arch.heads // how.tp * arch.latent * arch.unpacked_size
    return (positions * arch.rotary + unpacked) * how.dtype_bytes


def _is_loaded(row: Row, arch: Architecture, how: Loading) -> bool:
    name = row["name"]
    if _UNUSED.search(name) or (how.blind and _SIDE.search(name)):
        return False
    if _HEAD.search(name) and (how.pooling or arch.tied):
        return False
    beyond = "layers" in row and not _SIDE.search(name) and min(numbers(row["layers"])) >= len(arch.layers) > 0
    return how.speculative or not (beyond or _DRAFT.search(name))


def _on_stage(row: Row, arch: Architecture, how: Loading, stage: Tuple[int, range]) -> float:
    """Bytes of the tensors of ``row`` on one rank of a pipeline's stage (its number and its layers)."""
    number, own = stage
    size = float(_rank_share(row, arch, how) * row["count"])
    last = number == how.pp - 1
    if "layers" in row and not _SIDE.search(row["name"]):
        places = numbers(row["layers"])
        inside = sum(1 for place in places if place in own or (last and how.speculative and place >= len(arch.layers)))
        return float(size * inside / len(places))
    if how.pp == 1 or number == (how.pp - 1 if _HEAD.search(row["name"]) else 0) or row["dtype"] == WHOLE_FILE:
        return size
    # The last stage needs the tied matrix too.
    tied = arch.tied and last and _EMBEDDING.search(row["name"]) and row["shape"][:1] == [arch.vocab]
    return size if tied else 0.0


def _rank_share(row: Row, arch: Architecture, how: Loading) -> float:
    """What one rank holds of one tensor."""
    return _sized(row, arch, how) * _part(row, arch, how)


def _sized(row: Row, arch: Architecture, how: Loading) -> float:
    """Bytes of one tensor once it is loaded, before it is cut."""
    if row["dtype"] == WHOLE_FILE:
        # A pickle holds what config.json says; where it says nothing, the whole file is the bound.
        return float(row["size"]) * how.dtype_bytes / DTYPE_BYTES.get(arch.dtype, how.dtype_bytes)
    if row["name"].endswith("A_log"):
        # Mamba's state matrix is float32 whatever the rest is (layers/mamba/mamba_mixer.py).
        return float(elements(row) * 4)
    scales = arch.quantization and row["dtype"] in ("F32", "F64")
    if row["dtype"] in FLOATS and not scales:
        return elements(row) * _bytes_a_value(row, how)
    if arch.quantization == "mxfp4" and "experts" in row["name"] and arch.hidden:
        return float(row["size"]) * _padding(row, arch, how)
    return float(row["size"])


def _bytes_a_value(row: Row, how: Loading) -> float:
    name = row["name"]
    matrix = len(row["shape"]) >= 2 and not (_EMBEDDING.search(name) or _HEAD.search(name))
    linear = matrix and not _REPLICATED.search(name)
    return ONLINE.get(how.online, how.dtype_bytes) if linear else how.dtype_bytes


def _padding(row: Row, arch: Architecture, how: Loading) -> float:
    hidden = _round(arch.hidden, 256) / arch.hidden
    if how.triton:
        return hidden if row["name"].endswith("_blocks") else 1.0
    return _round(arch.expert_width, 128) / arch.expert_width * hidden if arch.expert_width else hidden


def _part(row: Row, arch: Architecture, how: Loading) -> float:
    """The share of one tensor that one rank holds."""
    name, shape, tp = row["name"], row["shape"], how.tp
    if row["dtype"] == WHOLE_FILE:
        return 1 / tp
    if _EMBEDDING.search(name) or _HEAD.search(name):
        padded = len(shape) == 2 and (shape[0] == arch.vocab or _HEAD.search(name))
        return float(_round(shape[0], 64) / shape[0] / tp) if padded else 1.0
    whole = how.tower_alone if _SIDE.search(name) else _REPLICATED.search(name) and not _EXPERTS.search(name)
    if len(shape) < 2 or whole:
        return 1.0
    if _EXPERTS.search(name):
        return _part_of_experts(arch, how)
    cut_by_heads = arch.kv_heads and not arch.encoder and not _SIDE.search(name)
    return _part_of_attention(name, arch, tp) if cut_by_heads else 1 / tp


def _part_of_experts(arch: Architecture, how: Loading) -> float:
    ranks = how.tp * how.dp
    return -(-arch.experts // ranks) / arch.experts if how.expert_parallel and arch.experts else 1 / ranks


def _part_of_attention(name: str, arch: Architecture, tp: int) -> float:
    """Of K and V a rank holds whole heads."""
    key_value = max(1, arch.kv_heads // tp) / arch.kv_heads
    if _FUSED.search(name):
        return (arch.heads / tp + 2 * arch.kv_heads * key_value) / (arch.heads + 2 * arch.kv_heads)
    return key_value if _KEY_VALUE.search(name) else 1 / tp


def _round(value: int, to: int) -> int:
    return -(-value // to) * to
