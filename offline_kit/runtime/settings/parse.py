"""Text to plain data, for the three notations of a configuration: JSON, YAML and .env.

Rules: a syntax error names its line; a key given twice is a mistake (both loaders would hide it); nothing is executed or
expanded; each function adds what it finds to ``mistakes`` and returns what could be read, so that one run reports everything.
"""

from __future__ import annotations

import re
from typing import Any, Dict, List, Tuple

from .json_text import JsonError, parse_json
from .model import DOTENV, ENGINE_YAML, MODELS_JSON, Mistake
from .yaml_text import YamlError, parse_yaml

_BLANK = " \t\r"
_ENV_LINE = re.compile(r"(?:export[ \t\r]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)


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
        data = parse_json(_unmarked(text), unique)
    except JsonError as error:
        where = f"{MODELS_JSON}, line {error.line}" if error.line else MODELS_JSON
        mistakes.append(Mistake(where, "", f"not valid JSON: {error.what}", "mend that place"))
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


def _unmarked(text: str) -> str:
    """``text`` without the mark of the byte order that some editors begin a file with; the reader of YAML knows it itself."""
    return text[1:] if text.startswith("\ufeff") else text


def engine_yaml(text: str, mistakes: List[Mistake]) -> Dict[str, Any]:
    """The engine arguments common to all models; an empty file has none."""
    return yaml_mapping(text, ENGINE_YAML, ("engine arguments", "argument: value"), mistakes)


def yaml_mapping(text: str, file: str, form: Tuple[str, str], mistakes: List[Mistake]) -> Dict[str, Any]:
    """The mapping in the text of ``file``, empty where that is; ``form``: what is in it, and how a line of it is written."""
    try:
        document = parse_yaml(text)
    except YamlError as error:
        mistakes.append(Mistake(f"{file}, line {error.line}" if error.line else file, "", error.what, "mend that place"))
        return {}
    if document.value is None:
        return {}
    if not isinstance(document.value, dict):
        mistakes.append(Mistake(file, "", f"not a mapping of {form[0]}", f"write one '{form[1]}' a line"))
        return {}
    for line, path in document.twice:
        mistakes.append(Mistake(f"{file}, line {line}", ".".join(map(str, path)), "is given twice", "keep one of them"))
    return document.value


def dotenv(text: str, mistakes: List[Mistake]) -> Dict[str, str]:
    """``KEY=value`` lines; one pair of quotes around a value is taken off; ``#`` starts a comment.

    Blanks are space, tab and carriage return, nothing else. The scripts read the same file by the same rules
    (scripts/lib/core/common.sh): tests/data/dotenv.tsv holds both to them.
    """
    values: Dict[str, str] = {}
    for number, raw in enumerate(_unmarked(text).split("\n"), 1):
        line = raw.strip(_BLANK)
        if not line or line.startswith("#"):
            continue
        match = _ENV_LINE.fullmatch(line)
        where = f"{DOTENV}, line {number}"
        if match is None:
            mistakes.append(Mistake(where, "", "not a KEY=value line", "write KEY=value, or # before a comment"))
            continue
        key, value = match.group(1), match.group(2).strip(_BLANK)
        if len(value) > 1 and value[0] in "'\"" and value[-1] == value[0]:
            value = value[1:-1]
        else:
            value = re.split(r"(?:^|[ \t\r])#", value)[0].strip(_BLANK)
        if key in values:
            mistakes.append(Mistake(where, key, "is given twice", "keep one of them"))
        values[key] = value
    return values
