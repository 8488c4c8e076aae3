"""What the unified image runs, from its folder /app and the variables of its container.

Rules: /app is read as a kit is (``runtime.kit``), by the same reader; what stands in a kit's .env are variables here; every
mistake is told before an engine starts; no engine gets the key of clients or a token.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from offline_kit.runtime import kit, parsers
from offline_kit.runtime.settings.json_text import parse_json
from offline_kit.runtime.settings.model import DOTENV, MODELS_JSON, ConfigError, Mistake, Model, Settings, port_variable
from offline_kit.runtime.settings.placement import place
from offline_kit.runtime.settings.replicas import Engine, engines, expand_replicas
from offline_kit.runtime.settings.text_file import AT_MOST, read_text

APP = Path("/app")
CACHE = Path("/var/lib/offline-kit/cache")
_VARIABLES = ("VLLM_ROUTER_PORT", "CUDA_VISIBLE_DEVICES", "OFFLINE_KIT_DEVICE", "OFFLINE_KIT_BIND", "VLLM_API_KEY")
_NOT_FOR_ENGINES = re.compile(r"VLLM_API_KEY|HF_TOKEN|HUGGING_FACE_HUB_TOKEN|VLLM_[A-Z0-9_]+_PORT")
_CONFIGURATIONS = ("config.json", "params.json")
# Of one engine, between its own processes: what torch and vLLM would listen on all addresses for.
_ON_LOOPBACK = {"VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
# Of other places: what a message for a kit says there is to do.
_INSTEAD = {DOTENV: "a variable of the container (docker run --env)"}


@dataclass(frozen=True)
class Job:
    """One engine: the command, its environment, the socket that it answers on, and the GPUs that it takes."""

    key: str
    model: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    socket: Path
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """The settings, and what is to run: the jobs in groups, in the order of starting."""

    settings: Settings
    groups: tuple[tuple[Job, ...], ...]


def read(app: Path, environment: Mapping[str, str], sockets: Path, cache: Path = CACHE, *, need_models: bool = True) -> Plan:
    """The plan for the configuration and models below ``app``; ``need_models``: whether there have to be any.

    Raises ConfigError, OSError.
    """
    empty = not (app / "models").is_dir() or not any((app / "models").iterdir())
    if empty and need_models:
        what, remedy = "there is no model in it", f"docker run -v FOLDER:{app}/models:ro, with a folder for each model"
        raise ConfigError([Mistake(f"{app}/models", "", what, remedy)])
    settings = _settings(app, environment, need_models=not empty)
    unreadable = [] if empty else [mistake for model in settings.models for mistake in _check_folder(app, model)]
    asked, mistakes = expand_replicas(settings)
    if mistakes or unreadable:
        raise ConfigError([*mistakes, *unreadable])
    placed, mistakes = place(asked)
    if mistakes:
        raise ConfigError(mistakes)
    found = {
        engine.key: _job(engine, settings, placed.gpus[engine.key], environment, _Folders(app, sockets, cache))
        for engine in engines(settings)
    }
    return Plan(settings, tuple(tuple(found[key] for key in group) for group in placed.order))


class _Folders(NamedTuple):
    """The kit, the engines' sockets, and what they write."""

    app: Path
    sockets: Path
    cache: Path


def _settings(app: Path, environment: Mapping[str, str], *, need_models: bool) -> Settings:
    try:
        settings = kit.read(app, need_key=False, need_models=need_models, dotenv=_dotenv(app, environment))[0]
    except ConfigError as error:
        raise ConfigError(
            [dataclasses.replace(mistake, file=_INSTEAD.get(mistake.file, mistake.file)) for mistake in error.mistakes]
        ) from error
    if environment.get("VLLM_API_KEY", settings.api_key) != settings.api_key or environment.get("VLLM_API_KEY") == "":
        what = "is set, but to nothing that can be a key (empty, or with blanks, quotes or '#')"
        raise ConfigError(
            [Mistake("environment", "VLLM_API_KEY", what, "give a key, or leave the variable out for open ports")]
        )
    return settings


def _dotenv(app: Path, environment: Mapping[str, str]) -> str:
    """What of ``environment`` a kit has in its .env."""
    try:
        models = parse_json(read_text(app, MODELS_JSON), at_most=AT_MOST)["models"]
        ports = [port_variable(key) for key in models]
    except (ValueError, KeyError, TypeError, AttributeError):
        ports = []  # whoever reads models.json says what is wrong with it
    names = [name for name in (*_VARIABLES, *ports) if environment.get(name)]
    return "".join(f"{name}={environment[name]}\n" for name in names)


def _check_folder(app: Path, model: Model) -> list[Mistake]:
    """What keeps this user from reading the files of ``model``."""
    folder = app / "models" / model.folder
    names = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".json")] if folder.is_dir() else []
    field = f"models.{model.key}.path"
    closed = [path for path in names if not os.access(path, os.R_OK)]
    if closed:
        what = f"{closed[0]} cannot be read by user {os.getuid()}"
        return [Mistake(MODELS_JSON, field, what, "chmod -R a+rX the folder, or docker run --user")]
    if not any((folder / name).is_file() for name in _CONFIGURATIONS):
        return [Mistake(MODELS_JSON, field, f"{folder} has no config.json", "mount the folder of the model there")]
    return []


def _job(
    engine: Engine,
    settings: Settings,
    gpus: tuple[str, ...],
    environment: Mapping[str, str],
    folders: _Folders,
) -> Job:
    model, socket = engine.model, folders.sockets / f"{engine.key}.sock"
    command = [sys.executable, "-m", "offline_kit.runtime.serve", model.key, "--config", str(folders.app / "config")]
    command += ["--socket", str(socket), "--cache", str(folders.cache / engine.key)]
    around = {name: value for name, value in environment.items() if not _NOT_FOR_ENGINES.fullmatch(name)}
    # Lines appear in the log when they are written, not when a buffer is full.
    around = {**_ON_LOOPBACK, **around}
    around |= {"OFFLINE_KIT_DEVICE": settings.device, "PYTHONUNBUFFERED": "1", **parsers.to_container(model)}
    around |= {**settings.environment, **model.environment}
    if settings.device == "nvidia":
        around["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return Job(engine.key, model.key, tuple(command), around, socket, gpus)
