"""LoRA: the room that is reserved for adapters beside the weights.

Rules: for every matrix of a layer, as many A (rank x columns) and B (rows x rank) as may be active at once, in the model's
dtype (``lora/layers/*.py`` create_lora_weights); B is cut by TP with its matrix. vLLM reports them with the weights. A log of
two adapters of rank 16 says 0.18 GiB where this makes 0.16. Besides, the same log (0.27.1, whose graphs are not counted) has
1.06 GiB less for the KV cache than without adapters, of which no derivation was found: the bound, beside ``graphs``.
"""

from __future__ import annotations

from typing import Sequence

from ...settings.sizes import GIB
from ..arguments import Arguments
from ..tensor_table import Row
from .estimate import NOTHING, Estimate

BESIDES = Estimate(0, GIB // 4, 5 * GIB // 4)


def adapters(tensors: Sequence[Row], args: Arguments) -> int:
    """Bytes on one rank."""
    if not args.on("enable-lora"):
        return 0
    rank, active = args.integer("max-lora-rank", 16), args.integer("max-loras", 1)
    matrices = [row for row in tensors if len(row["shape"]) == 2 and "layers" in row]
    values = sum((row["shape"][1] + row["shape"][0] // args.tp) * row["count"] for row in matrices)
    return int(rank * active * values * args.dtype_bytes)


def besides(args: Arguments) -> Estimate:
    """What adapters take in the trial run beside the room for them."""
    return BESIDES if args.on("enable-lora") else NOTHING
