"""The plan for people: a bar for each GPU, the arithmetic of each engine, and what would fit. And for machines, as data.

Rules: every MiB of a card is in exactly one segment of its bar; letters, so that it reads the same without colours and on any
terminal: W weights, K KV cache, a activations, g graphs, l libraries, x CUDA context outside of the shares, u in use by others,
. free. What is an estimate or a bound is called one.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

from . import demand as demands
from .demand import CONTEXT
from .fit import Slot, Verdict, least_utilization
from .gpus import Gpu
from .placement import LIMIT
from .sizes import MIB, gib, mib
from .suggest import Suggestion

WIDTH = 64
LEGEND = "W weights  K KV cache  a activations  g graphs  l libraries  x CUDA context  u in use by others  . free"


def segments(verdict: Verdict, gpu: Gpu) -> List[Tuple[str, str, int]]:
    """(letter, key of the engine, bytes) from left to right; they add up to what the GPU has."""
    total = gpu.usable * MIB
    used = max(total - gpu.free * MIB, 0) if gpu.free is not None else 0
    parts: List[Tuple[str, str, int]] = [("u", "", used)] if used else []
    for (key, id), slot in verdict.slots.items():
        if id != gpu.id:
            continue
        need = slot.need
        kv = max(slot.kv, 0) if need.pool.groups else 0
        held = [("W", need.weights.rank + need.adapters), ("K", kv), ("a", need.activations), ("g", need.graphs)]
        parts += [(letter, key, size) for letter, size in [*held, ("l", need.libraries), ("x", CONTEXT)] if size]
    taken = sum(size for _, _, size in parts)
    return [*parts, (".", "", total - taken)] if taken < total else parts


def bar(verdict: Verdict, gpu: Gpu) -> str:
    """The bar of one GPU; ``!`` at its end where more is wanted than there is."""
    parts = segments(verdict, gpu)
    total = max(gpu.usable * MIB, 1)
    text, position = "", 0.0
    for letter, _, size in parts:
        position += size / total * WIDTH
        text += letter * max(round(position) - len(text), 0)
    return f"[{text[:WIDTH]}]" if len(text) <= WIDTH else f"[{text[:WIDTH]}!!"


def lines(verdict: Verdict, found: Sequence[Suggestion] = ()) -> Iterator[str]:
    """The whole plan as text."""
    if verdict.settings.device == "cpu":
        yield "engines run on the CPU: there is no GPU plan"
    for gpu in verdict.gpus.values():
        load = verdict.placed.load.get(gpu.id, 0.0)
        yield f"GPU {gpu.id}  {gpu.name}: {mib(gpu.total * MIB)}, {mib(gpu.usable * MIB)} for CUDA, {load:.2f} given away"
        yield "  " + bar(verdict, gpu)
    if verdict.gpus and verdict.slots:
        yield "  " + LEGEND
    for model in verdict.settings.models:
        slots = verdict.of(model.key)
        if slots:
            yield ""
            yield from _engine(verdict, model.key, slots)
    yield ""
    for mistake in verdict.mistakes:
        yield f"NO: {mistake}"
    if found:
        yield "what would fit:"
        yield from (f"  {suggestion}" for suggestion in found)
    yield "fits" if verdict.fits else f"does not fit ({len(verdict.mistakes)} reason(s))"


def _engine(verdict: Verdict, key: str, slots: Sequence[Slot]) -> Iterator[str]:
    model = verdict.settings.model(key)
    slot = min(slots, key=lambda slot: slot.share - slot.need.least)
    need, gpu = slot.need, verdict.gpus[next(id for (owner, id), other in verdict.slots.items() if other is slot)]
    where = ",".join(verdict.placed.gpus[key])
    yield f"{key}  {model.name} on GPU {where}, {model.gpu_memory_utilization:g} of each: {'fits' if slot.fits else 'NO'}"
    yield f"  share        {gib(slot.share):>12}  {model.gpu_memory_utilization:g} x {mib(gpu.usable * MIB)}"
    yield f"  weights      {gib(need.weights.rank):>12}  of {gib(need.weights.stored)} published"
    if need.adapters:
        yield f"  adapters     {gib(need.adapters):>12}  reserved for LoRA"
    rest = need.activations + need.graphs + need.libraries
    parts = f"activations {mib(need.activations)}, graphs {mib(need.graphs)}, libraries {mib(need.libraries)}"
    yield f"  overhead     {gib(rest):>12}  estimated: {parts}"
    if need.pool.groups:
        blocks, length = verdict.blocks(key), model.max_model_len
        whole, short = need.pool.sequences(blocks, length), need.pool.sequences(blocks, 4096)
        at_once = f"{whole} sequence(s) of {length} tokens, {short} of 4096"
        yield f"  KV cache     {gib(max(slot.kv, 0)):>12}  {blocks} blocks: {at_once}; {need.token_bytes} bytes a token here"
        yield f"  at least     {gib(need.kv_least):>12}  of KV cache for {length} tokens"
    else:
        yield "  KV cache             none  an encoder keeps none"
    least = least_utilization(need, gpu)
    works = f"lowest utilization that works here: {least:.2f}"
    yield f"  {works if least <= LIMIT else f'no utilization works here: it takes {least:.2f} of the GPU'}"
    if need.pool.groups and slot.fits:
        room = [max(slot.kv, 0)] * len(need.pool.block_bytes)
        yield f"  longest max_model_len in this share: {need.pool.longest(room, need.longest)}"
    yield from (f"  note: {note}" for note in need.notes)


def as_json(verdict: Verdict, found: Sequence[Suggestion] = ()) -> Dict[str, Any]:
    """The same as data; sizes in bytes."""
    engines: Dict[str, Any] = {}
    for model in verdict.settings.models:
        blocks = verdict.blocks(model.key)
        slots = [(id, slot) for (key, id), slot in verdict.slots.items() if key == model.key]
        engines[model.key] = {
            "gpus": list(verdict.placed.gpus.get(model.key, ())),
            "fits": all(slot.fits for _, slot in slots),
            "blocks": blocks,
            "ranks": [{"gpu": id, "share": slot.share, "kv": slot.kv, **demands.as_json(slot.need)} for id, slot in slots],
        }
        if slots and slots[0][1].need.pool.groups:
            pool = slots[0][1].need.pool
            lengths: Mapping[str, int] = {"max_model_len": model.max_model_len, "4096": 4096}
            engines[model.key]["sequences"] = {name: pool.sequences(blocks, length) for name, length in lengths.items()}
    cards = [
        {
            "id": gpu.id,
            "name": gpu.name,
            "total_mib": gpu.total,
            "usable_mib": gpu.usable,
            "load": round(verdict.placed.load.get(gpu.id, 0.0), 4),
            "segments": [{"kind": letter, "engine": key, "bytes": size} for letter, key, size in segments(verdict, gpu)],
        }
        for gpu in verdict.gpus.values()
    ]
    wishes = [{"kind": item.kind, "changes": item.changes, "card": item.card or None} for item in found]
    mistakes = [{"file": m.file, "field": m.field, "what": m.what, "remedy": m.remedy} for m in verdict.mistakes]
    return {"fits": verdict.fits, "gpus": cards, "engines": engines, "mistakes": mistakes, "suggestions": wishes}
