"""What a bundle's tar may be compressed with, as any tool does it: one module a compression, one list of them.

Rules: the list and the module are all there is to a compression: who reads, writes or names bundles asks here; a module is
imported when its compression is first met. The bundle's own form, gzip members that say how long they are, is that of
``format/member.py``.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from offline_kit.bundle.compression.base import Codec, Compressor, Damaged, Encoder, Sink, Source

__all__ = ["COMPRESSIONS", "Codec", "Compression", "Compressor", "Damaged", "Encoder", "Sink", "Source", "of_name", "of_start"]


@dataclass(frozen=True)
class Compression:
    """One compression: ``name`` is that of its module here, ``form`` what reports call a bundle in it.

    ``suffix``: the end of the names of bundles that are built in it, empty where none is.
    """

    name: str
    form: str
    suffix: str
    magic: bytes

    @property
    def codec(self) -> Codec:
        """What reads it."""
        codec: Codec = importlib.import_module(f"{__name__}.{self.name}").CODEC
        return codec

    @property
    def encoder(self) -> Encoder:
        """What writes it: only one that has a ``suffix`` can be written."""
        encoder: Encoder = importlib.import_module(f"{__name__}.{self.name}").ENCODER
        return encoder


COMPRESSIONS = (
    Compression("gzip", "recompressed", "", b"\x1f\x8b"),
    Compression("zstd", "zstd", ".tar.zst", b"\x28\xb5\x2f\xfd"),
)


def of_start(start: bytes) -> Compression | None:
    """The compression of a file that begins like this."""
    return next((item for item in COMPRESSIONS if start.startswith(item.magic)), None)


def of_name(name: str) -> Compression | None:
    """The compression that a bundle of this name is built in; None: members of our own."""
    return next((item for item in COMPRESSIONS if item.suffix and name.endswith(item.suffix)), None)
