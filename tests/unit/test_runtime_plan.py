"""Which engine goes where, whether it fits, and in which order engines start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline_kit.runtime import config, plan
from offline_kit.runtime.records import Settings
from tests.unit.test_runtime_config import entry

SHIPPED = {"chat": 65_527_752_704, "embedding": 2_271_145_830, "rerank": 2_271_071_852}


def settings(env: str = "", device: str = "nvidia", **models: Any) -> Settings:
    entries = {
        key: entry(**{"name": key, "port": 8001 + number, **value}) for number, (key, value) in enumerate(models.items())
    }
    return config.load(json.dumps({"models": entries}), "", env, device=device)


def test_the_well_known_sample_cannot_run() -> None:
    chat = {"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}
    wanted = settings(chat=chat, embedding={"gpu_memory_utilization": 0.3}, rerank={"gpu_memory_utilization": 0.2})
    placed, mistakes = plan.place(wanted)
    assert placed.load == pytest.approx({"0": 1.3, "1": 0.8})
    assert [str(mistake) for mistake in mistakes] == [
        "config/models.json: gpu_memory_utilization: chat 0.8 + embedding 0.3 + rerank 0.2 = 1.30 of GPU 0, more than 0.95 "
        "-> lower one of them, or move one with 'gpus'"
    ]


def test_the_limit_itself_fits() -> None:
    _, mistakes = plan.place(settings(a={"gpu_memory_utilization": 0.8}, b={"gpu_memory_utilization": 0.15}))
    assert mistakes == []


def test_gpus_come_from_dotenv_or_the_model() -> None:
    placed, mistakes = plan.place(
        settings("CUDA_VISIBLE_DEVICES=4,5", a={"tensor_parallel_size": 2}, b={"gpus": [5], "gpu_memory_utilization": 0.1})
    )
    assert (placed.gpus, mistakes) == ({"a": ("4", "5"), "b": ("5",)}, [])


@pytest.mark.parametrize(
    ("env", "model", "what"),
    [
        ("CUDA_VISIBLE_DEVICES=0", {"tensor_parallel_size": 2}, "takes 2 GPUs, but CUDA_VISIBLE_DEVICES=0 has 1"),
        ("", {"gpus": [0], "tensor_parallel_size": 2}, "names 1 GPUs, but the model takes 2"),
        ("CUDA_VISIBLE_DEVICES=0,1", {"gpus": [2]}, "GPU 2 is not in CUDA_VISIBLE_DEVICES=0,1"),
        ("CUDA_VISIBLE_DEVICES=0", {"engine_args": {"pipeline_parallel_size": 2}}, "takes 2 GPUs"),
    ],
)
def test_too_few_gpus(env: str, model: dict[str, Any], what: str) -> None:
    _, mistakes = plan.place(settings(env, a=model))
    assert len(mistakes) == 1 and what in str(mistakes[0])


def test_engines_that_share_a_gpu_start_one_after_another() -> None:
    order = plan.start_order({"chat": ("0", "1"), "embedding": ("0",), "rerank": ("1",), "other": ("2",), "last": ("0", "2")})
    assert order == (("chat", "other"), ("embedding", "rerank"), ("last",))
    placed = plan.Plan({"chat": ("0", "1"), "embedding": ("0",), "rerank": ("1",)}, {}, (("chat",), ("embedding", "rerank")))
    assert [plan.waits_for(placed, key) for key in placed.gpus] == [(), ("chat",), ("chat",)]


def test_on_a_cpu_all_start_side_by_side() -> None:
    placed, mistakes = plan.place(settings(device="cpu", a={}, b={}, c={}))
    assert (placed.order, mistakes) == ((("a", "b", "c"),), [])
    assert plan.waits_for(placed, "c") == ()


@pytest.mark.parametrize(("total", "fits"), [(49140, True), (40960, False), (32768, False), (24564, False)])
def test_the_shipped_models_and_the_memory_of_two_cards(total: int, fits: bool) -> None:
    chat = {"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}
    wanted = settings(
        chat=chat, embedding={"gpu_memory_utilization": 0.1, "gpus": [0]}, rerank={"gpu_memory_utilization": 0.1, "gpus": [1]}
    )
    placed, mistakes = plan.place(wanted)
    assert mistakes == []
    found = plan.check_memory(wanted, placed, {"0": total, "1": total}, SHIPPED)
    assert (not [mistake for mistake in found if "models.chat" in str(mistake)]) is fits


def test_more_memory_never_turns_fit_into_no_fit() -> None:
    wanted = settings(a={"gpu_memory_utilization": 0.5})
    placed, _ = plan.place(wanted)
    counts = [len(plan.check_memory(wanted, placed, {"0": total}, {"a": 10 << 30})) for total in range(1000, 60000, 500)]
    assert counts == sorted(counts, reverse=True) and counts[0] == 1 and counts[-1] == 0


def test_what_would_fit_is_said() -> None:
    wanted = settings(a={"gpu_memory_utilization": 0.3})
    placed, _ = plan.place(wanted)
    assert "raise it above 0.7" in str(plan.check_memory(wanted, placed, {"0": 16384}, {"a": 10 << 30})[0])
    assert "use larger GPUs" in str(plan.check_memory(wanted, placed, {"0": 8192}, {"a": 10 << 30})[0])
    named = settings("CUDA_VISIBLE_DEVICES=GPU-1a2b", a={})
    assert plan.check_memory(named, plan.place(named)[0], {"0": 1}, {}) == []
    assert "there is no GPU 0 in this host (it has none)" in str(plan.check_memory(wanted, placed, {}, {})[0])
