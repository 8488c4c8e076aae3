"""The plan of one engine held against the log of its start, line by line.

Rules: pure; a line is told only where the log says something; an estimate is right when what was logged lies within its bounds,
an exact number when it is within half a per cent or what two decimals hide; tokens are compared twice, as planned, and in the
memory that was logged, since they follow from it exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from offline_kit.host.start_log import StartLog
from offline_kit.runtime.gpu_plan.evaluate import Verdict
from offline_kit.runtime.gpu_plan.overhead.estimate import NOTHING, Estimate
from offline_kit.runtime.gpu_plan.slot import DOES_NOT_START, MAY_NOT_START, STARTS, Slot
from offline_kit.runtime.settings.sizes import GIB

SAME = 0.005  # of the number
HIDDEN = 0.006  # GiB that two decimals hide
RIGHT, WRONG = "as planned", "NOT AS PLANNED"


@dataclass(frozen=True)
class Line:
    """One number: its name, what was planned and logged in words, and whether they agree."""

    what: str
    planned: str
    logged: str
    agrees: bool

    def __str__(self) -> str:
        return f"  {self.what:<28} {self.planned:<34} {self.logged:>14}  {RIGHT if self.agrees else WRONG}"


def compare(verdict: Verdict, key: str, log: StartLog) -> list[Line]:
    """Planned against logged for the engine ``key``; empty where the plan has no GPU for it."""
    slots = verdict.of(key)
    if not slots:
        return []
    slot = min(slots, key=lambda slot: slot.share)
    return [*_memory(slot, log), *_tokens(verdict, key, slot, log), *_outcome(verdict, key, log)]


def text(verdict: Verdict, key: str, log: StartLog) -> Iterator[str]:
    """The comparison for people."""
    yield f"{key} as it logged its start (vLLM {log.version or 'not said'}; planned for {verdict.image.vllm}):"
    yield f"  {'':<28} {'planned':<34} {'logged':>14}"
    yield from (str(line) for line in compare(verdict, key, log))
    if log.refused:
        yield f"  it did not start: {log.refused}"


def _memory(slot: Slot, log: StartLog) -> Iterator[Line]:
    need, overhead = slot.need, slot.need.overhead
    if log.weights is not None:
        planned = need.loaded / GIB
        agrees = abs(planned - log.weights) <= max(0.01 * log.weights, HIDDEN)
        yield Line("weights", f"{planned:.2f} GiB", f"{log.weights:.2f} GiB", agrees)
    graphs = overhead.graphs + overhead.graphs_outside
    if log.graphs_estimate is not None:
        yield _bounded("CUDA graphs, as estimated", graphs, log.graphs_estimate)
    if log.graphs is not None:
        yield _bounded("CUDA graphs, as captured", graphs, log.graphs)
    if log.card is not None:
        most = slot.card * slot.share_most / slot.share
        yield _bounded("card, as CUDA reports it", Estimate(slot.card, slot.card, int(most)), log.card)
    if log.activations is not None:
        # Since 0.27 what vLLM names so has the estimate for graphs in it (gpu_worker.py peak_activation_memory).
        graphs_too = overhead.graphs if need.args.vllm.counts_buffers else NOTHING
        yield _bounded("activations", overhead.activations + graphs_too, log.activations)
    if log.libraries is not None:
        yield _bounded("memory outside of torch", overhead.libraries, log.libraries)
    if log.kv is not None:
        yield _bounded("KV cache memory", slot.kv, log.kv)
    if log.need is not None:
        planned = (need.kv_least - need.pool.block_bytes[0]) / GIB if need.pool.groups else 0.0
        agrees = abs(planned - log.need) <= max(SAME * log.need, HIDDEN)
        yield Line("KV cache of one request", f"{planned:.2f} GiB", f"{log.need:.2f} GiB", agrees)


def _tokens(verdict: Verdict, key: str, slot: Slot, log: StartLog) -> Iterator[Line]:
    pool, blocks, length = slot.need.pool, verdict.blocks(key), verdict.settings.model(key).max_model_len
    by = slot.need.args.vllm.tokens_by_concurrency
    if log.tokens is not None:
        least, likely, most = (
            pool.tokens(count, length, by_concurrency=by) for count in (blocks.least, blocks.likely, blocks.most)
        )
        agrees = least * (1 - SAME) <= log.tokens <= most * (1 + SAME)
        yield Line("KV tokens", f"{likely:,} ({least:,} to {most:,})", f"{log.tokens:,.0f}", agrees)
    if log.tokens is not None and log.kv is not None:
        # Of a memory that has two decimals the tokens are known to a block or so.
        inside = pool.blocks([int(log.kv * GIB)] * len(pool.block_bytes))
        exact = pool.tokens(inside, length, by_concurrency=by)
        agrees = abs(exact - log.tokens) <= max(SAME, HIDDEN / max(log.kv, HIDDEN)) * log.tokens
        yield Line("KV tokens in that memory", f"{exact:,}", f"{log.tokens:,.0f}", agrees)
    if log.concurrency is not None:
        low, middle, high = (pool.concurrency(count, length) for count in (blocks.least, blocks.likely, blocks.most))
        agrees = low * (1 - SAME) - 0.01 <= log.concurrency <= high * (1 + SAME) + 0.01
        yield Line("concurrency", f"{middle:.2f}x ({low:.2f}x to {high:.2f}x)", f"{log.concurrency:.2f}x", agrees)
    if log.state_blocks is not None:
        agrees = blocks.least <= log.state_blocks <= blocks.most
        yield Line("blocks for states", f"{blocks.likely} ({blocks.least} to {blocks.most})", f"{log.state_blocks:.0f}", agrees)


def _outcome(verdict: Verdict, key: str, log: StartLog) -> Iterator[Line]:
    if log.started is None:
        return
    planned, wrong = verdict.outcome_of(key), DOES_NOT_START if log.started else STARTS
    logged = "started" if log.started else "did not start"
    yield Line("outcome", planned, logged, planned == MAY_NOT_START or planned != wrong)


def _bounded(what: str, part: Estimate, logged: float) -> Line:
    least, likely, most = (size / GIB for size in dataclasses.astuple(part))
    agrees = least - HIDDEN <= logged <= most + HIDDEN
    return Line(what, f"{likely:.2f} GiB ({least:.2f} to {most:.2f})", f"{logged:.2f} GiB", agrees)
