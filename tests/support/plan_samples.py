"""What tests of the plan share: fixtures as facts, a configuration in a line, GPUs by name."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from offline_kit.runtime.gpu_plan import gpus
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.settings import load
from offline_kit.runtime.settings.model import Settings

FOLDER = Path(__file__).parent.parent / "data/architectures"
FIXTURES = sorted(path.stem for path in FOLDER.glob("*.json"))
CHAT = "Qwen2.5-32B-Instruct"


@functools.cache
def record(name: str) -> dict[str, Any]:
    """The fixture as data."""
    recorded: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return recorded


@functools.cache
def facts(name: str) -> Facts:
    return Facts.of(record(name))


def settings(common: str = "", env: str = "", **models: Any) -> Settings:
    """A configuration; a model that says nothing is a chat model of 32,768 tokens in bfloat16 on one GPU at 0.8."""
    usual = {
        "type": "chat",
        "gpu_memory_utilization": 0.8,
        "max_model_len": 32768,
        "tensor_parallel_size": 1,
        "dtype": "bfloat16",
    }
    entries = {
        key: {**usual, "name": key, "path": key, "port": 8001 + number, **value}
        for number, (key, value) in enumerate(models.items())
    }
    return load.load_settings(json.dumps({"models": entries}), common, env)


def cards(text: str) -> dict[str, gpus.Gpu]:
    return {gpu.id: gpu for gpu in gpus.parse(text)}
