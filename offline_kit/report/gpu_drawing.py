"""The GPU plan as bars: of each card what is taken by whom, and of each engine its share and what it needs, with bounds.

Rules: pure; lengths are shares of the card (0 to 1); a bar is drawn for the likely estimate, as that of ``offline-kit plan``.
"""

from __future__ import annotations

from dataclasses import dataclass

from offline_kit.runtime.gpu_plan.evaluate import Verdict
from offline_kit.runtime.gpu_plan.gpus import Gpu
from offline_kit.runtime.gpu_plan.report import segments
from offline_kit.runtime.settings.sizes import MIB

KINDS = {
    "W": "weights",
    "K": "KV cache",
    "a": "activations",
    "g": "graphs",
    "l": "libraries, buffers",
    "x": "CUDA context",
    "u": "in use by others",
    ".": "free",
}


@dataclass(frozen=True)
class Segment:
    """A piece of a card's bar; ``engine``: its number, None: nobody's."""

    kind: str
    key: str
    engine: int | None
    bytes: int
    x: float
    width: float


@dataclass(frozen=True)
class EngineBar:
    """One engine on one card: its share, and the least, likely and most that it needs; bytes, and as shares of the card."""

    key: str
    name: str
    engine: int
    share: int
    needs: tuple[int, int, int]
    kv: tuple[int, int, int] | None
    outcome: str
    places: tuple[float, float, float, float]


@dataclass(frozen=True)
class Card:
    """One GPU; ``over``: more is wanted than it has."""

    id: str
    name: str
    bytes: int
    given: float
    over: bool
    segments: tuple[Segment, ...]
    engines: tuple[EngineBar, ...]


def draw(verdict: Verdict) -> list[Card]:
    """The cards of the plan."""
    numbers = {model.key: number for number, model in enumerate(verdict.settings.models)}
    return [_card(verdict, gpu, numbers) for gpu in verdict.gpus.values()]


def _card(verdict: Verdict, gpu: Gpu, numbers: dict[str, int]) -> Card:
    total = max(gpu.usable * MIB, 1)
    found = segments(verdict, gpu)
    whole = max(total, sum(size for _, _, size in found))
    at, drawn = 0, []
    for letter, key, size in found:
        drawn.append(Segment(KINDS[letter], key, numbers.get(key), size, at / whole, size / whole))
        at += size
    engines = [_engine(verdict, key, gpu, numbers) for key, id in verdict.slots if id == gpu.id]
    load = verdict.placed.load.get(gpu.id, 0.0)
    return Card(gpu.id, gpu.name, total, load, at > total, tuple(drawn), tuple(engines))


def _engine(verdict: Verdict, key: str, gpu: Gpu, numbers: dict[str, int]) -> EngineBar:
    slot, total = verdict.slots[key, gpu.id], max(gpu.usable * MIB, 1)
    need = slot.need.least
    needs = (need.least, need.likely, need.most)
    kv = (max(slot.kv.least, 0), max(slot.kv.likely, 0), max(slot.kv.most, 0)) if slot.need.pool.groups else None
    places = tuple(min(size / total, 1.0) for size in (slot.share, *needs))
    return EngineBar(
        key,
        verdict.settings.model(key).name,
        numbers[key],
        slot.share,
        needs,
        kv,
        verdict.outcome_of(key),
        (places[0], places[1], places[2], places[3]),
    )
