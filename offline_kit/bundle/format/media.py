"""Media that carry a bundle across, and how large a part of it may be to fill one.

Rules: a capacity is what the medium's standard gives (bytes); 1/128 of it stays free for the file system and the small files
beside a part; where the size of the medium is not known (FAT32: a stick of any size), only the largest file counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline_kit.common.errors import SpecError
from offline_kit.common.units import size
from offline_kit.runtime.settings.sizes import parse_bytes

_SECTOR = 2048  # bytes, of every optical medium
_KEPT = 128  # one part of so many


@dataclass(frozen=True)
class Medium:
    """A kind of medium. ``capacity``: bytes of one, None where it is not known; ``part``: bytes of a part that fills one."""

    name: str
    capacity: int | None
    part: int


def _of_capacity(name: str, capacity: int) -> Medium:
    return Medium(name, capacity, (capacity - capacity // _KEPT) // _SECTOR * _SECTOR)


# Sectors: DVD+R of ECMA-349 (a DVD-R holds some more); BD-R and BD-RE with the spare area that burning programs leave.
_KNOWN = {
    "DVD": _of_capacity("DVD", 2_295_104 * _SECTOR),
    "BD25": _of_capacity("BD25", 11_826_176 * _SECTOR),
    "BD50": _of_capacity("BD50", 23_652_352 * _SECTOR),
    "FAT32": Medium("FAT32", None, 4095 << 20),
}
NAMES = tuple(_KNOWN)


def parse_medium(text: str) -> Medium:
    """The medium that is called ``text``, or one of so many bytes (``64GB``). Raises ValueError."""
    known = _KNOWN.get(text.strip().upper())
    return known or _of_capacity(text.strip(), parse_bytes(text))


def number_media(medium: Medium, files: Sequence[tuple[str, int]]) -> list[int | None]:
    """On which medium, from 1 on, each of the files (name, bytes) comes: as many in their order as fit on one.

    None where the size of the medium is not known. Raises SpecError: a file is larger than what fits.
    """
    numbers: list[int | None] = []
    number, used = 1, 0
    for name, count in files:
        if count > medium.part:
            remedy = f"offline-kit split --medium {medium.name} ..."
            raise SpecError(f"{size(count)}, and {medium.name} takes {size(medium.part)}", where=name, remedy=remedy)
        if used + count > medium.part:
            number, used = number + 1, 0
        used += count
        numbers.append(number if medium.capacity is not None else None)
    return numbers
