"""Bytes of weights that one rank of an engine holds, from the table of tensors.

Rules, read from vLLM 0.32 (files below ``vllm/model_executor/``):

- linear layers are cut by TP (``layers/linear.py``); of K and V a rank holds max(1, KV heads // TP) heads, so that few heads
  are replicated; norms, biases, routers (``ReplicatedLinear``), MLA's down projections and position tables are on every rank;
- embedding and output matrix have their rows padded to a multiple of 64, then cut by TP
  (``layers/vocab_parallel_embedding.py``);
- what is published but not loaded counts nothing: a tied output matrix, rotary tables, masks, layers for speculation that was
  not asked for; the output matrix of an embedding model (``models/adapters.py``);
- floating-point weights take the engine's dtype; quantised ones and their scales stay as they are;
- MXFP4 experts are padded to multiples of 128 and 256 (``layers/fused_moe/oracle/mxfp4.py``);
- of a pipeline, the stage that holds most decides; all experts are resident.

What is not certain is counted as the larger; ``pickle`` weights are taken to be all floating point of the model's own dtype.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Iterable, List, Sequence

from .arch import Architecture
from .kvcache import stage_layers
from .tensors import FLOATS, WHOLE_FILE, Row, elements, numbers

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


def weights(
    table: Iterable[Row],
    arch: Architecture,
    *,
    dtype_bytes: int,
    tp: int = 1,
    pp: int = 1,
    pooling: bool = False,
    speculative: bool = False,
    online_fp8: bool = False,
) -> Weights:
    """The weights of ``arch`` whose tensors are ``table``."""
    table = list(table)
    stages = stage_layers(len(arch.layers), pp)
    ranks: List[float] = [0.0] * pp
    exact = True
    for row in table:
        if not _loaded(row, arch, pooling, speculative):
            continue
        exact = exact and row["dtype"] != WHOLE_FILE
        size = _held(row, arch, tp, _sized(row, arch, dtype_bytes, online_fp8))
        decoder = "layers" in row and not _SIDE.search(row["name"])
        places = numbers(row["layers"]) if decoder else ()
        for stage, own in enumerate(stages):
            last = stage == pp - 1
            if places:
                inside = sum(1 for place in places if place in own or (last and speculative and place >= len(arch.layers)))
                ranks[stage] += size * row["count"] * inside / len(places)
            elif pp == 1 or stage == (pp - 1 if _HEAD.search(row["name"]) else 0) or row["dtype"] == WHOLE_FILE:
                ranks[stage] += size * row["count"]
            elif arch.tied and last and _EMBEDDING.search(row["name"]) and row["shape"][:1] == [arch.vocab]:
                ranks[stage] += size * row["count"]  # the last stage needs the tied matrix too
    return Weights(tuple(-int(-rank // 1) for rank in ranks), sum(row["size"] * row["count"] for row in table), exact)


def _loaded(row: Row, arch: Architecture, pooling: bool, speculative: bool) -> bool:
    name = row["name"]
    if _UNUSED.search(name):
        return False
    if _HEAD.search(name) and (pooling or arch.tied):
        return False
    beyond = "layers" in row and not _SIDE.search(name) and min(numbers(row["layers"])) >= len(arch.layers) > 0
    return speculative or not (beyond or _DRAFT.search(name))


def _sized(row: Row, arch: Architecture, dtype_bytes: int, online_fp8: bool) -> float:
    """Bytes of one tensor once it is loaded, before it is cut."""
    if row["dtype"] == WHOLE_FILE:
        # A pickle holds what config.json says; where it says nothing, the whole file is the bound.
        return float(row["size"]) * dtype_bytes / DTYPE_BYTES.get(arch.dtype, dtype_bytes)
    if row["name"].endswith("A_log"):
        # Mamba's state matrix is float32 whatever the rest is (layers/mamba/mamba_mixer.py).
        return float(elements(row) * 4)
    scales = arch.quantization and row["dtype"] in ("F32", "F64")
    if row["dtype"] in FLOATS and not scales:
        matrix = len(row["shape"]) >= 2 and not (_EMBEDDING.search(row["name"]) or _HEAD.search(row["name"]))
        linear = matrix and not _REPLICATED.search(row["name"])
        return float(elements(row) * (1 if online_fp8 and linear else dtype_bytes))
    if arch.quantization == "mxfp4" and "experts" in row["name"] and arch.hidden:
        grown = _round(arch.intermediate, 128) / arch.intermediate * _round(arch.hidden, 256) / arch.hidden
        return float(row["size"]) * grown
    return float(row["size"])


def _held(row: Row, arch: Architecture, tp: int, size: float) -> float:
    """What of ``size`` bytes one rank holds."""
    name, shape = row["name"], row["shape"]
    side = _SIDE.search(name)
    part = 1 / tp
    if _EMBEDDING.search(name) or _HEAD.search(name):
        padded = len(shape) == 2 and (shape[0] == arch.vocab or _HEAD.search(name))
        part = _round(shape[0], 64) / shape[0] / tp if padded else 1.0
    elif row["dtype"] != WHOLE_FILE and (len(shape) < 2 or (_REPLICATED.search(name) and not side)):
        part = 1.0
    elif arch.kv_heads and not side and not arch.encoder and "experts" not in name:
        key_value = max(1, arch.kv_heads // tp) / arch.kv_heads
        if _FUSED.search(name):
            part = (arch.heads / tp + 2 * arch.kv_heads * key_value) / (arch.heads + 2 * arch.kv_heads)
        elif _KEY_VALUE.search(name):
            part = key_value
    return size * part


def _round(value: int, to: int) -> int:
    return -(-value // to) * to
