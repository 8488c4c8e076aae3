"""The plan for people: a bar for each GPU, the arithmetic of each engine, and what would fit. And for machines, as data.

Rules: every MiB of a card is in exactly one segment of its bar; letters, so that it reads the same without colours and on any
terminal: W weights, K KV cache, a activations, g graphs, l libraries, x CUDA context outside of the shares, u in use by
others, . free. An estimate is told as likely and with its bounds; bars and blocks are drawn for the likely one. KV tokens and
concurrency are those that the engine prints when it starts, so that a line of its log can be held against this one.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Sequence, Tuple

from ..settings.model import Mistake
from ..settings.placement import LIMIT
from ..settings.sizes import MIB, gib, mib
from . import engine_memory as demands
from .engine_memory import CONTEXT, Demand
from .evaluate import Verdict
from .gpus import Gpu
from .overhead.estimate import Estimate
from .refusals.shares import least_utilization
from .slot import STARTS, Slot
from .suggest import Suggestion

WIDTH = 64
LEGEND = "W weights  K KV cache  a activations  g graphs  l libraries, buffers  x CUDA context  u in use by others  . free"


def segments(verdict: Verdict, gpu: Gpu) -> List[Tuple[str, str, int]]:
    """(letter, key of the engine, bytes) from left to right; they add up to what the GPU has."""
    total = gpu.usable * MIB
    used = max(total - gpu.free * MIB, 0) if gpu.free is not None else 0
    parts: List[Tuple[str, str, int]] = [("u", "", used)] if used else []
    for (key, id), slot in verdict.slots.items():
        if id != gpu.id:
            continue
        parts += [(letter, key, size) for letter, size in _parts(slot) if size]
    taken = sum(size for _, _, size in parts)
    return [*parts, (".", "", total - taken)] if taken < total else parts


def _parts(slot: Slot) -> List[Tuple[str, int]]:
    """The segments of one engine, likely as it is."""
    need, likely = slot.need, slot.need.overhead
    kv = max(slot.kv.likely, 0) if need.pool.groups else 0
    beside = likely.libraries.likely + likely.buffers.likely
    parts = [("W", need.loaded), ("K", kv), ("a", likely.activations.likely), ("g", likely.graphs.likely)]
    return [*parts, ("l", max(beside, 0)), ("x", CONTEXT)]


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
    yield from _parsers(verdict)
    yield ""
    yield from _conclusion(verdict, found)


def _parsers(verdict: Verdict) -> Iterator[str]:
    """What reads tool calls and reasoning, where the build found it."""
    for model in verdict.settings.models:
        if model.parsers:
            flags = ", ".join(f"{flag.replace('-', ' ')} {name}" for flag, name in sorted(model.parsers.items()))
            yield f"{model.key}  {flags} (by the model's family; 'engine_args' says otherwise)"


def _conclusion(verdict: Verdict, found: Sequence[Suggestion]) -> Iterator[str]:
    if verdict.slots:
        yield f"vLLM of the engine image: {verdict.image.vllm}"
    for mistake in verdict.mistakes:
        yield f"NO: {mistake}"
    for warning in verdict.warnings:
        yield f"WARN: {warning}"
    if found:
        yield "what would start:"
        yield from (f"  {suggestion}" for suggestion in found)
    reasons = len(verdict.mistakes) or len(verdict.warnings)
    yield verdict.outcome if verdict.outcome == STARTS else f"{verdict.outcome} ({reasons} reason(s))"


def _engine(verdict: Verdict, key: str, slots: Sequence[Slot]) -> Iterator[str]:
    model = verdict.settings.model(key)
    slot = min(slots, key=lambda slot: slot.share - slot.need.least.most)
    need, gpu = slot.need, verdict.gpus[next(id for (owner, id), other in verdict.slots.items() if other is slot)]
    where = ",".join(verdict.placed.gpus[key])
    yield f"{key}  {model.name} on GPU {where}, {model.gpu_memory_utilization:g} of each: {verdict.outcome_of(key)}"
    yield f"  share        {gib(slot.share):>12}  {model.gpu_memory_utilization:g} x {mib(gpu.usable * MIB)}"
    yield f"  weights      {gib(need.loaded):>12}  of {gib(need.weights.stored)} published"
    if need.adapters:
        yield f"    adapters   {gib(need.adapters):>12}  of them, reserved for LoRA"
    if need.draft:
        yield f"    draft      {gib(need.draft):>12}  of them, the draft that it is served with"
    yield from _overhead(need)
    if need.pool.groups:
        yield from _cache(verdict, key, slot)
    else:
        yield "  KV cache             none  an encoder keeps none"
    least = least_utilization(need, gpu)
    works = f"lowest utilization that works here by every bound: {least:.2f}"
    yield f"  {works if least <= LIMIT else f'no utilization works here by every bound: it takes {least:.2f} of the GPU'}"
    yield from (f"  note: {note}" for note in need.notes)


def _overhead(need: Demand) -> Iterator[str]:
    parts, total = need.overhead, need.overhead.total
    named = [("activations", parts.activations), ("graphs", parts.graphs), ("libraries", parts.libraries)]
    named += [("buffers", parts.buffers)] if parts.buffers.most else []
    yield f"  overhead     {gib(total.likely):>12}  likely, {gib(total.least)} to {gib(total.most)} by its bounds:"
    yield "    " + ", ".join(f"{name} {mib(part.likely)}" for name, part in named)
    if parts.graphs_outside.most:
        outside = parts.graphs_outside
        yield f"    graphs take {gib(outside.least)} to {gib(outside.most)} outside of the share in this version of vLLM"


def _cache(verdict: Verdict, key: str, slot: Slot) -> Iterator[str]:
    need, blocks, length = slot.need, verdict.blocks(key), verdict.settings.model(key).max_model_len
    pool, kv, by = need.pool, slot.kv, need.args.vllm.tokens_by_concurrency
    bounds = "" if kv.least == kv.most else f"  likely, {gib(max(kv.least, 0))} to {gib(max(kv.most, 0))}"
    yield f"  KV cache     {gib(max(kv.likely, 0)):>12}{bounds}"
    tokens = [pool.tokens(count, length, by_concurrency=by) for count in (blocks.likely, blocks.least, blocks.most)]
    at_once = [pool.concurrency(count, length) for count in (blocks.likely, blocks.least, blocks.most)]
    yield f"    tokens     {tokens[0]:>12,}  {tokens[1]:,} to {tokens[2]:,}; {need.token_bytes} bytes a token here"
    yield f"    concurrency {at_once[0]:>10.2f}x  {at_once[1]:.2f}x to {at_once[2]:.2f}x, for {length} tokens a request"
    whole, short = pool.sequences(blocks.likely, length), pool.sequences(blocks.likely, 4096)
    yield f"    {blocks.likely} blocks: {whole} sequence(s) of {length} tokens, {short} of 4096"
    yield f"  at least     {gib(need.kv_least):>12}  of KV cache for {length} tokens"
    if slot.fits:
        room = [max(kv.least, 0)] * len(pool.block_bytes)
        yield f"  longest max_model_len in this share by every bound: {pool.longest(room, need.longest)}"


def as_json(verdict: Verdict, found: Sequence[Suggestion] = ()) -> Dict[str, Any]:
    """The same as data; sizes in bytes, an estimate as [least, likely, most]."""
    engines = {model.key: _engine_json(verdict, model.key) for model in verdict.settings.models}
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
    suggestions = [{"kind": item.kind, "changes": item.changes, "card": item.card or None} for item in found]
    return {
        "fits": verdict.fits,
        "outcome": verdict.outcome,
        "vllm": {"version": ".".join(str(part) for part in verdict.image.vllm.version), "known": verdict.image.vllm.known},
        "gpus": cards,
        "engines": engines,
        "mistakes": [_mistake_json(mistake) for mistake in verdict.mistakes],
        "warnings": [_mistake_json(warning) for warning in verdict.warnings],
        "suggestions": suggestions,
    }


def _engine_json(verdict: Verdict, key: str) -> Dict[str, Any]:
    model, blocks = verdict.settings.model(key), verdict.blocks(key)
    slots = [(id, slot) for (owner, id), slot in verdict.slots.items() if owner == key]
    found: Dict[str, Any] = {
        "gpus": list(verdict.placed.gpus.get(key, ())),
        "fits": all(slot.fits for _, slot in slots),
        "outcome": verdict.outcome_of(key),
        "blocks": _bounds(blocks),
        "ranks": [{"gpu": id, "share": slot.share, "kv": _bounds(slot.kv), **demands.as_json(slot.need)} for id, slot in slots],
    }
    if slots and slots[0][1].need.pool.groups:
        need, lengths = slots[0][1].need, {"max_model_len": model.max_model_len, "4096": 4096}
        by, length = need.args.vllm.tokens_by_concurrency, model.max_model_len
        counts = _bounds(blocks)
        found["sequences"] = {name: need.pool.sequences(blocks.likely, size) for name, size in lengths.items()}
        found["tokens"] = [need.pool.tokens(count, length, by_concurrency=by) for count in counts]
        found["concurrency"] = [round(need.pool.concurrency(count, length), 4) for count in counts]
    return found


def _bounds(part: Estimate) -> List[int]:
    return [part.least, part.likely, part.most]


def _mistake_json(mistake: Mistake) -> Dict[str, str]:
    return {"file": mistake.file, "field": mistake.field, "what": mistake.what, "remedy": mistake.remedy}
