"""A digest is a type, parsed once.

Rules: only sha256 exists here; the text form is ``sha256:<64 lower-case hex digits>``; whatever reads bytes that must be proven
does it through ``Hasher`` so that no second pass is needed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

CHUNK = 1 << 20
_FORM = re.compile(r"(?:sha256:)?([0-9a-f]{64})")


class Digest:
    """A sha256 digest. ``str()`` gives ``sha256:<hex>``; hashable, ordered by its hex form."""

    __slots__ = ("hex",)
    hex: str

    def __init__(self, text: str) -> None:
        """``text``: 64 lower-case hex digits, with or without ``sha256:``. Raises ValueError otherwise."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"not a sha256 digest (64 lower-case hex digits, optional 'sha256:'): {text!r}")
        object.__setattr__(self, "hex", match.group(1))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Digest does not change")

    def __str__(self) -> str:
        return f"sha256:{self.hex}"

    def __repr__(self) -> str:
        return f"Digest('{self}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and self.hex == other.hex

    def __lt__(self, other: Digest) -> bool:
        return self.hex < other.hex

    def __hash__(self) -> int:
        return hash(self.hex)

    @property
    def short(self) -> str:
        """The first 12 hex digits."""
        return self.hex[:12]

    @classmethod
    def of(cls, data: bytes | memoryview) -> Digest:
        """The digest of bytes in memory."""
        return cls(hashlib.sha256(data).hexdigest())

    @classmethod
    def of_file(cls, path: Path) -> Digest:
        """The digest of a file, read in chunks. Raises OSError."""
        hasher = Hasher()
        with path.open("rb", buffering=0) as stream:
            for chunk in read_chunks(stream):
                hasher.update(chunk)
        return hasher.digest()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(pattern=r"^(sha256:)?[0-9a-f]{64}$"),
            python_schema=core_schema.no_info_plain_validator_function(cls._parse),
            serialization=core_schema.plain_serializer_function_ser_schema(str),
        )

    @classmethod
    def _parse(cls, value: object) -> Digest:
        if isinstance(value, Digest):
            return value
        if not isinstance(value, str):
            raise ValueError(f"not a sha256 digest: {value!r} (quote it if it is all digits)")
        return cls(value)


class Hasher:
    """Counts and hashes bytes on their way: ``size`` in bytes, ``digest()`` at any time."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self.size = 0

    def update(self, data: bytes | memoryview) -> None:
        self._sha256.update(data)
        self.size += len(data)

    def digest(self) -> Digest:
        return Digest(self._sha256.hexdigest())

    def copy(self) -> Hasher:
        """One that has seen the same bytes, and goes its own way from here."""
        other = Hasher()
        other._sha256, other.size = self._sha256.copy(), self.size
        return other


class Readable(Protocol):
    """An unbuffered or raw stream of bytes."""

    def readinto(self, buffer: memoryview, /) -> int | None: ...


def read_chunks(stream: Readable, size: int = CHUNK) -> Iterator[memoryview]:
    """The rest of ``stream`` in pieces of at most ``size`` bytes, in one buffer that is used again for each piece."""
    buffer = memoryview(bytearray(size))
    while count := stream.readinto(buffer):
        yield buffer[:count]
