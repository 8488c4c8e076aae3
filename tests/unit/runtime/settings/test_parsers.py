"""Parsers of tool calls and reasoning: found by family and template, known to the image, carried to the engine, overridden."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import yaml

from offline_kit.bundle.format.bundle_json import plan_inputs
from offline_kit.common.digest import Digest
from offline_kit.intake.models.model_needs import read_needs
from offline_kit.runtime import parsers, serve
from offline_kit.runtime.gpu_plan import report
from offline_kit.runtime.gpu_plan.evaluate import Image, evaluate
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings import load, placement
from offline_kit.runtime.settings.model import Settings
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import EngineFacts, ModelFacts, ModelNeeds
from offline_kit.spec.parsers import MARKS, parsers_for
from tests.unit.host.test_render import lock_of, shipped
from tests.unit.runtime.test_config import entry

KNOWN = EngineFacts(
    packages={"vllm": "0.33.0"},
    tool_parsers=("deepseek_v3", "deepseek_v31", "hermes", "llama3_json", "mistral", "openai", "qwen3_coder"),
    reasoning_parsers=("deepseek_r1", "openai_gptoss", "qwen3"),
    whole=False,
)
TOOLS, REASONING = "tool_call_parser", "reasoning_parser"


def needs(model_type: str, *texts: str, place: str = "tokenizer_config.json") -> ModelNeeds:
    """The needs of a model whose chat templates are ``texts``, in the file ``place``."""
    template: Any = texts[0] if len(texts) == 1 else [{"name": f"n{at}", "template": text} for at, text in enumerate(texts)]
    contents = {"config.json": json.dumps({"model_type": model_type}).encode()}
    contents[place] = texts[0].encode() if place.endswith(".jinja") else json.dumps({"chat_template": template}).encode()
    files = [LockedFile(path=path, size=len(data), sha256=Digest.of(data)) for path, data in contents.items()]
    return read_needs(files, lambda file, start, length: contents[file.path][start : start + length], "m", "")


CASES: list[tuple[str, str, dict[str, str]]] = [
    ("qwen2", "{% if tools %}<tool_call>\n{\"name\": ...}</tool_call>{% endif %}", {TOOLS: "hermes"}),
    ("qwen3", "<tool_call>{% if enable_thinking is false %}<think>\n\n</think>", {TOOLS: "hermes", REASONING: "qwen3"}),
    ("qwen3", "<tool_call> of one that does not think", {TOOLS: "hermes"}),
    ("qwen3_moe", "<tool_call>\n<function=NAME>", {TOOLS: "qwen3_coder"}),
    ("qwen2", "no tools", {}),
    ("llama", "<|python_tag|>", {TOOLS: "llama3_json"}),
    ("llama", "Environment: ipython", {TOOLS: "llama3_json"}),
    ("llama", "<|im_start|>", {}),
    ("mistral", "[AVAILABLE_TOOLS][TOOL_CALLS]", {TOOLS: "mistral"}),
    ("gpt_oss", "<|channel|>analysis", {TOOLS: "openai", REASONING: "openai_gptoss"}),
    ("deepseek_v3", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>", {TOOLS: "deepseek_v3"}),
    ("deepseek_v3", "<｜tool▁call▁begin｜>' + name", {TOOLS: "deepseek_v31"}),
    ("qwen2", "<｜Assistant｜><think>\\n", {REASONING: "deepseek_r1"}),
    ("kimi_k2", "<|tool_calls_section_begin|>", {}),  # one that this image does not know
    ("bert", "<tool_call>", {}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "template", "expected"), CASES)
def test_a_family_and_its_template(family: str, template: str, expected: dict[str, str]) -> None:
    assert parsers_for(needs(family, template), KNOWN) == expected


def test_templates_wherever_they_stand() -> None:
    text = "<tool_call>{{ enable_thinking }}"
    for place in ("tokenizer_config.json", "chat_template.jinja", "chat_template.json"):
        assert needs("qwen3", text, place=place).template_marks == ("<tool_call>", "enable_thinking")
    assert needs("qwen3", "default", text).template_marks == ("<tool_call>", "enable_thinking")
    assert needs("qwen3", "".join(MARKS)).template_marks == MARKS


def test_nothing_is_said_of_what_is_not_known() -> None:
    mine = needs("qwen3", "<tool_call>enable_thinking")
    assert parsers_for(mine, None) == {} == parsers_for(None, KNOWN)
    half = KNOWN.model_copy(update={"tool_parsers": (), "reasoning_parsers": ("qwen3",)})
    assert parsers_for(mine, half) == {REASONING: "qwen3"}


def _settings(**changes: Any) -> Settings:
    return load.load_settings(json.dumps({"models": {"m": entry(**changes)}}), "")


FOUND = {"chat": {TOOLS: "hermes", REASONING: "qwen3"}, "other": {TOOLS: "mistral"}}


def test_from_the_bundle_to_the_command() -> None:
    """Through bundle.json, the Compose file and the variables of the container to the words of the engine."""
    manifest, _ = shipped("knowflow")
    lock = lock_of(manifest)
    model = lock.models["chat"].model_copy(
        update={"needs": needs("qwen3", "<tool_call>enable_thinking"), "facts": ModelFacts(config={}, tensors=())}
    )
    engine = lock.images["engine"].model_copy(update={"engine": KNOWN})
    lock = lock.model_copy(update={"models": {**lock.models, "chat": model}, "images": {**lock.images, "engine": engine}})
    inputs = plan_inputs(lock)
    assert inputs is not None and inputs.parsers == {"chat": FOUND["chat"]}
    made = parsers.with_parsers(_settings(), inputs.model_dump(mode="json")["parsers"])
    placed, _ = placement.place(made)
    text = compose.text(made, placed, compose.Kit("k", "v1", {"engine": "e:1", "gateway": "g:1"}))
    variables = yaml.safe_load(text)["services"]["engine-m"]["environment"]
    assert variables["OFFLINE_KIT_TOOL_CALL_PARSER"] == "hermes" and variables["OFFLINE_KIT_REASONING_PARSER"] == "qwen3"
    words = serve.argv(parsers.of_container(_settings(), "m", variables), "m")
    assert {"--tool-call-parser=hermes", "--reasoning-parser=qwen3", "--enable-auto-tool-choice"} <= set(words)


@pytest.mark.parametrize(
    ("arguments", "words", "absent"),
    [
        ({TOOLS: "mistral"}, ["--tool-call-parser=mistral"], "--enable-auto-tool-choice"),
        ({TOOLS: None}, ["--reasoning-parser=qwen3"], "--enable-auto-tool-choice"),
        ({REASONING: None}, ["--tool-call-parser=hermes", "--enable-auto-tool-choice"], "--reasoning-parser"),
        ({"enable_auto_tool_choice": False}, ["--no-enable-auto-tool-choice"], "--enable-auto-tool-choice"),
    ],
)
def test_what_the_operator_says_wins(arguments: dict[str, Any], words: list[str], absent: str) -> None:
    found = serve.argv(parsers.with_parsers(_settings(engine_args=arguments), FOUND), "m")
    assert set(words) <= set(found) and not [word for word in found if word.partition("=")[0] == absent]


def test_only_chat_models_have_some() -> None:
    made = parsers.with_parsers(_settings(type="embedding"), FOUND)
    assert made.models[0].parsers == {}


@pytest.mark.parametrize("record", [{}, {"chat": 1}, {"chat": {"x": "y", TOOLS: 'a" b', REASONING: ["qwen3"]}}])
def test_a_bundle_json_of_another_form_gives_none(record: dict[str, Any]) -> None:
    assert parsers.with_parsers(_settings(), record).models[0].parsers == {}


def test_the_plan_shows_them() -> None:
    made = parsers.with_parsers(dataclasses.replace(_settings(), device="cpu"), FOUND)
    told = "\n".join(report.lines(evaluate(made, {}, {}, Image())))
    assert "m  reasoning parser qwen3, tool call parser hermes (by the model's family; 'engine_args' says otherwise)" in told
