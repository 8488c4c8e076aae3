"""Asks the kernel for the right to use AMX tiles; vLLM loads this as a plugin into each of its processes.

Rules: the kernel kills a process that uses tiles without having asked (SIGILL), and vLLM's attention kernels do not ask: they
rely on a matrix product of torch that asked before. That needs a prompt of some length, so that an engine whose first request
was of a few tokens died of it. On a processor without AMX nothing happens.
"""

from __future__ import annotations

import torch


def register() -> None:
    if torch.cpu._is_amx_tile_supported():
        torch.cpu._init_amx()
