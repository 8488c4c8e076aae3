"""Are the weights whole? Read from safetensors headers and their index, without loading anything.

Rules: a file is 8 bytes little-endian header length N, N bytes of JSON, then data; the tensors' ``data_offsets`` cover the
data exactly, without gap or overlap; an index names only files that exist and tensors that those files hold. A file can be
what its sha256 says and still have been published broken: then it is refused here and not on the host.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from offline_kit.errors import DigestMismatch, NotFound
from offline_kit.spec.lock import LockedFile

INDEX = ".safetensors.index.json"
_LONGEST = 100_000_000  # the format's own limit on N
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F4": 4,
}


def tensors(path: Path, size: int, name: str) -> set[str]:
    """The names of the tensors in the file at ``path`` of ``size`` bytes. Raises DigestMismatch if it is not whole."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 2 <= length <= min(_LONGEST, size - 8):
            raise _broken(name, f"its header says {length} bytes in a file of {size}")
        try:
            header = json.loads(stream.read(length))
            spans = {key: _span(value) for key, value in header.items() if key != "__metadata__"}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise _broken(name, "its header is not the JSON that the format wants") from error
    end = 0
    for key, (begin, stop, expected) in sorted(spans.items(), key=lambda item: item[1][:2]):
        if begin != end or stop < begin or (expected is not None and stop - begin != expected):
            raise _broken(name, f"tensor {key} lies at {begin} to {stop}, not from {end} on in its full length")
        end = stop
    if end != size - 8 - length:
        raise _broken(name, f"its tensors need {end + 8 + length} bytes, the file has {size}")
    return set(spans)


def check_model(files: Iterable[LockedFile], locate: Callable[[LockedFile], Path | None], model: str) -> None:
    """Raises NotFound (a shard is missing) or DigestMismatch (damaged) for the files of one model.

    ``locate`` gives the place of a file, or None where it has not been fetched yet: then only its name is checked.
    """
    by_path = {file.path: file for file in files}
    held: dict[str, set[str]] = {}
    for path, file in by_path.items():
        place = locate(file) if path.endswith(".safetensors") else None
        if place is not None:
            held[path] = tensors(place, file.size, f"{model}: {path}")
    for path, file in by_path.items():
        place = locate(file) if path.endswith(INDEX) else None
        if place is not None:
            _check_index(path, place, by_path.keys(), held, model)


def _check_index(path: str, place: Path, present: Iterable[str], held: dict[str, set[str]], model: str) -> None:
    where = f"{model}: {path}"
    try:
        mapping: dict[str, str] = json.loads(place.read_bytes())["weight_map"]
        named = {(path.rpartition("/")[0] + "/" + shard).lstrip("/") for shard in mapping.values()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(where, "is not an index of safetensors") from error
    missing = sorted(named - set(present))
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise NotFound(f"names shards that are not there: {shown}", where=where, remedy="check 'include' and 'exclude'")
    folder = path.rpartition("/")[0]
    for tensor, shard in sorted(mapping.items()):
        file = f"{folder}/{shard}".lstrip("/")
        if file in held and tensor not in held[file]:
            raise _broken(where, f"says that {shard} holds {tensor}, which it does not")


def _span(value: Any) -> tuple[int, int, int | None]:
    """Begin, end and, for a known type, the expected length in bytes of one tensor."""
    begin, stop = value["data_offsets"]
    bits = _BITS.get(value["dtype"])
    expected = None if bits is None else (math.prod(value["shape"]) * bits + 7) // 8
    return int(begin), int(stop), expected


def _broken(where: str, what: str) -> DigestMismatch:
    remedy = "the weights were published or copied incompletely: use another revision"
    return DigestMismatch(f"not a whole safetensors file: {what}", where=where, remedy=remedy)
