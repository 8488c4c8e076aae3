"""The GPU plan held against public start logs of vLLM.

Run it as python -m benchmarks.plan_logs.

Rules: the truth is what an engine logged (tests/data/plan-logs); a case is planned twice, as it was started, and with the KV
memory that it logged, since tokens follow from that memory exactly; where card or settings are not fully known (``only: kv``)
only the second counts; "inside" says where in the range the logged memory lies, at 0 % its least. A figure of the target that
is not reached is printed as "Missed".
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from offline_kit.runtime.gpu_plan import architecture, gpus
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.kv_cache import Pool
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from offline_kit.runtime.settings import load
from offline_kit.runtime.settings.sizes import GIB, MIB

FOLDER = Path(__file__).resolve().parent.parent / "tests/data/plan-logs"
KEY = "engine"


@dataclass(frozen=True)
class Row:
    """One case against its plan; None where the log or the plan says nothing of it. Errors are shares, memory is in GiB."""

    id: str
    truth: bool | None
    outcome: str
    weights: float | None
    tokens: float | None
    kv: float | None
    low: float | None
    high: float | None
    card: float

    @property
    def inside(self) -> bool | None:
        if self.kv is None or self.low is None or self.high is None:
            return None
        return self.low - 0.005 <= self.kv <= self.high + 0.005  # a log has two decimals

    @property
    def place(self) -> float | None:
        """Where in the range the logged memory lies: 0 at its least, 1 at its most."""
        if self.kv is None or self.low is None or self.high is None or self.high == self.low:
            return None
        return (self.kv - self.low) / (self.high - self.low)

    @property
    def width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / self.card


def cases() -> list[dict[str, Any]]:
    """All cases, as they are on disk."""
    return [json.loads(line) for line in (FOLDER / "cases.jsonl").read_text().splitlines()]


def facts(name: str) -> Facts:
    """The model of a case."""
    record = json.loads((FOLDER / f"models/{name}.json").read_text())
    return Facts.of({"config": architecture.subset(record["config"]), "tensors": record["tensors"]})


def cards(case: Mapping[str, Any]) -> dict[str, gpus.Gpu]:
    """The GPUs of a case."""
    named = case["gpu"]
    if isinstance(named, str):
        return {gpu.id: gpu for gpu in gpus.parse(named)}
    return {str(n): gpus.measured(str(n), named["total_mib"], named["name"]) for n in range(named["count"])}


def plan(case: Mapping[str, Any], **more: Any) -> Verdict:
    """The plan of a case; ``more``: further arguments of the engine."""
    entry = {
        "name": KEY,
        "path": KEY,
        "port": 8001,
        "type": case["type"],
        "gpu_memory_utilization": case["util"],
        "max_model_len": case["max_model_len"],
        "tensor_parallel_size": case["tp"],
        "dtype": case["dtype"],
        "engine_args": {**case["args"], **more},
    }
    settings = load.load_settings(json.dumps({"models": {KEY: entry}}), "")
    return evaluate(settings, {KEY: facts(case["model"])}, cards(case), Image(vllm=_vllm(case["version"])))


def _vllm(version: str) -> Vllm:
    """Of "0.2x", which is one of them, the last, and as one that is not known."""
    return replace(Vllm.parse(version.replace("x", "9")), known="x" not in version)


def row(case: Mapping[str, Any]) -> Row:
    """One case against its plan."""
    logged, full = case["logged"], case["only"] != "kv"
    verdict = plan(case)
    slot = verdict.slots[KEY, "0"]
    known = bool(facts(case["model"]).tensors)
    kv = None if "kv_cache_memory_bytes" in case["args"] else logged_memory(case, slot.need.pool)
    return Row(
        id=case["id"],
        truth=logged.get("starts") if full else None,
        outcome=verdict.outcome if full else "",
        weights=slot.need.loaded / GIB / logged["weights"] - 1 if known and "weights" in logged else None,
        tokens=_tokens(case),
        kv=kv if full else None,
        low=slot.kv.least / GIB if full and known else None,
        high=slot.kv.most / GIB if full and known else None,
        card=slot_card(verdict),
    )


def logged_memory(case: Mapping[str, Any], pool: Pool) -> float | None:
    """GiB of KV cache as logged, or as its tokens or blocks say: those follow from it."""
    logged = case["logged"]
    if "kv" in logged or not {"tokens", "blocks"} & set(logged):
        return float(logged["kv"]) if "kv" in logged else None
    blocks = logged.get("blocks")
    if blocks is None and case["rule"] == "conc":
        blocks = logged["tokens"] / case["max_model_len"] * pool.blocks_for(case["max_model_len"])
    elif blocks is None:
        blocks = logged["tokens"] / _smallest(pool) * len(pool.groups)
    return float(blocks * pool.block_bytes[0] / GIB)


def _smallest(pool: Pool) -> int:
    return min(page.block for group in pool.groups for _, page in group.members)


def slot_card(verdict: Verdict) -> float:
    """GiB of the card for CUDA."""
    return next(iter(verdict.gpus.values())).usable * MIB / GIB


def _tokens(case: Mapping[str, Any]) -> float | None:
    """The error of tokens in the KV memory that was logged."""
    logged = case["logged"]
    memory = case["args"].get("kv_cache_memory_bytes") or (int(logged["kv"] * GIB) if "kv" in logged else None)
    if memory is None or "tokens" not in logged or case.get("rounded"):
        return None
    verdict = plan(case, kv_cache_memory_bytes=memory)
    pool, blocks = verdict.slots[KEY, "0"].need.pool, verdict.blocks(KEY).likely
    tokens = pool.tokens(blocks, case["max_model_len"], by_concurrency=case["rule"] == "conc")
    return float(tokens / logged["tokens"] - 1)


def lines(rows: list[Row]) -> Iterator[str]:
    """The table, and the figures below it."""
    yield "| case | truth | outcome | weights | tokens | KV logged, GiB | planned | inside |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: | --- |"
    for item in rows:
        truth = {True: "starts", False: "does not start", None: ""}[item.truth]
        planned = "" if item.low is None else f"{item.low:.2f} to {item.high:.2f}"
        inside = {True: "yes", False: "NO", None: ""}[item.inside]
        inside += "" if item.place is None else f", at {item.place:.0%}"
        kv = "" if item.kv is None else f"{item.kv:.2f}"
        shares = f"{_share(item.weights)} | {_share(item.tokens)}"
        yield f"| {item.id} | {truth} | {item.outcome} | {shares} | {kv} | {planned} | {inside} |"
    yield ""
    yield from (f"{'ok    ' if reached else 'Missed'} {figure}" for figure, reached in figures(rows))


def figures(rows: list[Row]) -> list[tuple[str, bool]]:
    """What is promised, and whether it holds."""
    stopped = [item for item in rows if item.truth is False and item.outcome]
    started = [item for item in rows if item.truth is True and item.outcome]
    wrong_yes = [item.id for item in stopped if item.outcome == "starts"]
    wrong_no = [item.id for item in started if item.outcome == "does not start"]
    weights = [abs(item.weights) for item in rows if item.weights is not None]
    tokens = [abs(item.tokens) for item in rows if item.tokens is not None]
    inside = [item.inside for item in rows if item.inside is not None]
    widths = [item.width for item in rows if item.width is not None]
    # A case that tells kv_cache_memory_bytes has a range without width, and none is held against it.
    judged = statistics.median(item.width for item in rows if item.width is not None and item.inside is not None)
    return [
        (f"of {len(stopped)} that did not start, outcome 'starts': {wrong_yes or 'none'}", not wrong_yes),
        (f"of {len(started)} that started, outcome 'does not start': {wrong_no or 'none'}", not wrong_no),
        _within("weights", weights, 0.01),
        _within("tokens in the logged KV memory", tokens, 0.005),
        (f"logged KV memory in the range: {sum(inside)} of {len(inside)}", sum(inside) >= 0.9 * len(inside)),
        (
            f"width of the range, median: {statistics.median(widths):.1%} of the card, "
            f"{judged:.1%} where a logged memory is held against it",
            judged <= 0.08,
        ),
    ]


def _within(what: str, errors: list[float], most: float) -> tuple[str, bool]:
    good = sum(error <= most for error in errors)
    return f"{what} within {most:.1%}: {good} of {len(errors)}", good >= 0.95 * len(errors)


def _share(error: float | None) -> str:
    return "" if error is None else f"{error:+.2%}"


if __name__ == "__main__":
    print("\n".join(lines([row(case) for case in cases()])))
