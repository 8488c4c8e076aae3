"""Which model a body names, and what finding that out costs: time that is linear in its length, whatever its bytes are."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from offline_kit.runtime.render.gateway import model_lists
from offline_kit.runtime.router import decide, model_of
from offline_kit.runtime.serve import argv
from offline_kit.runtime.settings.load import load_settings
from offline_kit.runtime.settings.model import ConfigError
from tests.unit.runtime.test_config import entry
from tests.unit.runtime.test_options import load, mistakes

ADAPTERS = ["sql=/models/sql", '{"name": "law", "path": "/models/law", "base_model_name": "m"}']


@pytest.mark.parametrize(
    "unit", [b"{", b"[", b"}", b"[],", b'""', b'"a":', b"\\", b'\\"', b'"model":', b'{"model":"x",', b'"\\u006d', b"A", b"\0\n"]
)
def test_no_body_takes_long(unit: bytes) -> None:
    """Four mebibytes, held against an empty loop over them; a step of Python a byte takes ten times what this allows."""
    for body in (unit * ((4 << 20) // len(unit)), b'{"x":"' + unit * ((4 << 20) // len(unit)) + b'","model":"b"}'):
        start = time.process_time()
        model_of(body)
        asked = time.process_time()
        for _ in body:
            pass
        assert asked - start < 16 * (time.process_time() - asked), unit


def _value(random_: random.Random, depth: int = 0) -> Any:
    kind = random_.randrange(6 if depth < 4 else 3)
    if kind < 3:
        return [1.5, 'a "model": "no" \\', "\\\\", None, "model"][random_.randrange(5)]
    names = ["model", "x", "\\model", 'mo"del', "model\\", "é"]
    if kind == 3:
        return [_value(random_, depth + 1) for _ in range(3)]
    return {random_.choice(names): _value(random_, depth + 1) for _ in range(3)}


@pytest.mark.parametrize("seed", range(300))
def test_it_says_what_a_json_reader_says(seed: int) -> None:
    random_ = random.Random(seed)
    body = {f"k{number}": _value(random_) for number in range(4)}
    body["model"] = random_.choice(["m-1", 'with "quotes"', "back\\slash", "é", 7, None, {"model": "x"}])
    data = json.dumps(body, ensure_ascii=bool(seed % 2), indent=seed % 3 or None)
    if seed % 5 == 0:
        data = data.replace('"model"', '"m\\u006Fdel"')
    wanted = body["model"] if isinstance(body["model"], str) else None
    assert model_of(data.encode()) == wanted


def test_an_adapter_is_asked_by_its_name() -> None:
    chat = entry(name="base-a", engine_args={"enable_lora": True, "lora_modules": ADAPTERS})
    settings = load(models={"a": chat, "b": entry(name="base-b", port=8002)})
    for name, service in (("sql", "engine-a"), ("law", "engine-a"), ("base-a", "engine-a"), ("base-b", "engine-b")):
        assert decide(settings, "/v1/chat/completions", json.dumps({"model": name}).encode()) == (service, "")
    _, reason = decide(settings, "/v1/chat/completions", b'{"model": "x"}')
    assert "'base-a', 'sql', 'law', 'base-b'" in reason
    listed = json.loads(model_lists(settings)["all.json"])["data"]
    assert [(each["id"], each.get("parent")) for each in listed] == [
        ("base-a", None),
        ("sql", "base-a"),
        ("law", "base-a"),
        ("base-b", None),
    ]


def test_a_name_is_given_once_among_models_and_adapters() -> None:
    lora = {"engine_args": {"lora_modules": ["base-b=/models/x"]}}
    found = mistakes(models={"a": entry(name="base-a", **lora), "b": entry(name="base-b", port=8002)})
    assert "models.b.name: 'base-b' is already the name of 'a'" in found
    twice = {"engine_args": {"lora_modules": ["s=/models/x", "s=/models/y"]}}
    assert "engine_args.lora_modules: 's' is already the name of 'a'" in mistakes(models={"a": entry(**twice)})


def test_an_adapter_as_an_object_reaches_vllm_as_json() -> None:
    """The form of models.json, beside that of a command line."""
    sql = {"name": "sql", "path": "/models/sql"}
    settings = load(models={"a": entry(engine_args={"enable_lora": True, "lora_modules": [sql, "law=/models/law"]})})
    assert settings.models[0].adapters == ("sql", "law")
    words = argv(settings, "a")
    at = words.index("--lora-modules")
    assert words[at + 1 : at + 3] == ['{"name": "sql", "path": "/models/sql"}', "law=/models/law"]


def test_adapters_for_all_engines_are_refused() -> None:
    """Every engine would serve them, and the gateway would list and reach none."""
    models = json.dumps({"models": {"a": entry()}})
    with pytest.raises(
        ConfigError, match=r"vllm_config.yaml: lora-modules: adapters are those of one model -> write lora_modules"
    ):
        load_settings(models, "enable_lora: true\nlora_modules: ['sql=/models/sql']\n")
