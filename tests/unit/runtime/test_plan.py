"""Which engine goes where, whether it fits, and in which order engines start."""

from __future__ import annotations

import json
from typing import Any

import pytest

from offline_kit.runtime.settings import load, placement, replicas
from offline_kit.runtime.settings.model import Settings
from tests.testbed.cache import REPOSITORY
from tests.unit.runtime.test_config import entry


def settings(env: str = "", device: str = "nvidia", **models: Any) -> Settings:
    entries = {
        key: entry(**{"name": key, "port": 8001 + number, **value}) for number, (key, value) in enumerate(models.items())
    }
    return load.load_settings(json.dumps({"models": entries}), "", env, device=device)


def test_the_well_known_sample_cannot_run() -> None:
    chat = {"gpu_memory_utilization": 0.8, "tensor_parallel_size": 2}
    wanted = settings(chat=chat, embedding={"gpu_memory_utilization": 0.3}, rerank={"gpu_memory_utilization": 0.2})
    placed, mistakes = placement.place(wanted)
    assert placed.load == pytest.approx({"0": 1.3, "1": 0.8})
    assert [str(mistake) for mistake in mistakes] == [
        "config/models.json: gpu_memory_utilization: chat 0.8 + embedding 0.3 + rerank 0.2 = 1.30 of GPU 0, more than 0.95 "
        "-> lower one of them, or move one with 'gpus'"
    ]


def test_the_limit_itself_fits() -> None:
    _, mistakes = placement.place(settings(a={"gpu_memory_utilization": 0.8}, b={"gpu_memory_utilization": 0.15}))
    assert mistakes == []


def test_gpus_come_from_dotenv_or_the_model() -> None:
    placed, mistakes = placement.place(
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
    _, mistakes = placement.place(settings(env, a=model))
    assert len(mistakes) == 1 and what in str(mistakes[0])


@pytest.mark.parametrize("gpus", [{}, {"gpus": "auto"}, {"gpus": "auto", "replicas": 3}, {"replicas": 2}, {"gpus": [0]}])
@pytest.mark.parametrize("stages", [2, 10**9])
def test_a_model_that_takes_more_gpus_than_a_host_has_is_one_mistake(gpus: dict[str, Any], stages: int) -> None:
    large = {"tensor_parallel_size": 64, "engine_args": {"pipeline_parallel_size": stages}, **gpus}
    small = {"gpu_memory_utilization": 0.1, "gpus": "auto"}
    engines, mistakes = replicas.expand_replicas(settings(large=large, small=small))
    assert mistakes == []
    placed, mistakes = placement.place(engines)
    assert [str(mistake) for mistake in mistakes] == [
        f"config/models.json: models.large.tensor_parallel_size: takes {64 * stages} GPUs, more than the 64 that one host is "
        "expected to have -> lower tensor_parallel_size, pipeline-parallel-size or data-parallel-size"
    ]
    assert placed.order == ()


def test_more_than_64_gpus_are_used_where_they_are_named() -> None:
    visible = "CUDA_VISIBLE_DEVICES=" + ",".join(str(number) for number in range(80))
    model = {"tensor_parallel_size": 40, "engine_args": {"pipeline_parallel_size": 2}, "gpus": "auto"}
    placed, mistakes = placement.place(settings(visible, a=model))
    assert mistakes == [] and len(placed.gpus["a"]) == 80


def test_a_cpu_has_engines_of_any_number_of_stages() -> None:
    model = {"replicas": 3, "engine_args": {"pipeline_parallel_size": 10**9}}
    engines, mistakes = replicas.expand_replicas(settings(device="cpu", a=model))
    assert mistakes == [] and placement.place(engines)[1] == []


def test_engines_that_share_a_gpu_start_one_after_another() -> None:
    order = placement.start_order(
        {"chat": ("0", "1"), "embedding": ("0",), "rerank": ("1",), "other": ("2",), "last": ("0", "2")}
    )
    assert order == (("chat", "other"), ("embedding", "rerank"), ("last",))
    placed = placement.Placement(
        {"chat": ("0", "1"), "embedding": ("0",), "rerank": ("1",)}, {}, (("chat",), ("embedding", "rerank"))
    )
    assert [placement.waits_for(placed, key) for key in placed.gpus] == [(), ("chat",), ("chat",)]


def test_on_a_cpu_all_start_side_by_side() -> None:
    placed, mistakes = placement.place(settings(device="cpu", a={}, b={}, c={}))
    assert (placed.order, mistakes) == ((("a", "b", "c"),), [])
    assert placement.waits_for(placed, "c") == ()


def test_auto_goes_where_least_is_taken_and_is_always_the_same() -> None:
    shares = {"a": 0.5, "b": 0.4, "c": 0.4, "d": 0.1}
    models: dict[str, Any] = {key: {"gpu_memory_utilization": share, "gpus": "auto"} for key, share in shares.items()}
    wanted = settings("CUDA_VISIBLE_DEVICES=0,1", **models)
    placed, mistakes = placement.place(wanted)
    assert mistakes == []
    assert placed.gpus == {"a": ("0",), "b": ("1",), "c": ("1",), "d": ("0",)}
    assert list(placed.gpus) == list(shares), "the order of models.json is the order of starting"


def test_auto_keeps_away_from_fixed_places_and_asks_for_as_many_gpus_as_needed() -> None:
    fixed = {"gpu_memory_utilization": 0.9, "gpus": [0]}
    placed, mistakes = placement.place(settings(a={"gpu_memory_utilization": 0.5, "gpus": "auto"}, b=fixed))
    assert (placed.gpus, mistakes) == ({"a": ("1",), "b": ("0",)}, [])
    many: dict[str, Any] = {key: {"gpu_memory_utilization": 0.9, "gpus": "auto"} for key in "abc"}
    assert len(placement.place(settings(**many))[0].load) == 3
    _, mistakes = placement.place(settings("CUDA_VISIBLE_DEVICES=0,1", **many))
    assert "more than 0.95" in str(mistakes[0])


@pytest.mark.parametrize(
    "visible", ["", "CUDA_VISIBLE_DEVICES=0,1,2,3,4,5", "CUDA_VISIBLE_DEVICES=GPU-a,GPU-b,GPU-c,GPU-d,GPU-e"]
)
@pytest.mark.parametrize("count", [{}, {"chat": 2}, {"embedding": 2, "rerank": 2}, {"chat": 2, "embedding": 2, "rerank": 2}])
def test_the_shipped_models_placed_automatically_never_share_a_gpu_beyond_its_limit(
    visible: str, count: dict[str, int]
) -> None:
    models: dict[str, Any] = json.loads((REPOSITORY / "config/models.json").read_text())["models"]
    for key, model in models.items():
        model |= {"gpus": "auto", **({"replicas": count[key]} if key in count else {})}
    wanted = load.load_settings(json.dumps({"models": models}), "", visible)
    engines, mistakes = replicas.expand_replicas(wanted)
    placed, wrong = placement.place(engines)
    assert mistakes + wrong == []
    sizes = {"chat": 2, "embedding": 1, "rerank": 1}
    assert list(placed.gpus) == [engine.key for engine in replicas.engines(wanted)], "every engine has its place"
    assert {key: len(set(gpus)) for key, gpus in placed.gpus.items()} == {key: sizes[key.split("-")[0]] for key in placed.gpus}
    shares = {
        gpu: sum(engines.model(key).gpu_memory_utilization for key in placed.gpus if gpu in placed.gpus[key])
        for gpu in placed.load
    }
    assert shares == pytest.approx(dict(placed.load)) and max(shares.values()) <= placement.LIMIT + 1e-9
    if wanted.visible:
        assert set(shares) <= set(wanted.visible)
    else:  # as few GPUs as it takes: beside chat, four shares of 0.1 are more than two GPUs have left
        assert len(shares) == (4 if "chat" in count else 3 if count else 2)
    assert sorted(key for group in placed.order for key in group) == sorted(placed.gpus)


def test_auto_says_so_when_the_engines_are_too_many_for_the_gpus_that_there_are() -> None:
    two: dict[str, Any] = {"a": {"gpu_memory_utilization": 0.6, "gpus": "auto", "replicas": 2}}
    engines, mistakes = replicas.expand_replicas(settings("CUDA_VISIBLE_DEVICES=0", **two))
    placed, wrong = placement.place(engines)
    assert mistakes == [] and placed.gpus == {"a": ("0",), "a-2": ("0",)}
    assert "a 0.6 + a-2 0.6 = 1.20 of GPU 0, more than 0.95" in str(wrong[0])
