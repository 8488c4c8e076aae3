"""What the plan does not know, or what cannot be: never "starts", and one line that says why."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from benchmarks import plan_logs
from offline_kit.runtime.gpu_plan import gpus
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.evaluate import Verdict, evaluate
from offline_kit.runtime.gpu_plan.tensor_table import file_row
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.sizes import GIB
from tests.support.plan_samples import cards, settings

KEY = plan_logs.KEY


def requested(model: dict[str, Any]) -> Settings:
    """A configuration of one engine."""
    made: dict[str, Any] = {KEY: model}
    return settings(**made)


def planned(known: Facts, where: str = "80GiB", **args: Any) -> Verdict:
    request = requested({"dtype": "auto", "max_model_len": 4096, "engine_args": args})
    return evaluate(request, {KEY: known}, cards(where))


def quantised(name: str) -> Facts:
    known = plan_logs.facts("Qwen3-8B")
    return dataclasses.replace(known, arch=dataclasses.replace(known.arch, quantization=name))


@pytest.mark.parametrize(
    ("known", "args", "said"),
    [
        (Facts.of({}), {}, "nothing is known of its weights"),
        (dataclasses.replace(plan_logs.facts("Qwen3-8B"), tensors=()), {}, "nothing is known of its weights"),
        (
            dataclasses.replace(plan_logs.facts("Qwen3-8B"), tensors=(file_row("m-Q4_K_M.gguf", 5 * GIB),)),
            {},
            "its weights are no safetensors",
        ),
        (quantised("gguf"), {}, "quantised as gguf"),
        (quantised("nobody-knows"), {}, "quantised as nobody-knows"),
        (plan_logs.facts("Qwen3-8B"), {"quantization": "nobody-knows"}, "quantization: nobody-knows"),
    ],
)
def test_weights_that_are_not_known_are_never_told_to_start(known: Facts, args: dict[str, Any], said: str) -> None:
    verdict = planned(known, **args)
    assert verdict.outcome == verdict.outcome_of(KEY) == "may not start" and verdict.fits
    assert said in verdict.warnings[0].what
    assert planned(known, "1GiB", **args).outcome != "starts"


@pytest.mark.parametrize("name", ["fp8", "awq", "compressed-tensors", "modelopt", "mxfp4"])
def test_forms_that_are_loaded_as_stored_start(name: str) -> None:
    assert planned(quantised(name)).outcome == "starts"


@pytest.mark.parametrize(
    ("given", "away"), [("10", 10.0), ("2.5", 2.5), (4, 4.0), ("x", 0.0), ("nan", 0.0), (-3, 0.0), (True, 0.0)]
)
def test_what_stays_in_the_host_s_memory_may_be_written_as_on_the_command_line(given: Any, away: float) -> None:
    """engine/arg_utils.py: --cpu-offload-gb is a float."""
    bare, moved = (planned(plan_logs.facts("Qwen3-8B"), **args) for args in ({}, {"cpu_offload_gb": given}))
    gone = bare.slots[KEY, "0"].need.loaded - moved.slots[KEY, "0"].need.loaded
    assert gone == int(away * GIB)


def test_the_rows_of_sparse_mla_need_mla() -> None:
    """v1/attention/backends/mla: fp8_ds_mla is of flashmla_sparse and flashinfer_mla_sparse alone."""
    refused = planned(plan_logs.facts("Qwen3-8B"), kv_cache_dtype="fp8_ds_mla")
    assert "fp8_ds_mla holds the rows of sparse MLA" in str(refused.mistakes[0]) and "use fp8" in str(refused.mistakes[0])
    glm = requested({"dtype": "auto", "tensor_parallel_size": 8, "max_model_len": 4096,
                            "engine_args": {"kv_cache_dtype": "fp8_ds_mla"}})  # fmt: skip
    assert evaluate(glm, {KEY: plan_logs.facts("GLM-5.1-FP8")}, cards("8x141GiB")).fits


@pytest.mark.parametrize(
    "name",
    ["NVIDIA A100-SXM4-80GB MIG 9g.999gb", "NVIDIA A100-SXM4-80GB MIG 7g.141gb", "NVIDIA H200 MIG 5g.90gb",
     "NVIDIA L40S MIG 1g.0gb", "Unheard Of MIG 7g.999gb"],
)  # fmt: skip
def test_slices_that_cannot_exist(name: str) -> None:
    """NVIDIA's MIG user guide: one to four or seven sevenths of a card, and never more than it has."""
    with pytest.raises(ValueError, match="is no slice that such a card can have"):
        gpus.parse(name)
    with pytest.raises(ValueError, match="does not report its memory"):
        gpus.parse_csv(f"MIG-1, {name}, [N/A], [N/A], 8.0, 580.1")


def test_slices_and_cards_that_can() -> None:
    for name in ("NVIDIA A100-SXM4-80GB MIG 7g.80gb", "NVIDIA H200 MIG 7g.141gb", "NVIDIA H100 80GB HBM3 MIG 1g.10gb+me"):
        assert gpus.parse(name)[0].usable > 0, name
    (card,) = gpus.parse("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition")
    assert (card.total, card.capability) == (97887, (12, 0)), "vllm-project/recipes#831"
    (spark,) = gpus.of_totals({"0": 124546}).values()
    assert spark.unified and not gpus.measured("0", 97887).unified


def test_the_json_of_a_doubt_is_a_warning() -> None:
    warning = planned(Facts.of({})).warnings[0]
    assert warning.field == f"models.{KEY}.path" and json.dumps(dataclasses.asdict(warning))
