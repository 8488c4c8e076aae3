"""Utilizations, lengths and numbers of GPUs for a new project, by the plan that judges it later.

Rules: the first proposal of which the plan says "starts" is taken: on as few GPUs a chat model as will do, with what embedding
and rerank engines take at least and a length that the model has; where none starts, what the plan itself suggests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from offline_kit.cli.start.wanted import WantedModel
from offline_kit.common.errors import SpecError
from offline_kit.host.validate import check_services
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.gpus import Gpu
from offline_kit.runtime.gpu_plan.slot import DOES_NOT_START, STARTS
from offline_kit.runtime.gpu_plan.suggest import suggestions
from offline_kit.runtime.settings.model import Settings
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import Accelerator, canonical

Entries = dict[str, dict[str, Any]]
_LONGEST = {"chat": 32768, "embedding": 8192, "rerank": 8192}
_UNKNOWN_LENGTH = {"chat": 4096, "embedding": 512, "rerank": 512}
_SHARES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)  # of a chat engine
_SMALL_SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.45)  # of an embedding or rerank engine
_ON_A_CPU = 0.3
_FIRST_PORT = 8001


def propose(
    models: Sequence[WantedModel],
    facts: Mapping[str, ModelFacts | None],
    cards: Mapping[str, Gpu],
    engine_yaml: bytes,
    accelerator: Accelerator,
) -> tuple[Entries, Verdict]:
    """The entries of models.json, and the plan of them. Raises SpecError: they do not start on these GPUs."""
    tried: list[tuple[Entries, Verdict]] = []
    known = {key: Facts.of(record.model_dump(mode="json")) for key, record in facts.items() if record is not None}
    for entries in _candidates(models, facts, cards, accelerator):
        try:
            settings = _settings(entries, engine_yaml, accelerator)
        except SpecError:  # shares that no placement holds
            continue
        verdict = evaluate(settings, known, cards, Image())
        if verdict.outcome == STARTS:
            return entries, verdict
        tried.append((entries, verdict))
    if not tried:
        what = f"{len(models)} models are too many for these GPUs"
        raise SpecError(what, where="--gpus", remedy="name more GPUs or fewer models")
    widest = max(max(entry["tensor_parallel_size"] for entry in entries.values()) for entries, _ in tried)
    entries, verdict = next(one for one in tried if any(e["tensor_parallel_size"] == widest for e in one[0].values()))
    found = suggestions(verdict, known)
    for suggestion in found:
        if not suggestion.card:
            changed = {key: {**entry, **suggestion.changes.get(key, {})} for key, entry in entries.items()}
            return changed, evaluate(_settings(changed, engine_yaml, accelerator), known, cards, Image())
    if verdict.outcome == DOES_NOT_START:
        lines = [str(mistake) for mistake in verdict.mistakes] + [f"what would start: {one}" for one in found]
        remedy = "name other GPUs, or smaller or quantised models"
        raise SpecError("\n".join(["these models do not start on these GPUs:", *lines]), where="--gpus", remedy=remedy)
    return entries, verdict


def _candidates(
    models: Sequence[WantedModel], facts: Mapping[str, ModelFacts | None], cards: Mapping[str, Gpu], accelerator: Accelerator
) -> Iterator[Entries]:
    base = {model.key: _entry(model, facts.get(model.key), _FIRST_PORT + at, accelerator) for at, model in enumerate(models)}
    if accelerator == "cpu":
        yield base
        return
    for size in (size for size in (1, 2, 4, 8) if size <= len(cards)):
        for small in _SMALL_SHARES:
            for share in _SHARES:
                yield {
                    key: {
                        **entry,
                        "gpu_memory_utilization": share if entry["type"] == "chat" else small,
                        "tensor_parallel_size": size if entry["type"] == "chat" else 1,
                    }
                    for key, entry in base.items()
                }


def _entry(model: WantedModel, facts: ModelFacts | None, port: int, accelerator: Accelerator) -> dict[str, Any]:
    longest = Facts.of(facts.model_dump(mode="json")).arch.longest if facts else 0
    if facts and "roberta" in str(facts.config.get("model_type", "")):
        longest -= 2  # positions begin behind the padding's
    entry = {
        "name": model.name,
        "path": f"/models/{model.key}",
        "type": model.type,
        "port": port,
        "gpu_memory_utilization": _ON_A_CPU,
        "max_model_len": min(longest, _LONGEST[model.type]) if longest > 0 else _UNKNOWN_LENGTH[model.type],
        "tensor_parallel_size": 1,
        "dtype": "auto",
    }
    return {**entry, "gpus": "auto"} if accelerator == "nvidia" else entry


def models_json(entries: Entries) -> str:
    """models.json with these entries, its fields in the order in which they are documented."""
    return json.dumps({"models": entries}, indent=2, ensure_ascii=False) + "\n"


def _settings(entries: Entries, engine_yaml: bytes, accelerator: Accelerator) -> Settings:
    files = {"models.json": canonical({"models": entries}).encode(), "vllm_config.yaml": engine_yaml}
    return check_services(files, entries.keys(), accelerator).settings
