"""The tensors of a file that torch.save wrote, without torch: where their bytes lie in the archive.

Rules: what a pickle may name is listed here and made of our own plain records, so nothing of it is ever called; anything else
is refused by its name; sizes are held against the archive before a byte is copied.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import IO, Any

# Storage of torch -> dtype of safetensors, bytes of one.
TYPES = {
    "DoubleStorage": ("F64", 8), "FloatStorage": ("F32", 4), "HalfStorage": ("F16", 2), "BFloat16Storage": ("BF16", 2),
    "LongStorage": ("I64", 8), "IntStorage": ("I32", 4), "ShortStorage": ("I16", 2), "CharStorage": ("I8", 1),
    "ByteStorage": ("U8", 1), "BoolStorage": ("BOOL", 1),
}  # fmt: skip
_PICKLE_AT_MOST = 64 << 20  # bytes
_AT_ONCE = 256 << 20  # bytes of a storage that is held for a tensor which does not lie in one piece
_PIECE = 1 << 20


class Refused(Exception):
    """The pickle names what weights do not need."""


class NotConvertible(Exception):
    """No weights in a form that is known here."""


@dataclass(frozen=True)
class Storage:
    """Numbers of one type in the archive."""

    kind: str
    key: str
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of a storage; offset and stride in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def dtype(self) -> str:
        return TYPES[self.storage.kind][0]

    @property
    def item(self) -> int:
        """Bytes of one element."""
        return TYPES[self.storage.kind][1]

    @property
    def size(self) -> int:
        return prod(self.shape) * self.item

    @property
    def in_one_piece(self) -> bool:
        expected = 1
        for length, step in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if length != 1 and step != expected:
                return False
            expected *= length
        return True


def _rebuild(storage: Any, offset: Any, shape: Any, stride: Any, *_rest: Any) -> Tensor:
    whole = isinstance(storage, Storage) and isinstance(shape, tuple) and isinstance(stride, tuple)
    if not whole or any(type(number) is not int or number < 0 for number in (offset, *shape, *stride)):
        raise NotConvertible("holds a tensor of an unknown form")
    last = offset + sum((length - 1) * step for length, step in zip(shape, stride, strict=True))
    if len(shape) != len(stride) or (prod(shape) and last >= storage.count):
        raise NotConvertible("holds a tensor that is larger than its numbers")
    return Tensor(storage, offset, shape, stride)


def _same(data: Any, *_rest: Any) -> Any:
    return data


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _same,
    **{("torch", name): name for name in TYPES},
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise Refused(f"names {module}.{name}, which weights do not need")
        return _KNOWN[module, name]

    def persistent_load(self, identity: Any) -> Storage:
        mark, kind, key, _place, count = identity
        if mark != "storage" or kind not in TYPES or type(key) is not str or type(count) is not int or count < 0:
            raise NotConvertible("holds numbers of an unknown type")
        return Storage(kind, key, count)


class Checkpoint:
    """An open archive of torch.save: its tensors by name, and their bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        """Raises Refused, NotConvertible."""
        try:
            self._archive = zipfile.ZipFile(stream)
        except zipfile.BadZipFile as error:
            raise NotConvertible("is no archive of torch.save (the form before torch 1.6, or something else)") from error
        names = [name for name in self._archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(names) != 1:
            raise NotConvertible("is an archive without one data.pkl")
        self._top = names[0].removesuffix("data.pkl")
        order = f"{self._top}byteorder"
        if order in self._archive.namelist() and self._archive.read(order) != b"little":
            raise NotConvertible("was written by a big-endian machine")
        self.tensors = self._load(names[0])

    def _load(self, name: str) -> dict[str, Tensor]:
        if self._archive.getinfo(name).file_size > _PICKLE_AT_MOST:
            raise NotConvertible(f"has a pickle of more than {_PICKLE_AT_MOST} bytes")
        try:
            found = _Reader(io.BytesIO(self._archive.read(name))).load()
        except (Refused, NotConvertible):
            raise
        except Exception as error:
            raise NotConvertible(f"its pickle cannot be read: {type(error).__name__}: {error}") from error
        if not isinstance(found, dict) or not dict.__len__(found):
            raise NotConvertible("holds no tensors by name")
        tensors = dict(dict.items(found))
        for key, value in tensors.items():
            if type(key) is not str or key == "__metadata__" or type(value) is not Tensor:
                raise NotConvertible(f"{key!r} is no tensor: only plain weights by name are converted")
            self._check(value.storage)
        return tensors

    def _check(self, storage: Storage) -> None:
        try:
            info = self._archive.getinfo(f"{self._top}data/{storage.key}")
        except KeyError as error:
            raise NotConvertible(f"has no data/{storage.key}") from error
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != storage.count * TYPES[storage.kind][1]:
            raise NotConvertible(f"data/{storage.key} has another size or form than torch.save gives it")

    def content(self, tensor: Tensor) -> Iterator[bytes]:
        """The bytes of a tensor, row by row as safetensors have them."""
        start, left = tensor.offset * tensor.item, tensor.size
        with self._archive.open(f"{self._top}data/{tensor.storage.key}") as stream:
            if tensor.in_one_piece:
                stream.seek(start)
                while left:
                    piece = stream.read(min(_PIECE, left))
                    if not piece:
                        raise NotConvertible("ends early")
                    left -= len(piece)
                    yield piece
                return
            if tensor.storage.count * tensor.item > _AT_ONCE:
                raise NotConvertible(f"has a tensor of more than {_AT_ONCE} bytes that does not lie in one piece")
            yield from _gather(stream.read(), tensor, start, 0)


def _gather(data: bytes, tensor: Tensor, start: int, axis: int) -> Iterator[bytes]:
    if axis == len(tensor.shape):
        yield data[start : start + tensor.item]
        return
    for number in range(tensor.shape[axis]):
        yield from _gather(data, tensor, start + number * tensor.stride[axis] * tensor.item, axis + 1)
