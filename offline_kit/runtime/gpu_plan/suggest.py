"""What would fit instead: the nearest configurations, each of them tried before it is said.

Rules: a suggestion is data, changes of fields that models.json has, or another card; whatever is returned was evaluated and
starts by every bound; the nearest come first: utilizations, length, KV dtype, placement, tensor parallel size, other cards.
Utilizations are the lowest that work, in hundredths, so that the engines that share a GPU leave each other as much as they
can.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple

from ..settings.model import AUTO, Model, Settings
from ..settings.placement import LIMIT, place
from ..settings.sizes import MIB
from .engine_memory import Facts
from .evaluate import Image, Verdict, evaluate
from .gpus import Card, Gpu, cards_upwards
from .refusals.shares import least_utilization
from .refusals.state_blocks import ARGUMENT
from .slot import STARTS

Changes = Mapping[str, Mapping[str, Any]]  # key of a model -> field of models.json -> value; engine_args are merged
STEP = 256  # tokens: a suggested length is a multiple of it where it is longer


@dataclass(frozen=True)
class Suggestion:
    """``kind``: what is changed; ``card``: the GPU to use instead, as many as there are now."""

    kind: str
    changes: Changes = field(default_factory=dict)
    card: str = ""

    def __str__(self) -> str:
        words = [f"{self.card} instead of these GPUs"] if self.card else []
        for key, values in self.changes.items():
            words += [f"{key}: {name} {_shown(value)}" for name, value in values.items()]
        return f"{self.kind}: " + "; ".join(words)


def suggestions(verdict: Verdict, facts: Mapping[str, Facts]) -> List[Suggestion]:
    """What to change so that ``verdict`` becomes a sure start; empty when it is one, or when nothing was found."""
    if verdict.outcome == STARTS or verdict.settings.device == "cpu" or not verdict.gpus:
        return []
    found: List[Suggestion] = []
    settings, gpus = dataclasses.replace(verdict.settings, visible=tuple(verdict.gpus)), dict(verdict.gpus)

    def fits(changes: Changes, cards: Mapping[str, Gpu] = gpus) -> bool:
        return evaluate(apply(settings, changes), facts, cards, verdict.image).outcome == STARTS

    for kind, changes in _candidates(verdict, facts, settings, gpus):
        if changes and fits(changes) and not any(other.changes == changes or other.kind == kind for other in found):
            found.append(Suggestion(kind, changes))
    return found + _cards(settings, verdict, facts, fits)


def apply(settings: Settings, changes: Changes) -> Settings:
    """``settings`` with ``changes`` made."""
    models = []
    for model in settings.models:
        values = dict(changes.get(model.key, {}))
        arguments = values.pop("engine_args", {})
        if values.get("gpus") == "auto":
            values["gpus"] = AUTO
        models.append(dataclasses.replace(model, engine_args={**model.engine_args, **arguments}, **values))
    return dataclasses.replace(settings, models=tuple(models))


def _candidates(
    verdict: Verdict, facts: Mapping[str, Facts], settings: Settings, gpus: Mapping[str, Gpu]
) -> Iterator[Tuple[str, Changes]]:
    failing, image = _failing(verdict), verdict.image
    yield "fewer sequences at once", _fewer(verdict)
    yield "lowest utilizations", lowest(settings, facts, gpus, image)
    yield "raised utilization", {key: values for key, values in lowest(settings, facts, gpus, image).items() if key in failing}
    shorter = _shorter(verdict, failing)
    yield "shorter max_model_len", shorter
    quantized = {model.key: {"engine_args": {"kv-cache-dtype": "fp8"}} for model in settings.models if model.key in failing}
    yield "fp8 KV cache", quantized
    yield "fp8 KV cache and lowest utilizations", _with_lowest(settings, quantized, facts, gpus, image)
    anew: Changes = {model.key: {"gpus": "auto"} for model in settings.models}
    for kind, change in (("other placement", anew), ("other placement and lowest utilizations", None)):
        changes = change or _with_lowest(settings, anew, facts, gpus, image)
        if place(apply(settings, changes))[0].gpus != place(settings)[0].gpus:
            yield kind, changes
    for key in failing:
        yield from _parallel(settings.model(key), settings, facts, gpus, image)
    # The utilization at its most, the length as long as it then can be.
    most = {key: {"gpu_memory_utilization": LIMIT} for key in failing} if len(settings.models) == 1 else {}
    if most:
        raised = evaluate(apply(settings, most), facts, gpus, image)
        shorter = _shorter(raised, _failing(raised))
        both = {key: {**most[key], **shorter[key]} for key in shorter}
        yield "higher utilization and shorter max_model_len", both


def lowest(settings: Settings, facts: Mapping[str, Facts], gpus: Mapping[str, Gpu], image: Image) -> Dict[str, Dict[str, Any]]:
    """Each engine's lowest utilization where it stands; an engine that no utilization helps is left out."""
    verdict = evaluate(settings, facts, gpus, image)
    result: Dict[str, Dict[str, Any]] = {}
    for model in settings.models:
        slots = [(gpus[id], slot) for (key, id), slot in verdict.slots.items() if key == model.key]
        least = max([least_utilization(slot.need, gpu) for gpu, slot in slots], default=1.0)
        if slots and least <= LIMIT:
            result[model.key] = {"gpu_memory_utilization": max(least, 0.01)}
    return result


def _with_lowest(
    settings: Settings, changes: Changes, facts: Mapping[str, Facts], gpus: Mapping[str, Gpu], image: Image
) -> Changes:
    """``changes``, and on top of them the lowest utilizations, twice: automatic placement follows from these."""
    result: Dict[str, Dict[str, Any]] = {key: dict(values) for key, values in changes.items()}
    for _ in range(2):
        for key, values in lowest(apply(settings, result), facts, gpus, image).items():
            result.setdefault(key, {}).update(values)
    return result


def _failing(verdict: Verdict) -> List[str]:
    return [model.key for model in verdict.settings.models if verdict.outcome_of(model.key) != STARTS]


def _fewer(verdict: Verdict) -> Changes:
    """max_num_seqs as the refusals name it."""
    found: Dict[str, Dict[str, Any]] = {}
    for mistake in (*verdict.mistakes, *verdict.warnings):
        match = re.fullmatch(rf"models\.(.+)\.engine_args\.{ARGUMENT}", mistake.field)
        args = re.search(r"max_num_seqs to ([0-9]+)", mistake.remedy)
        if match and args:
            found[match.group(1)] = {"engine_args": {ARGUMENT: int(args.group(1))}}
    return found


def _shorter(verdict: Verdict, failing: List[str]) -> Dict[str, Dict[str, Any]]:
    """The longest max_model_len of each failing engine in the share that it has."""
    result: Dict[str, Dict[str, Any]] = {}
    for key in failing:
        slots = verdict.of(key)
        if not slots or not slots[0].need.pool.groups:
            continue
        pool = slots[0].need.pool
        room = [max(min(slot.kv.least for slot in slots), 0)] * len(pool.block_bytes)
        length = pool.longest(room, verdict.settings.model(key).max_model_len - 1)
        length = length // STEP * STEP if length > STEP else length
        if length >= min(STEP, verdict.settings.model(key).max_model_len):
            result[key] = {"max_model_len": length}
    return result


def _parallel(
    model: Model, settings: Settings, facts: Mapping[str, Facts], gpus: Mapping[str, Gpu], image: Image
) -> Iterator[Tuple[str, Changes]]:
    for size in (2, 4, 8, 1):
        if size == model.tensor_parallel_size or size > len(gpus):
            continue
        change: Changes = {model.key: {"tensor_parallel_size": size, "gpus": "auto"}}
        yield f"{model.key} on {size} GPU(s)", change
        yield f"{model.key} on {size} GPU(s) and lowest utilizations", _with_lowest(settings, change, facts, gpus, image)


def _cards(
    settings: Settings,
    verdict: Verdict,
    facts: Mapping[str, Facts],
    fits: Callable[[Changes, Mapping[str, Gpu]], bool],
) -> List[Suggestion]:
    """The smallest known card of which as many as now would do, as the configuration is and with its lowest utilizations."""
    found: List[Suggestion] = []
    gpus = verdict.gpus
    asis = next((row for row in cards_upwards() if fits({}, _of(row, gpus))), None)
    for row in cards_upwards():
        if row is asis:
            break
        changes = lowest(settings, facts, _of(row, gpus), verdict.image)
        if len(changes) == len(settings.models) and fits(changes, _of(row, gpus)):
            found.append(Suggestion("smallest card, with lowest utilizations", changes, row.name))
            break
    if asis:
        found.append(Suggestion("smallest card", {}, asis.name))
    return found


def _of(row: Card, gpus: Mapping[str, Gpu]) -> Dict[str, Gpu]:
    return {id: Gpu(id, row.name, row.total, row.usable_bytes // MIB, row.capability, unified=row.unified) for id in gpus}


def _shown(value: Any) -> str:
    return ", ".join(f"{name} {item}" for name, item in value.items()) if isinstance(value, dict) else str(value)
