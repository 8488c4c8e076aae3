"""What is allocated outside of torch while an engine starts, and the buffers that its model runner keeps.

Rules: cuBLAS, compiled kernels and attention workspaces, on one GPU 0.05 to 0.7 GiB (logs: 0.07 to 0.55); with several ranks
NCCL and all-reduce buffers too, of which 0.11 and later count only what comes after their set-up (logs: 1.70 GiB of four
ranks; of 0.10.2 1.38 of two H200, and 0.21 of eight L40S, which have no peer access). The groups of data and expert parallel
have communicators of their own: a log of eight H20 has 0.7 to 1.4 GiB more than those bounds. Before 0.9 all that is used on
the card counts, the CUDA context with it. On unified memory (GB10) "free" is what the system says is available, so that files
in its page cache move the number both ways: two logs say 2.1 GiB less and 4.6 GiB more than nothing; the bounds there are a
guess. The second runner keeps a count of every token of the vocabulary for every sequence
(``v1/worker/gpu/sample/penalties.py``: 4 bytes and a bit each), which is counted since 0.27.
"""

from __future__ import annotations

from ...settings.sizes import GIB
from ..architecture import Architecture
from ..arguments import Arguments
from .activations import runs_on_v2
from .estimate import Estimate

ONE = Estimate(GIB // 20, GIB // 4, 7 * GIB // 10)
SEVERAL = Estimate(GIB // 5, 6 * GIB // 5, 2 * GIB)
WITH_NCCL = Estimate(GIB // 5, 17 * GIB // 10, 12 * GIB // 5)
MORE_GROUPS = Estimate(0, GIB // 2, 5 * GIB // 4)
CONTEXT_COUNTED = Estimate(2 * GIB // 5, 7 * GIB // 10, 6 * GIB // 5)
UNIFIED = Estimate(-5 * GIB, GIB, 5 * GIB)


def libraries(args: Arguments, *, unified: bool) -> Estimate:
    """Memory outside of torch, on one rank."""
    alone = args.tp * args.pp * args.dp == 1
    found = ONE if alone else SEVERAL if args.vllm.snapshot_after_nccl else WITH_NCCL
    found += MORE_GROUPS if args.dp > 1 else Estimate()
    found += Estimate() if args.vllm.takes_a_snapshot else CONTEXT_COUNTED
    return found + UNIFIED if unified else found


def buffers(arch: Architecture, args: Arguments) -> Estimate:
    """What the model runner keeps for as many sequences as may run."""
    if not args.vllm.counts_buffers or not runs_on_v2(arch, args):
        return Estimate()
    return Estimate.exact(args.sequences * (4 * arch.vocab + arch.vocab // 8))
