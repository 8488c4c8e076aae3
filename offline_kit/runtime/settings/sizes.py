"""Sizes in words: parsing what people write, and writing what people read. 1 KiB is 1024 bytes."""

from __future__ import annotations

import re
from typing import Any

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_UNITS = {
    "": 1,
    **dict.fromkeys(("k", "kib"), KIB),
    **dict.fromkeys(("m", "mib"), MIB),
    **dict.fromkeys(("g", "gib"), GIB),
    **dict.fromkeys(("t", "tib"), GIB << 10),
    **{"kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4},
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")


def parse_bytes(value: Any) -> int:
    """Bytes of ``32M``, ``48GiB``, ``1.5g`` or a number: the one rule for sizes, wherever a person writes one.

    KiB, MiB, GiB, TiB and the capitals K, M, G, T are powers of 1024; KB, MB, GB, TB (in any case) and the lower case letters
    k, m, g, t are powers of 1000. That is vLLM's own rule (``utils/argparse_utils.py`` human_readable_int), which decides what
    an argument of an engine means. Raises ValueError.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value)
    match = _SIZE.fullmatch(str(value).strip())
    if match is None or match.group(2).lower() not in _UNITS:
        raise ValueError(f"'{value}' is not a size: write it like 48GiB")
    number, unit = float(match.group(1)), match.group(2)
    if unit in ("k", "m", "g", "t"):
        return int(number * 1000 ** ("kmgt".index(unit) + 1))
    return int(number * _UNITS[unit.lower()])


def mib(count: float) -> str:
    """``count`` bytes in MiB: 31,245 MiB."""
    return f"{count / MIB:,.0f} MiB"


def gib(count: float) -> str:
    """``count`` bytes in GiB: 30.51 GiB."""
    return f"{count / GIB:,.2f} GiB"
