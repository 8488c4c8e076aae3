"""CUDA graphs: what capturing them takes.

Rules: as vLLM estimates it (``v1/worker/gpu_model_runner.py`` profile_cudagraph_memory): what the first graph of each mode
takes, and for each further one what the second takes, at least a MiB; a graph costs the driver's memory for its kernels, so
that the second part goes with layers x graphs. Derivation: 9 estimates that were logged by the first runner. With 54 or 86
graphs 0.17 to 0.36 MiB a layer and graph (0.37 GiB for 28 layers, 0.52 for 36, 0.64 and 0.78 for 32, 1.59 and 1.94 for 64);
with 5 to 18 graphs the first decides: 0.09, 0.61 and 1.21 GiB, the last of them NVFP4 under WSL2, and outside of the bounds.
With a quantised KV cache FlashInfer may serve, whose workspace of 394 MiB is made then (``flashinfer.py``).
Experts have more kernels a layer: a log of 40 layers of them says 2.22 GiB (TP 4, with a draft), so that their bound is wider.
The second runner makes an estimate since 0.29: one log, 0.69 for 64 layers; what it captured before, 0.37 for 24 layers, is
outside of the shares. Where the version is not known, the bounds of both count. With LoRA all are captured twice
(``cudagraph_specialize_lora``).
"""

from __future__ import annotations

from typing import Tuple

from ...settings.sizes import MIB
from ..architecture import Architecture
from ..arguments import Arguments
from .activations import runs_on_v2
from .estimate import NOTHING, Estimate

FIRST = Estimate(0, 64 * MIB, 160 * MIB)
WORKSPACE = Estimate(0, 128 * MIB, 394 * MIB)
# MiB of one layer in one graph: least, likely, most.
V1 = (0.1, 0.24, 0.36)
V2 = (0.05, 0.12, 0.25)
EXPERTS = 1.4  # times the most


def graphs(arch: Architecture, args: Arguments) -> Estimate:
    """What all graphs of one rank take."""
    if not args.graphs:
        return Estimate()
    count = args.graphs * max(len(arch.layers) // args.pp, 1)
    least, likely, most = _of_a_layer(arch, args)
    twice = 2 if args.on("enable-lora") else 1
    first = FIRST + (WORKSPACE if args.kv_dtype.startswith(("fp8", "nvfp4")) else NOTHING)
    return first + Estimate(int(count * least * MIB), int(count * likely * twice * MIB), int(count * most * twice * MIB))


def _of_a_layer(arch: Architecture, args: Arguments) -> Tuple[float, float, float]:
    least, likely, most = V2 if runs_on_v2(arch, args) else V1
    if not args.vllm.known:
        least, likely, most = V2[0], V1[1], V1[2]
    return least, likely, most * (EXPERTS if arch.experts else 1)
