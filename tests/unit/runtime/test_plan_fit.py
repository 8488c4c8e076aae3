"""The verdict: what fits where, with which arithmetic, and what is suggested instead."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from offline_kit.runtime.gpu_plan import gpus, report
from offline_kit.runtime.gpu_plan.engine_memory import CONTEXT, Facts
from offline_kit.runtime.gpu_plan.evaluate import Image, Verdict, evaluate
from offline_kit.runtime.gpu_plan.refusals.shares import least_utilization
from offline_kit.runtime.gpu_plan.slot import OUTCOMES
from offline_kit.runtime.gpu_plan.suggest import apply, suggestions
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.sizes import GIB, MIB
from tests.support.plan_samples import CHAT, cards, facts, settings

KNOWN = {"chat": facts(CHAT), "embedding": facts("bge-large-en-v1.5"), "rerank": facts("bge-reranker-v2-m3")}
TWO = {"tensor_parallel_size": 2}
SMALL = {"gpu_memory_utilization": 0.1, "max_model_len": 512, "dtype": "float16"}


def chat(**more: Any) -> Settings:
    return settings("max_num_seqs: 64", chat={**TWO, **more})


def verdict(request: Settings, where: str, known: dict[str, Facts] | None = None) -> Verdict:
    return evaluate(request, known or KNOWN, cards(where))


def test_qwen_on_pairs_of_cards() -> None:
    assert not any(verdict(chat(gpu_memory_utilization=u / 100), "2x24GiB").fits for u in range(1, 96))
    assert not any(verdict(chat(gpu_memory_utilization=u / 100), "2x32GiB").fits for u in range(1, 96))
    forty = verdict(chat(), "2x40GiB")
    assert not forty.fits
    assert least_utilization(forty.slots["chat", "0"].need, forty.gpus["0"]) == 0.95
    assert verdict(chat(gpu_memory_utilization=0.91), "2x40GiB").outcome == "may not start"
    assert verdict(chat(gpu_memory_utilization=0.95), "2x40GiB").outcome == "starts"
    smi = {str(n): gpus.measured(str(n), 49140) for n in range(2)}
    for made in (evaluate(chat(), KNOWN, smi), verdict(chat(), "NVIDIA RTX A6000:2"), verdict(chat(), "2x48GB")):
        assert made.fits
    assert f"{made.slots['chat', '0'].need.weights.rank / GIB:.2f}" == "30.51"
    assert made.slots["chat", "0"].need.loaded - made.slots["chat", "0"].need.weights.rank == 32768 * 128 * 2, "rotary table"


def test_the_published_sample_is_refused_with_its_arithmetic() -> None:
    request = settings(
        chat=TWO, embedding={**SMALL, "gpu_memory_utilization": 0.3}, rerank={**SMALL, "gpu_memory_utilization": 0.2}
    )
    said = [str(mistake) for mistake in verdict(request, "2x24GiB").mistakes]
    assert any("chat 0.8 + embedding 0.3 + rerank 0.2 = 1.30 of GPU 0, more than 0.95" in line for line in said)
    assert any("is 19.20 GiB, but 30.52 GiB weights + 4.00 GiB KV cache of 32768 tokens + " in line for line in said)


def test_a_share_must_be_free_when_the_engine_starts() -> None:
    request = settings(embedding=SMALL)
    card = dataclasses.replace(cards("24GiB")["0"], free=3000)
    full = evaluate(request, KNOWN, {"0": card})
    assert "it asks for 2,458 MiB of GPU 0, of which 2,488" not in str(full.mistakes) and full.fits
    taken = evaluate(request, KNOWN, {"0": dataclasses.replace(card, free=2900)})
    assert "it asks for 2,458 MiB of GPU 0, of which 2,388 MiB are free when it starts" in str(taken.mistakes[0])


def test_what_earlier_engines_take_is_gone() -> None:
    """Three contexts of 512 MiB do not fit beside shares of 0.95 on a small card, although the sum is allowed."""
    many: dict[str, Any] = {key: {**SMALL, "gpu_memory_utilization": 0.31} for key in ("embedding", "rerank", "third")}
    made = evaluate(settings(**many), {**KNOWN, "third": KNOWN["rerank"]}, cards("10GiB"))
    assert [m.field for m in made.mistakes] == ["models.third.gpu_memory_utilization"]


def test_limits_of_vllm_and_of_cards() -> None:
    said = str(verdict(chat(tensor_parallel_size=3), "3x80GiB").mistakes[0])
    assert "3 does not divide its 40 attention heads -> use one of 1, 2, 4, 8" in said
    assert "40000 is more than the 32768 tokens" in str(verdict(chat(max_model_len=40000), "2x80GiB").mistakes[0])
    old = verdict(settings(chat={"tensor_parallel_size": 8}), "Tesla V100-SXM2-32GB:8")
    assert "compute capability 7.0, vLLM's kernels start at 7.5" in str(old.mistakes[0])
    turing = verdict(settings(embedding={**SMALL, "dtype": "bfloat16"}), "Tesla T4")
    assert "bfloat16 needs 8.0 -> use float16" in str(turing.mistakes[0])
    assert verdict(chat(engine_args={"kv_cache_dtype": "fp8"}), "NVIDIA A100 80GB PCIe:2").fits
    card = dataclasses.replace(cards("24GiB")["0"], driver=550)
    assert "driver 550, the engine image's CUDA 13 needs 580" in str(
        evaluate(settings(embedding=SMALL), KNOWN, {"0": card}, Image(13)).mistakes
    )
    assert evaluate(settings(embedding=SMALL), KNOWN, {"0": card}, Image(12)).fits


def test_a_gpu_that_is_not_there() -> None:
    made = evaluate(chat(), KNOWN, cards("80GiB"))
    assert str(made.mistakes[0]).startswith(
        "config/models.json: models.chat.tensor_parallel_size: there is no GPU 1 in this host (it has GPU 0) -> "
    )
    fixed = evaluate(settings(embedding={**SMALL, "gpus": [3]}), KNOWN, cards("2x24GiB"))
    assert "models.embedding.gpus: there is no GPU 3 in this host (it has GPU 0, 1)" in str(fixed.mistakes[0])
    visible = evaluate(settings(env="CUDA_VISIBLE_DEVICES=0,1", chat=TWO), KNOWN, cards("80GiB"))
    assert ".env: CUDA_VISIBLE_DEVICES: chat: there is no GPU 1" in str(visible.mistakes[0])
    named = settings(env="CUDA_VISIBLE_DEVICES=GPU-1a2b", embedding=SMALL)
    assert evaluate(named, KNOWN, {}).fits


def test_kv_cache_memory_bytes_is_taken_at_its_word() -> None:
    made = verdict(chat(engine_args={"kv_cache_memory_bytes": "4G"}), "2x48GiB")
    assert not made.fits and "KV cache (kv_cache_memory_bytes; 4.00 GiB for 32768 tokens)" in str(made.mistakes[0])
    assert verdict(chat(engine_args={"kv_cache_memory_bytes": "5G"}), "2x48GiB").fits


def test_replicas_and_pipelines() -> None:
    request = settings(embedding={**SMALL, "replicas": 2, "gpus": [0, 1]})
    made = evaluate(request, KNOWN, cards("2x24GiB"))
    assert made.fits and set(made.slots) == {("embedding", "0"), ("embedding-2", "1")}
    auto = evaluate(
        settings(embedding={**SMALL, "gpu_memory_utilization": 0.6, "replicas": 2, "gpus": "auto"}), KNOWN, cards("2x24GiB")
    )
    assert auto.fits and set(auto.slots) == set(made.slots)
    piped = verdict(chat(tensor_parallel_size=1, engine_args={"pipeline_parallel_size": 2}), "2x48GiB")
    assert piped.fits and 30 * GIB < piped.slots["chat", "0"].need.weights.rank < 32 * GIB


def test_lora_eager_and_drafts() -> None:
    base = verdict(chat(), "2x48GiB").slots["chat", "0"].need
    lora = (
        verdict(chat(engine_args={"enable_lora": True, "max_lora_rank": 64, "max_loras": 2}), "2x48GiB").slots["chat", "0"].need
    )
    assert lora.adapters > 500 * MIB and base.adapters == 0
    assert verdict(chat(engine_args={"enforce_eager": True}), "2x48GiB").slots["chat", "0"].need.overhead.graphs.most == 0
    draft = {"speculative_config": {"model": "/models/draft", "num_speculative_tokens": 3}}
    assert "the draft model" in verdict(chat(engine_args=draft), "2x48GiB").slots["chat", "0"].need.notes[0]


def test_a_cpu_kit_has_no_gpu_plan() -> None:
    request = dataclasses.replace(chat(), device="cpu")
    made = evaluate(request, KNOWN, {})
    assert made.fits and made.slots == {} and suggestions(made, KNOWN) == []
    assert "there is no GPU plan" in "\n".join(report.lines(made))


def test_the_drawing_names_everything() -> None:
    made = verdict(settings("max_num_seqs: 64", chat=TWO, embedding=SMALL), "2x48GiB")
    text = "\n".join(report.lines(made))
    assert "GPU 0  48GiB: 49,152 MiB, 49,152 MiB for CUDA, 0.90 given away" in text
    assert "1 sequence(s) of 32768 tokens, 11 of 4096" in text and "131072 bytes a token here" in text
    assert "lowest utilization that works here by every bound: 0.79" in text and text.endswith("starts")
    short = verdict(chat(), "2x24GiB")
    assert "!!" in report.bar(short, short.gpus["0"])
    assert "  no utilization works here by every bound: it takes 1.58 of the GPU" in list(report.lines(short))
    reported = json.loads(json.dumps(report.as_json(short, suggestions(short, KNOWN))))
    assert (
        reported["fits"] is False and reported["engines"]["chat"]["ranks"][0]["weights"] == short.slots["chat", "0"].need.loaded
    )


def test_what_is_suggested_for_too_small_cards() -> None:
    made = verdict(chat(), "2x40GiB")
    said = [str(item) for item in suggestions(made, KNOWN)]
    assert "lowest utilizations: chat: gpu_memory_utilization 0.95" in said
    assert any(line.startswith("smallest card: NVIDIA RTX 6000 Ada") for line in said)
    assert any("kv-cache-dtype fp8" in line for line in said)
    four = [str(item) for item in suggestions(verdict(chat(), "4x24GiB"), KNOWN)]
    assert any(line.startswith("chat on 4 GPU(s)") for line in four)
    shorter = suggestions(verdict(chat(gpu_memory_utilization=0.72), "2x48GiB"), KNOWN)
    assert any(item.changes.get("chat", {}).get("max_model_len", 0) > 6000 for item in shorter)


models = st.fixed_dictionaries(
    {
        "gpu_memory_utilization": st.integers(5, 95).map(lambda value: value / 100),
        "max_model_len": st.sampled_from([512, 4096, 32768]),
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        # vLLM's own defaults grow with the card (at 70 and 160 GiB): pinned, or more memory may really be worse
        "engine_args": st.just({"max_num_seqs": 64, "max_num_batched_tokens": 2048}),
    }
)
names = st.sampled_from([CHAT, "Qwen2.5-7B-Instruct", "gemma-2-9b-it", "gpt-oss-20b", "Jamba-v0.1", "bge-reranker-v2-m3"])
requests = st.lists(st.tuples(names, models), min_size=1, max_size=3)


def build(request: list[tuple[str, dict[str, Any]]]) -> tuple[Settings, dict[str, Facts]]:
    made: dict[str, Any] = {f"m{number}": values for number, (_, values) in enumerate(request)}
    known = {f"m{number}": facts(name) for number, (name, _) in enumerate(request)}
    for key, values in made.items():
        values["max_model_len"] = min(values["max_model_len"], known[key].arch.longest)
    return settings(**made), known


@examples(max_examples=30, deadline=None)
@given(requests, st.integers(8, 190), st.integers(0, 60))
def test_more_memory_never_turns_fit_into_no_fit(request: Any, size: int, more: int) -> None:
    made, known = build(request)
    before, after = (evaluate(made, known, cards(f"4x{memory}GiB")).outcome for memory in (size, size + more))
    assert OUTCOMES.index(after) <= OUTCOMES.index(before)


@examples(max_examples=30, deadline=None)
@given(requests, st.integers(4, 190), st.integers(0, 3))
def test_every_mib_of_a_card_is_somewhere(request: Any, size: int, used: int) -> None:
    made, known = build(request)
    four = {id: dataclasses.replace(card, free=card.total - used * 1024) for id, card in cards(f"4x{size}GiB").items()}
    made_verdict = evaluate(made, known, four)
    for card in four.values():
        parts = report.segments(made_verdict, card)
        given_away = sum(number for letter, _, number in parts if letter != ".")
        assert sum(number for _, _, number in parts) == max(card.usable * MIB, given_away)
        shares = [slot for (_, id), slot in made_verdict.slots.items() if id == card.id]
        if all(slot.outcome == "starts" for slot in shares):
            assert given_away <= sum(slot.share + CONTEXT for slot in shares) + used * GIB


@examples(max_examples=20, deadline=None)
@given(requests, st.sampled_from([16, 24, 40, 48, 80, 141]), st.sampled_from([1, 2, 4]))
def test_suggestions_fit_when_they_are_applied(request: Any, size: int, count: int) -> None:
    made, known = build(request)
    given_cards = cards(f"{count}x{size}GiB")
    for item in suggestions(evaluate(made, known, given_cards), known):
        changed = dataclasses.replace(apply(made, item.changes), visible=tuple(given_cards))
        made_verdict = evaluate(changed, known, cards(f"{item.card}:{count}") if item.card else given_cards)
        assert made_verdict.outcome == "starts", item
