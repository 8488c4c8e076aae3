"""The tensors of a model as a short table, made from the headers of its safetensors files. No weight is read.

Rules: headers are read by ``safetensors`` alone; tensors whose names differ in numbers only and that have one dtype and shape
are one row, so that 700 tensors become 15 rows and nothing is lost that a size depends on; weights without such headers
(pickle) are one row, with the size of the file for an upper bound. The same rows are made when a bundle is locked (over HTTP
ranges) and on the host (from a folder that an operator added).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

from . import safetensors

FLOATS = ("F64", "F32", "F16", "BF16")
WHOLE_FILE = "whole-file"  # the dtype of a row that is a file nobody looked into
_NUMBER = re.compile(r"(?<=\.)[0-9]{1,9}(?=\.|$)")  # no model has more layers than nine digits count

# name: with * for numbers; dtype; shape; size: bytes of one tensor; count: how many; layers: the first number, "0-63" or "3,7"
Row = Mapping[str, Any]


def rows(headers: Iterable[Mapping[str, Any]]) -> List[Row]:
    """The table of all tensors in ``headers`` (parsed JSON, one a file). Raises ValueError on what is no such header."""
    found: Dict[Tuple[str, str, Tuple[int, ...], int], List[str]] = {}
    for header in headers:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                shape = tuple(int(side) for side in entry["shape"])
                begin, end = entry["data_offsets"]
                key = (_NUMBER.sub("*", name), str(entry["dtype"]), shape, int(end) - int(begin))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"tensor {name!r} lacks dtype, shape or data_offsets") from error
            found.setdefault(key, []).append(name)
    table: List[Row] = []
    for (pattern, dtype, shape, size), names in sorted(found.items()):
        row: Dict[str, Any] = {"name": pattern, "dtype": dtype, "shape": list(shape), "size": size, "count": len(names)}
        numbers = {int(match.group()) for match in map(_NUMBER.search, names) if match}
        if numbers:
            row["layers"] = ranges(numbers)
        table.append(row)
    return table


def file_row(name: str, size: int) -> Row:
    """The row of a weights file without a header that could be read: its whole size."""
    return {"name": name, "dtype": WHOLE_FILE, "shape": [], "size": size, "count": 1}


def ranges(numbers: Iterable[int]) -> str:
    """``0-3,7`` for {0, 1, 2, 3, 7}."""
    spans: List[List[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def numbers(text: str) -> Sequence[int]:
    """The numbers that ``ranges`` wrote."""
    found: List[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def total(table: Iterable[Row]) -> int:
    """Bytes of all tensors as they are stored."""
    return sum(row["size"] * row["count"] for row in table)


def elements(row: Row) -> int:
    """How many numbers one tensor of the row holds; packed formats hold more weights than that."""
    count = 1
    for side in row["shape"]:
        count *= side
    return count


def weights_files(paths: Iterable[str]) -> Tuple[str, ...]:
    """Which of a model's files hold the weights that an engine loads: the safetensors, or what there is instead of them.

    Beside shards, ``consolidated*.safetensors`` hold the same weights once more (Mistral publishes both); folders such as
    ``original/`` or ``1_Pooling/`` hold other things.
    """
    top = sorted(path for path in paths if "/" not in path)
    tensors = [path for path in top if path.endswith(".safetensors") and not path.startswith("adapter_")]
    plain = [path for path in tensors if not path.startswith("consolidated")]
    if tensors:
        return tuple(plain or tensors)
    pickles = [path for path in top if path.endswith((".bin", ".pt", ".pth"))]
    return tuple([path for path in pickles if path.startswith("pytorch_model")] or pickles)


def read_header(path: Path) -> Mapping[str, Any]:
    """The tensors of the file at ``path``. Raises OSError, ValueError."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(safetensors.PREFIX)
        head += stream.read(safetensors.head_length(head) - safetensors.PREFIX)
    return safetensors.parse(head, size)


def of_folder(folder: Path) -> List[Row]:
    """The table of the model in ``folder``, files without a header that can be read as a whole. Raises OSError."""
    names = weights_files(path.name for path in folder.iterdir() if path.is_file())
    try:
        if all(name.endswith(".safetensors") for name in names):
            return rows(read_header(folder / name) for name in names)
    except ValueError:
        # Cut off or of another format: its size is what is left to go by.
        return [file_row(name, (folder / name).stat().st_size) for name in names]
    return [file_row(name, (folder / name).stat().st_size) for name in names]
