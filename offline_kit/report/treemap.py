"""A treemap: rectangles whose areas are as the sizes that they stand for.

Rules: pure; the rectangles of one call fill theirs and do not overlap; places and lengths are shares of the whole (0 to 1); at
most ``MOST`` of one group are drawn, what is smaller is drawn together and counted. Source of the layout: Bruls, Huizing, van
Wijk, "Squarified Treemaps", 2000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST = 40


@dataclass(frozen=True)
class Item:
    """What is to be drawn: a name, its bytes, and what it is made of."""

    name: str
    bytes: int
    parts: tuple[Item, ...] = ()


@dataclass(frozen=True)
class Rectangle:
    """``x``, ``y``, ``width``, ``height``: shares of the whole."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Tile:
    """One part where it is drawn; ``group``: which of the items it belongs to, ``count``: how many parts it stands for."""

    group: int
    name: str
    bytes: int
    place: Rectangle
    count: int = 1


def tiles(items: Sequence[Item], *, across: float = 2.0) -> list[Tile]:
    """The tiles of ``items``, each divided into its parts; ``across``: how many times as wide as high the whole is."""
    whole = Rectangle(0, 0, 1, 1)
    drawn = []
    for group, (item, place) in enumerate(zip(items, _divide([item.bytes for item in items], whole, across), strict=True)):
        parts = _fewer(item.parts) or [(item.name, item.bytes, 1)]
        places = _divide([size for _, size, _ in parts], place, across)
        drawn += [
            Tile(group, name, size, inside, count)
            for (name, size, count), inside in zip(parts, places, strict=True)
            if inside.width and inside.height
        ]
    return drawn


def _fewer(parts: Sequence[Item]) -> list[tuple[str, int, int]]:
    """(name, bytes, how many) of the parts, the largest first; the many small ones as one."""
    largest = sorted(parts, key=lambda part: (-part.bytes, part.name))
    kept = [(part.name, part.bytes, 1) for part in largest[:MOST]]
    rest = largest[MOST:]
    return [*kept, (f"{len(rest)} smaller", sum(part.bytes for part in rest), len(rest))] if rest else kept


def _divide(sizes: Sequence[int], place: Rectangle, across: float) -> list[Rectangle]:
    """A rectangle in ``place`` for each size, in the order given; the larger ones are laid first."""
    total = sum(sizes)
    found = [Rectangle(place.x, place.y, 0, 0)] * len(sizes)
    if not total or not place.width or not place.height:
        return found
    # Worked out in units in which a square looks like one.
    x, y, width, height = place.x * across, place.y, place.width * across, place.height
    scale = width * height / total
    order = sorted((number for number, size in enumerate(sizes) if size), key=lambda number: -sizes[number])
    while order:
        short = min(width, height)
        row = _row([sizes[number] * scale for number in order], short)
        thick = sum(sizes[number] for number in order[:row]) * scale / short
        along = 0.0
        for number in order[:row]:
            length = sizes[number] * scale / thick
            if width >= height:
                found[number] = Rectangle(x / across, y + along, thick / across, length)
            else:
                found[number] = Rectangle((x + along) / across, y, length / across, thick)
            along += length
        if width >= height:
            x, width = x + thick, max(width - thick, 1e-9)
        else:
            y, height = y + thick, max(height - thick, 1e-9)
        order = order[row:]
    return found


def _row(areas: Sequence[float], short: float) -> int:
    """How many of the areas lie in the next row: as many as make its worst rectangle more like a square."""
    total, worst = 0.0, float("inf")
    for number, area in enumerate(areas):
        total += area
        ratio = max(short**2 * areas[0] / total**2, total**2 / (short**2 * area))
        if ratio > worst:
            return number
        worst = ratio
    return len(areas)
