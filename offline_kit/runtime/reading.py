"""Text to plain data, for the three notations of a configuration: JSON, YAML and .env.

Rules: a syntax error names its line; a key given twice is a mistake (both loaders would hide it); nothing is executed or
expanded; each function adds what it finds to ``mistakes`` and returns what could be read, so that one run reports everything.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, Tuple

import yaml

from .records import DOTENV, ENGINE_YAML, MODELS_JSON, Mistake

_ENV_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def models_json(text: str, mistakes: List[Mistake]) -> Dict[str, Any]:
    """The object ``models`` of models.json: key -> entry."""

    def unique(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
        result: Dict[str, Any] = {}
        for key, value in pairs:
            if key in result:
                mistakes.append(Mistake(MODELS_JSON, key, "is given twice in the same object", "keep one of them"))
            result[key] = value
        return result

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        mistakes.append(Mistake(f"{MODELS_JSON}, line {error.lineno}", "", f"not valid JSON: {error.msg}", "mend that line"))
        return {}
    if not isinstance(data, dict) or not isinstance(data.get("models"), dict) or not data["models"]:
        mistakes.append(
            Mistake(MODELS_JSON, "models", "an object with at least one model is required", '{"models": {"chat": {...}}}')
        )
        return {}
    for key in data:
        if key != "models":
            mistakes.append(Mistake(MODELS_JSON, key, "unknown key", "only 'models' belongs at the top"))
    models: Dict[str, Any] = data["models"]
    return models


def engine_yaml(text: str, mistakes: List[Mistake]) -> Dict[str, Any]:
    """The engine arguments common to all models; an empty file has none."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{ENGINE_YAML}, line {mark.line + 1}" if mark is not None else ENGINE_YAML
        problem = getattr(error, "problem", None) or "unreadable"
        mistakes.append(Mistake(where, "", f"not valid YAML: {problem}", "mend that line"))
        return {}
    if data is None:
        return {}
    if not isinstance(data, dict) or not isinstance(node, yaml.MappingNode):
        what = "not a mapping of engine arguments"
        mistakes.append(Mistake(ENGINE_YAML, "", what, "write one 'argument: value' a line"))
        return {}
    seen: List[Any] = []
    for key, _ in node.value:
        if key.value in seen:
            where = f"{ENGINE_YAML}, line {key.start_mark.line + 1}"
            mistakes.append(Mistake(where, str(key.value), "is given twice", "keep one of them"))
        seen.append(key.value)
    return {str(key): value for key, value in data.items()}


def dotenv(text: str, mistakes: List[Mistake]) -> Dict[str, str]:
    """``KEY=value`` lines; one pair of quotes around a value is taken off; ``#`` starts a comment."""
    values: Dict[str, str] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        where = f"{DOTENV}, line {number}"
        if match is None:
            mistakes.append(Mistake(where, "", "not a KEY=value line", "write KEY=value, or # before a comment"))
            continue
        key, value = match.group(1), match.group(2).strip()
        if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            value = value[1:-1]
        else:
            value = re.split(r"(?:^|\s)#", value)[0].strip()
        if key in values:
            mistakes.append(Mistake(where, key, "is given twice", "keep one of them"))
        values[key] = value
    return values
