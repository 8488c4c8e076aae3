"""Quantised matrices that cannot be cut into as many parts as an engine has ranks: scales belong to blocks of columns.

Rules: read from the table of tensors, so that only what is quantised is judged; a matrix whose columns are cut by TP (the
second of an MLP, the last of attention) must leave whole blocks on each rank. fp8 with ``weight_block_size``
(``layers/quantization/utils/fp8_utils.py`` validate_fp8_block_shape; experts in ``fp8.py`` create_weights); AWQ with its
``group_size`` (``auto_awq.py``, ``awq.py``: "input size is not aligned"). Since 0.29 blocks of experts are made finer, to 32
(``fused_moe/oracle/fp8.py`` refine_fp8_moe_block_shape). With expert parallel whole experts are on each rank.
"""

from __future__ import annotations

import math
import re
from typing import Iterator, Optional

from ...settings.model import MODELS_JSON, Mistake, Model
from ..architecture import Architecture
from ..arguments import Arguments
from ..engine_memory import Facts
from ..tensor_table import Row

_CUT_BY_COLUMNS = re.compile(r"(?:^|\.)(?:down_proj|o_proj|out_proj|w2)\.q?weight$")
_SIDE = re.compile(r"(?:^|\.)(?:visual|vision\w*|audio\w*)\.|(?:^|\.)mtp\.")
_EXPERT = re.compile(r"(?:^|\.)experts\.")
_FINEST = 32  # below that blocks of experts are not made finer


def quantised_shards(model: Model, known: Facts, args: Arguments) -> Iterator[Mistake]:
    """One line where a rank would hold a part of a block."""
    block = known.arch.block
    if not block or args.tp * args.dp == 1:
        return
    for row in known.tensors:
        columns = _columns(row, known.arch)
        if columns is None or _SIDE.search(row["name"]):
            continue
        ranks = _ranks(row["name"], args)
        if ranks == 1 or _whole_blocks(columns, ranks, block, row, known.arch, args):
            continue
        fits = [str(size) for size in (1, 2, 4, 8) if columns % (size * block) == 0]
        name = row["name"].rpartition(".")[0].rpartition("*.")[2]
        what = (
            f"{ranks} parts of {name} have {columns / ranks:g} columns, no whole blocks of {block} ({known.arch.quantization})"
        )
        more = ", or enable_expert_parallel" if _EXPERT.search(row["name"]) else ""
        yield Mistake(MODELS_JSON, f"models.{model.key}.tensor_parallel_size", what, f"use one of {', '.join(fits)}{more}")
        return


def _columns(row: Row, arch: Architecture) -> Optional[int]:
    """Columns of a quantised matrix that is cut by them; None for any other tensor."""
    if not _CUT_BY_COLUMNS.search(row["name"]) or len(row["shape"]) != 2:
        return None
    rows, columns = row["shape"]
    if arch.quantization == "fp8" and row["dtype"].startswith("F8_"):
        return int(columns)
    # AWQ has its matrices turned, and leaves the columns unpacked.
    return int(rows) if arch.quantization == "awq" and row["dtype"] == "I32" and not _EXPERT.search(row["name"]) else None


def _ranks(name: str, args: Arguments) -> int:
    if not _EXPERT.search(name):
        return args.tp
    return 1 if args.on("enable-expert-parallel") else args.tp * args.dp


def _whole_blocks(columns: int, ranks: int, block: int, row: Row, arch: Architecture, args: Arguments) -> bool:
    part, rest = divmod(columns, ranks)
    if rest or part % block == 0:
        return True  # what does not divide at all is refused for its heads, or padded
    finer = math.gcd(math.gcd(block, part), arch.hidden)
    return _EXPERT.search(row["name"]) is not None and args.vllm.refines_expert_blocks and finer >= _FINEST
