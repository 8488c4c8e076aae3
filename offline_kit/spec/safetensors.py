"""The header of a safetensors file: whether it is whole, without reading the tensors.

Rules: pure; a file is 8 bytes of little-endian header length, a JSON object, then the tensors, which must fill the rest of
the file without gap or overlap: so a file that was cut off or glued together is found from its head and its size alone.
"""

from __future__ import annotations

import json
from typing import Any, TypeGuard

PREFIX = 8
LIMIT = 100_000_000  # what the safetensors library itself accepts

# Bits of one element. A type that is not known here is new, not wrong: its size is then taken as declared.
_BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
_BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
_BITS |= {"I64": 64, "U64": 64, "F64": 64, "C64": 64}


def head_length(prefix: bytes) -> int:
    """How many bytes from the start of the file ``check`` needs, read from the first 8; never more than LIMIT + 8."""
    return PREFIX + min(int.from_bytes(prefix[:PREFIX], "little"), LIMIT)


def check(head: bytes, size: int) -> str | None:
    """What is wrong with the file of ``size`` bytes that starts with ``head`` (``head_length`` bytes of it), or None."""
    length = int.from_bytes(head[:PREFIX], "little")
    if size < PREFIX or length > LIMIT or PREFIX + length > size:
        return f"declares a safetensors header of {length} bytes in a file of {size}"
    if len(head) < PREFIX + length:
        return "its safetensors header was not read whole"
    try:
        tensors = json.loads(head[PREFIX : PREFIX + length].decode(), object_pairs_hook=_unique)
        if not isinstance(tensors, dict):
            raise ValueError("not an object")
        spans = sorted(_span(name, entry) for name, entry in tensors.items() if name != "__metadata__")
    except (ValueError, RecursionError) as error:
        return f"its safetensors header cannot be read: {error}"
    position = 0
    for start, end, name in spans:
        if start != position:
            return f"tensor {name!r} starts at {start} where {position} is expected"
        position = end
    if PREFIX + length + position != size:
        return f"its tensors need {PREFIX + length + position} bytes, the file has {size}"
    return None


def _span(name: str, entry: Any) -> tuple[int, int, str]:
    """Start, end and name of a tensor, its length proven from type and shape."""
    if not isinstance(entry, dict):
        raise ValueError(f"tensor {name!r} is not an object")
    shape, offsets, kind = entry.get("shape"), entry.get("data_offsets"), entry.get("dtype")
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2 and isinstance(kind, str)):
        raise ValueError(f"tensor {name!r} lacks dtype, shape or data_offsets")
    start, end = offsets
    elements = 1
    for dimension in shape:
        elements = min(elements * dimension, 1 << 63)  # a hostile shape must not become a number of a million digits
    if end < start or (kind in _BITS and (end - start) * 8 != elements * _BITS[kind]):
        raise ValueError(f"tensor {name!r} ({kind} {shape}) cannot fill bytes {start} to {end}")
    return start, end, name


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name is given twice")
    return record
