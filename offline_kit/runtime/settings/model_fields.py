"""The fields of one model in models.json, and engine arguments: their types and bounds.

Rules: every field but the optional ones is required; a bool is no number; arguments that decide where an engine listens, what
it serves or who may ask it belong to the kit. Mistakes are added to a list; a model comes back only if it is usable.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from . import environment
from .model import AUTO, ENGINE_YAML, MODELS_JSON, TYPES, Mistake, Model

GPU = re.compile(r"[0-9]{1,3}|(?:GPU|MIG)-[A-Za-z0-9-]{1,64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}")
_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,127}")
_DTYPES = ("auto", "bfloat16", "float16", "half", "float32", "float")  # vLLM's config/model.py ModelDType
_REPOSITORY = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_DOCKER_SIZE = re.compile(r"[1-9][0-9]*(?:\.[0-9]+)?[bkmgBKMG]?[bB]?")
_ARGUMENT = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*")
_PROTECTED = {
    "host": "the kit decides where an engine listens",
    "port": "set the field 'port' of the model",
    "uds": "the kit decides where an engine listens",
    "root-path": "the gateway decides the paths",
    "model": "set the field 'path' of the model",
    "model-tag": "set the field 'path' of the model",
    "served-model-name": "set the field 'name' of the model",
    "api-key": "the gateway checks the key: set VLLM_API_KEY in .env",
    "config": "write the arguments into config/vllm_config.yaml",
    "headless": "an engine without its API cannot be served",
    "ssl-keyfile": "the gateway is the one that speaks to clients",
    "ssl-certfile": "the gateway is the one that speaks to clients",
    "ssl-ca-certs": "the gateway is the one that speaks to clients",
    "ssl-cert-reqs": "the gateway is the one that speaks to clients",
}
# what other guides write into a Compose file, and who decides it here
_ELSEWHERE = {
    "network_mode": "engines stay on networks without a way out; the gateway's addresses and ports are settings of .env",
    "deploy": "host memory is 'memory_limit', GPUs are 'gpus'",
}
_OWN_FIELDS = ("gpu-memory-utilization", "max-model-len", "tensor-parallel-size", "dtype")


def _integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _text(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= 1


def _gpus(value: Any) -> bool:
    if value == "auto":
        return True
    good = isinstance(value, list) and value and all(_integer(item) or isinstance(item, str) for item in value)
    return bool(good) and all(GPU.fullmatch(str(item)) for item in value) and len({str(item) for item in value}) == len(value)


# field -> (is the value right, what it must be)
_REQUIRED: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    "name": (_text(_NAME), "a name of letters, digits and . _ : / @ + - (what clients send as 'model')"),
    "path": (lambda value: isinstance(value, str), "the folder of the model, for example /models/chat"),
    "type": (lambda value: value in TYPES, "one of chat, embedding, rerank"),
    "port": (lambda value: _integer(value) and 1 <= value <= 65535, "a number from 1 to 65535"),
    "gpu_memory_utilization": (_fraction, "a number above 0 and at most 1"),
    "max_model_len": (lambda value: _integer(value) and value >= 1, "a number of tokens, at least 1"),
    "tensor_parallel_size": (lambda value: _integer(value) and 1 <= value <= 64, "a number of GPUs from 1 to 64"),
    "dtype": (lambda value: isinstance(value, str) and value in _DTYPES, f"one of {', '.join(_DTYPES)}"),
}
_OPTIONAL: Dict[str, Tuple[Callable[[Any], bool], str]] = {
    "engine_args": (lambda value: isinstance(value, dict), "an object of vLLM arguments"),
    "gpus": (_gpus, 'a list of different GPU indices, for example [0, 1], or "auto"'),
    "environment": (lambda value: isinstance(value, dict), 'an object of variables, for example {"NCCL_P2P_DISABLE": "1"}'),
    "code": (lambda value: isinstance(value, dict), 'an object, for example {"OWNER/NAME": "/models/KEY"}'),
    "memory_limit": (_text(_DOCKER_SIZE), "a size as Docker writes it, for example 24g"),
    "replicas": (lambda value: _integer(value) and 1 <= value <= 64, "a number of engines from 1 to 64"),
}


def model(key: str, entry: Any, mistakes: List[Mistake]) -> Optional[Model]:
    """The model ``key`` of models.json, or None where a field is wrong."""
    field = f"models.{key}"
    if not isinstance(entry, dict):
        mistakes.append(Mistake(MODELS_JSON, field, "is not an object", f"give it the fields {', '.join(_REQUIRED)}"))
        return None
    before = len(mistakes)
    rules = {**_REQUIRED, **_OPTIONAL}
    for name in entry:
        if name not in rules:
            near = difflib.get_close_matches(name, rules, n=1, cutoff=0.5)
            remedy = f"did you mean '{near[0]}'?" if near else _ELSEWHERE.get(name, "vLLM arguments go into 'engine_args'")
            mistakes.append(Mistake(MODELS_JSON, f"{field}.{name}", "unknown key", remedy))
    for name, (right, must) in rules.items():
        if name not in entry:
            if name in _REQUIRED:
                mistakes.append(Mistake(MODELS_JSON, f"{field}.{name}", "is missing", f"give {must}"))
        elif not right(entry[name]):
            mistakes.append(Mistake(MODELS_JSON, f"{field}.{name}", f"{entry[name]!r} is not usable", f"give {must}"))
    arguments = entry.get("engine_args", {})
    arguments = engine_args(arguments, key, mistakes) if isinstance(arguments, dict) else {}
    variables = entry.get("environment", {})
    variables = environment.variables(variables, key, mistakes) if isinstance(variables, dict) else {}
    repositories = entry.get("code", {})
    repositories = _code(repositories, f"{field}.code", mistakes) if isinstance(repositories, dict) else {}
    folder = _folder(entry.get("path"), f"{field}.path", mistakes)
    if len(mistakes) > before or folder is None:
        return None
    return Model(
        key=key,
        folder=folder,
        engine_args=arguments,
        gpus=AUTO if entry.get("gpus") == "auto" else tuple(str(gpu) for gpu in entry.get("gpus", ())),
        memory_limit=entry.get("memory_limit"),
        replicas=entry.get("replicas", 1),
        environment=variables,
        code=repositories,
        **{name: entry[name] for name in _REQUIRED if name != "path"},
    )


def with_port(model: Model, port: int) -> Model:
    """The same model, published on ``port``."""
    return dataclasses.replace(model, port=port)


def engine_args(arguments: Mapping[str, Any], key: str, mistakes: List[Mistake]) -> Dict[str, Any]:
    """``arguments`` with kebab-case names; ``key``: the model that they belong to, empty for those of vllm_config.yaml."""
    file, prefix = (MODELS_JSON, f"models.{key}.engine_args.") if key else (ENGINE_YAML, "")
    result: Dict[str, Any] = {}
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if not _ARGUMENT.fullmatch(name):
            mistakes.append(Mistake(file, prefix + name, "is not the name of a vLLM argument", "write it like max_num_seqs"))
        elif flag in _PROTECTED:
            mistakes.append(Mistake(file, prefix + name, "cannot be set here", _PROTECTED[flag]))
        elif key and flag in _OWN_FIELDS:
            remedy = f"set the field '{flag.replace('-', '_')}' of the model"
            mistakes.append(Mistake(file, prefix + name, "cannot be set here", remedy))
        elif flag in result:
            mistakes.append(Mistake(file, prefix + name, "is given twice (with - and with _)", "keep one of them"))
        elif isinstance(value, list) and any(isinstance(item, list) or item is None for item in value):
            what = "is a list with a list or nothing in it"
            mistakes.append(Mistake(file, prefix + name, what, "use words, numbers or objects"))
        else:
            result[flag] = value
    return result


def _code(repositories: Mapping[str, Any], field: str, mistakes: List[Mistake]) -> Dict[str, str]:
    """Repository -> its folder below models/."""
    result: Dict[str, str] = {}
    for name, path in repositories.items():
        if not _REPOSITORY.fullmatch(name):
            remedy = "write it as auto_map of config.json has it, before the '--': OWNER/NAME"
            mistakes.append(Mistake(MODELS_JSON, f"{field}.{ascii(name)[1:-1]}", "is not the name of a repository", remedy))
        elif not isinstance(path, str):
            mistakes.append(Mistake(MODELS_JSON, f"{field}.{name}", "is no folder", "write it like /models/code"))
        else:
            result[name] = _folder(path, f"{field}.{name}", mistakes) or ""
    return result


def _folder(path: Any, field: str, mistakes: List[Mistake]) -> Optional[str]:
    if not isinstance(path, str):
        return None
    # The folder below models/, however it is written: chat, models/chat, or its path in the container (both are mounted).
    folder = re.sub(r"^(?:/|/app/)?models/", "", path)
    folder = folder[:-1] if folder.endswith("/") else folder
    if all(_SEGMENT.fullmatch(part) for part in folder.split("/")):
        return folder
    mistakes.append(Mistake(MODELS_JSON, field, f"'{path}' is not a folder below models/", "write it like /models/chat"))
    return None
