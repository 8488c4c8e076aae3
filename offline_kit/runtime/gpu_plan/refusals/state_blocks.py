"""Engines with state layers: every sequence that runs at once needs a block of its own.

Rules: since 0.20 vLLM refuses to start where whole decoding steps are captured as CUDA graphs (the default) and
``max_num_seqs`` is above the number of blocks (``config/compilation.py``: "exceeds available Mamba cache blocks"). The default
of max_num_seqs is 1024 on large cards, so that models which fit well are refused. The highest value that starts is named for
the fewest blocks that the estimates leave; a lower value leaves more of them, so that it is searched for, not read off.
"""

from __future__ import annotations

from ...settings.model import MODELS_JSON, Mistake, Model
from ..architecture import STATE
from ..engine_memory import Demand
from ..overhead.estimate import Estimate

ARGUMENT = "max-num-seqs"


def needs_a_block_each(need: Demand) -> bool:
    """Whether vLLM compares max_num_seqs with the blocks of this engine."""
    states = any(page.kind == STATE for group in need.pool.groups for _, page in group.members)
    return states and need.args.full_graphs and need.args.vllm.refuses_few_state_blocks


def too_many_sequences(model: Model, need: Demand, blocks: Estimate, most: int) -> Mistake:
    """``max_num_seqs`` is above so many blocks; ``most``: the highest that starts, 0 for none."""
    given = ARGUMENT in need.args.given
    counted = str(blocks.most) if blocks.least == blocks.most else f"{blocks.least} to {blocks.most}"
    what = f"max_num_seqs is {need.args.sequences}{'' if given else ' by default'}, its state layers have {counted} blocks"
    remedy = f"set max_num_seqs to {most} or less" if most else "raise gpu_memory_utilization, or take a larger GPU"
    return Mistake(MODELS_JSON, f"models.{model.key}.engine_args.{ARGUMENT}", what, remedy)
