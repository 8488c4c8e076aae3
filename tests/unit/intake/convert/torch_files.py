"""Files as torch.save writes them, made without torch: opcodes by hand, numbers beside them in the archive."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod


@dataclass(frozen=True)
class Saved:
    """A tensor: its numbers as bytes, and how it looks at them."""

    data: bytes
    shape: Sequence[int]
    stride: Sequence[int] | None = None
    offset: int = 0
    storage: str = "FloatStorage"
    key: str | None = None
    item: int = 4

    @property
    def steps(self) -> list[int]:
        return list(self.stride) if self.stride is not None else [prod(self.shape[at + 1 :]) for at in range(len(self.shape))]


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(number(value) for value in values) + b"t"


_EMPTY = b"ccollections\nOrderedDict\n)R"


def pickled(tensors: Mapping[str, Saved], extra: bytes = b"") -> bytes:
    """A state_dict as torch pickles it; ``extra``: opcodes of further items."""
    out = b"\x80\x02" + _EMPTY + b"("
    for at, (name, tensor) in enumerate(tensors.items()):
        key = tensor.key or str(at)
        count = len(tensor.data) // tensor.item
        storage = (
            b"(" + text("storage") + f"ctorch\n{tensor.storage}\n".encode() + text(key) + text("cpu") + number(count) + b"tQ"
        )
        view = storage + number(tensor.offset) + numbers(tensor.shape) + numbers(tensor.steps) + b"\x89" + _EMPTY
        out += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + view + b"tR"
    return out + extra + b"u."


def torch_file(tensors: Mapping[str, Saved], extra: bytes = b"", compression: int = zipfile.ZIP_STORED) -> bytes:
    """The whole archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("weights/data.pkl", pickled(tensors, extra))
        archive.writestr("weights/byteorder", "little")
        for at, tensor in enumerate(tensors.values()):
            if (name := f"weights/data/{tensor.key or at}") not in archive.namelist():
                archive.writestr(name, tensor.data)
        archive.writestr("weights/version", "3\n")
    return out.getvalue()
