"""The header of a safetensors file: what tensors it holds, and whether the file is whole, without reading the tensors.

Rules: pure, and the only reader of this format: lock, fetch, verify and plan all ask it, so that they never disagree about a
file. A file is 8 bytes of little-endian header length, a JSON object (name -> dtype, shape, data_offsets), then the tensors,
which fill the rest without gap or overlap: what was cut off or glued together is found from the head and the size alone.
Source: the format's description in safetensors' README.md and its ``safetensors/src/tensor.rs``.
"""

from __future__ import annotations

import json
from typing import Any, Dict, List, Optional, Tuple

PREFIX = 8
# The library takes 100 MB; 8 MiB are some 70,000 tensors in one file, and a header of that size needs 20 times it to be parsed.
LIMIT = 8 << 20
LONGEST_TYPE = 32  # characters

# Bits of one element, by the names of the format. A type that is not known here is new, not wrong: its size is as declared.
BITS: Dict[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_POINTER = b"version https://git-lfs"
Header = Dict[str, Any]


def head_length(prefix: bytes) -> int:
    """How many bytes from the start of the file ``parse`` needs, read from the first 8; never more than LIMIT + 8."""
    return PREFIX + min(int.from_bytes(prefix[:PREFIX], "little"), LIMIT)


def parse(head: bytes, size: int) -> Header:
    """The tensors of the file of ``size`` bytes that starts with ``head`` (``head_length`` bytes of it), by name.

    Raises ValueError that says what is wrong with the file.
    """
    if head.startswith(_POINTER[:PREFIX]) and _POINTER.startswith(head[: len(_POINTER)]):
        raise ValueError("it is a git-LFS pointer, not the weights: 'git lfs pull' brings them")
    length = int.from_bytes(head[:PREFIX], "little")
    if size < PREFIX or length > LIMIT or PREFIX + length > size:
        raise ValueError(f"it declares a header of {length} bytes in a file of {size}")
    if len(head) < PREFIX + length:
        raise ValueError("its header was not read whole")
    try:
        tensors = json.loads(head[PREFIX : PREFIX + length].decode("utf-8"), object_pairs_hook=_unique)
        if not isinstance(tensors, dict):
            raise ValueError("not an object")
        tensors.pop("__metadata__", None)
        spans = sorted(_span(name, entry) for name, entry in tensors.items())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its header cannot be read: {str(error)[:200]}") from error
    _check_spans(spans, size - PREFIX - length)
    return tensors


def fault(head: bytes, size: int) -> Optional[str]:
    """What is wrong with the file, as ``parse`` finds it, or None."""
    try:
        parse(head, size)
    except ValueError as error:
        return f"not a whole safetensors file: {error}"
    return None


def _check_spans(spans: List[Tuple[int, int, str]], room: int) -> None:
    """The tensors fill ``room`` bytes, one behind the other."""
    position = 0
    for start, end, name in spans:
        if start != position:
            raise ValueError(f"tensor {name[:100]!r} starts at {start} where {position} is expected")
        position = end
    if position != room:
        raise ValueError(f"its tensors need {position} bytes, the file has {room} for them")


def _span(name: str, entry: Any) -> Tuple[int, int, str]:
    """Start, end and name of a tensor, its length proven from type and shape."""
    if not isinstance(entry, dict):
        raise ValueError(f"tensor {name!r} is not an object")
    name.encode("utf-8")  # a lone surrogate is a name that nothing can print or store: UnicodeEncodeError is a ValueError
    shape: Any = entry.get("shape")
    offsets: Any = entry.get("data_offsets")
    kind: Any = entry.get("dtype")
    if not (_naturals(shape) and _naturals(offsets) and len(offsets) == 2 and isinstance(kind, str)):
        raise ValueError(f"tensor {name!r} lacks dtype, shape or data_offsets")
    if not kind.isascii() or len(kind) > LONGEST_TYPE:
        raise ValueError(f"tensor {name[:100]!r} has a dtype that is no name")
    start, end = offsets
    elements = 1
    for dimension in shape:
        elements = min(elements * dimension, 1 << 63)  # a hostile shape must not become a number of a million digits
    if end < start or (kind in BITS and (end - start) * 8 != elements * BITS[kind]):
        raise ValueError(f"tensor {name!r} cannot fill bytes {start} to {end}")
    return start, end, name


def _naturals(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 63 for item in value)


def _unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name is given twice")
    return record
