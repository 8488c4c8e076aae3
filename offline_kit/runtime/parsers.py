"""The parsers of tool calls and reasoning that the build found for a model (bundle.json), on their way to its engine.

Rules: chat models alone; whatever ``engine_args`` or vllm_config.yaml say of a parser wins, null too; the names travel as
variables of the engine's container, because an engine sees no bundle.json.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Dict, Mapping

from .settings.model import Model, Settings

TOOLS, REASONING = "tool-call-parser", "reasoning-parser"
_VARIABLES = {TOOLS: "OFFLINE_KIT_TOOL_CALL_PARSER", REASONING: "OFFLINE_KIT_REASONING_PARSER"}
_AUTO = "enable-auto-tool-choice"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def with_parsers(settings: Settings, record: Mapping[str, Any]) -> Settings:
    """``settings`` with the parsers in ``record``: folder of the model -> argument (snake case) -> name."""
    models = []
    for model in settings.models:
        found = record.get(model.folder) if model.type == "chat" else None
        names = {str(name).replace("_", "-"): value for name, value in found.items()} if isinstance(found, dict) else {}
        models.append(dataclasses.replace(model, parsers=_known(names)))
    return dataclasses.replace(settings, models=tuple(models))


def of_container(settings: Settings, key: str, environment: Mapping[str, str]) -> Settings:
    """``settings`` with the parsers of the model ``key`` that the variables of its container name. Raises KeyError."""
    names = _known({flag: environment.get(variable) for flag, variable in _VARIABLES.items()})
    mine = dataclasses.replace(settings.model(key), parsers=names)
    return dataclasses.replace(settings, models=tuple(mine if model.key == key else model for model in settings.models))


def to_container(model: Model) -> Dict[str, str]:
    """The variables that name the parsers of ``model``."""
    return {_VARIABLES[flag]: name for flag, name in sorted(model.parsers.items())}


def with_defaults(model: Model, arguments: Mapping[str, Any]) -> Dict[str, Any]:
    """The engine's ``arguments`` (kebab case) with the parsers of ``model`` where they name none."""
    every = {**model.parsers, **arguments}
    if every.get(TOOLS) and TOOLS not in arguments:
        every.setdefault(_AUTO, True)
    return every


def _known(names: Mapping[str, Any]) -> Dict[str, str]:
    return {
        flag: name for flag, name in names.items() if flag in _VARIABLES and isinstance(name, str) and _NAME.fullmatch(name)
    }
