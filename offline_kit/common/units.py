"""Sizes for people: the one place that prints them.

Rules: binary units, one decimal. What the GPU plan prints is in the units of GPUs, by ``runtime/settings/sizes.py``, which
reads sizes too and runs where this package is not.
"""

from __future__ import annotations


def size(count: int) -> str:
    """``count`` bytes in binary units: 1.5 GiB."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
