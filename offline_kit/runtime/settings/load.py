"""models.json, vllm_config.yaml, environment.yaml and .env to Settings, or every mistake in them at once.

Rules: what a later step would stumble over is found here, before a running service is touched; an unknown key gets the nearest
known one as a suggestion; arguments that the kit itself decides (address, port, model, key) cannot be set by hand; a path stays
below the kit's models. Pure: text in, Settings out.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import Any, Collection, Dict, Iterable, List, Mapping, Optional, Tuple

from . import api_keys, environment, features, model_fields, parse
from .model import DEVICES, DOTENV, ENGINE_YAML, MODELS_JSON, ConfigError, Mistake, Model, Settings, port_variable

ROUTER_PORT = 8000
_KEY = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_ENV_KEYS = (
    "VLLM_ROUTER_PORT",
    "CUDA_VISIBLE_DEVICES",
    "OFFLINE_KIT_DEVICE",
    "OFFLINE_KIT_BIND",
    "OFFLINE_KIT_START_TIMEOUT",
    "VLLM_API_KEY",
    "HF_TOKEN",  # guides have it in .env: nothing on a host asks for it, and no container gets it
    *features.VARIABLES,
)


def load_settings(
    models_json: str,
    engine_yaml: str,
    dotenv: str = "",
    *,
    folders: Optional[Collection[str]] = None,
    device: str = "nvidia",
    need_key: bool = False,
    named_keys: str = "",
    images: Optional[Collection[str]] = None,
    environment_yaml: str = "",
) -> Settings:
    """The settings in these texts. Raises ConfigError with every mistake.

    ``folders``: the names below models/ that exist (None: not checked); ``device``: what the bundle was built for, where .env
    does not say otherwise; ``need_key``: a missing secret is a mistake; ``named_keys``: the text of .state/keys; ``images``:
    keys of the images that the kit carries (None: not checked); ``environment_yaml``: the text of that file.
    """
    mistakes: List[Mistake] = []
    entries = parse.models_json(models_json, mistakes)
    common = model_fields.engine_args(parse.engine_yaml(engine_yaml, mistakes), "", mistakes)
    if "lora-modules" in common:  # clients choose an engine by these names, and only one can be meant
        remedy = f"write lora_modules into engine_args of the model that they are for, in {MODELS_JSON}"
        mistakes.append(Mistake(ENGINE_YAML, "lora-modules", "adapters are those of one model", remedy))
    env = parse.dotenv(dotenv, mistakes)
    models: List[Model] = []
    for key, entry in entries.items():
        if not _KEY.fullmatch(key) or key == "router":
            what = f"'{key}' cannot be the key of a model"
            mistakes.append(Mistake(MODELS_JSON, f"models.{key}", what, "use a-z 0-9 - _ (at most 40), and not 'router'"))
        model = model_fields.model(key, entry, mistakes)
        if model is not None:
            models.append(model)
    _check_env(env, entries, mistakes)
    router_port = _port(env, "VLLM_ROUTER_PORT", ROUTER_PORT, mistakes)
    models = [model_fields.with_port(model, _port(env, port_variable(model.key), model.port, mistakes)) for model in models]
    web, monitoring = features.web(env, mistakes), features.monitoring(env, images, need_key, mistakes)
    _check_together(models, {**_router(router_port), **features.ports(web, monitoring, mistakes)}, folders, mistakes)
    api_key = env.get("VLLM_API_KEY", "")
    settings = Settings(
        models=tuple(models),
        common=common,
        router_port=router_port,
        bind=env.get("OFFLINE_KIT_BIND") or "0.0.0.0",
        device=env.get("OFFLINE_KIT_DEVICE") or device,
        visible=_visible(env, mistakes),
        api_key=api_key,
        keys=api_keys.parse(named_keys, api_key, mistakes),
        key_limit=features.number(env, "OFFLINE_KIT_KEY_LIMIT", 512, 1, 100_000, mistakes),
        page=features.page(env, mistakes),
        web=web,
        monitoring=monitoring,
        environment=environment.common(environment_yaml, mistakes),
    )
    _check_values(settings, need_key, mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return settings


def suggestion(word: str, known: Iterable[str]) -> str:
    """``did you mean 'X'?`` for the nearest of ``known``, or the list of what is known."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names) or 'none'}"


def _check_env(env: Mapping[str, str], entries: Mapping[str, Any], mistakes: List[Mistake]) -> None:
    known = [*_ENV_KEYS, *(port_variable(key) for key in entries)]
    for key in env:
        # Compose reads the same file; its own settings are the operator's business.
        if key not in known and not key.startswith("COMPOSE_"):
            mistakes.append(Mistake(DOTENV, key, "unknown key", suggestion(key, known)))
    variables: Dict[str, str] = {}
    for key in entries:
        other = variables.setdefault(port_variable(key), key)
        if other != key:
            what = f"shares the variable {port_variable(key)} with '{other}'"
            mistakes.append(Mistake(MODELS_JSON, f"models.{key}", what, "rename one of the two"))


def _port(env: Mapping[str, str], variable: str, default: int, mistakes: List[Mistake]) -> int:
    return features.number(env, variable, default, 1, 65535, mistakes)


def _router(port: int) -> Dict[int, str]:
    return {port: "the router (VLLM_ROUTER_PORT)"}


def _check_together(
    models: List[Model], ports: Dict[int, str], folders: Optional[Collection[str]], mistakes: List[Mistake]
) -> None:
    names: Dict[str, str] = {}
    engines = {f"{model.key}-{number}": model.key for model in models for number in range(2, model.replicas + 1)}
    served = {model.folder.split("/")[0] for model in models}
    for model in models:
        field = f"models.{model.key}"
        taken = ports.setdefault(model.port, f"the model '{model.key}'")
        if taken != f"the model '{model.key}'":
            remedy = f"give it another port here or as {port_variable(model.key)} in {DOTENV}"
            mistakes.append(Mistake(MODELS_JSON, f"{field}.port", f"{model.port} is already used by {taken}", remedy))
        if model.key in engines:
            what = f"is also the name of an engine of '{engines[model.key]}', which has replicas"
            mistakes.append(Mistake(MODELS_JSON, field, what, "rename one of the two"))
        for name, place in [(model.name, "name"), *((name, "engine_args.lora_modules") for name in model.adapters)]:
            other = names.setdefault(name, f"{model.key}.{place}")
            if other != f"{model.key}.{place}" or model.adapters.count(name) > 1:
                what = f"'{name}' is already the name of '{other.partition('.')[0]}'"
                mistakes.append(Mistake(MODELS_JSON, f"{field}.{place}", what, "clients choose by name: give each its own"))
        if folders is not None and model.folder.split("/")[0] not in folders:
            what = f"there is no model '{model.folder.split('/')[0]}' in the kit"
            remedy = (
                "take this entry out, or put the model back (into 'models' of the manifest; on a host: the folder into models/)"
            )
            near = difflib.get_close_matches(model.folder, sorted(set(folders) - served), n=1, cutoff=0.7)
            remedy = f"did you mean '{near[0]}'?" if near else remedy
            mistakes.append(Mistake(MODELS_JSON, f"{field}.path", what, remedy))


def _visible(env: Mapping[str, str], mistakes: List[Mistake]) -> Tuple[str, ...]:
    text = env.get("CUDA_VISIBLE_DEVICES", "")
    devices = tuple(part.strip() for part in text.split(",")) if text else ()
    if any(not model_fields.GPU.fullmatch(device) for device in devices) or len(set(devices)) < len(devices):
        what = f"'{text}' is not a list of GPUs"
        mistakes.append(Mistake(DOTENV, "CUDA_VISIBLE_DEVICES", what, "use different indices of nvidia-smi, for example 0,1"))
        return ()
    return devices


def _check_values(settings: Settings, need_key: bool, mistakes: List[Mistake]) -> None:
    if settings.device not in DEVICES:
        what = f"'{settings.device}' is not a device"
        mistakes.append(Mistake(DOTENV, "OFFLINE_KIT_DEVICE", what, "use nvidia or cpu"))
    try:
        ipaddress.ip_address(settings.bind)
    except ValueError:
        what = f"'{settings.bind}' is not an IP address"
        mistakes.append(Mistake(DOTENV, "OFFLINE_KIT_BIND", what, "use 0.0.0.0, 127.0.0.1 or an address of this host"))
    if settings.api_key and not api_keys.KEY.fullmatch(settings.api_key):
        what = "is too short, too long or has characters that no bearer key may have"
        mistakes.append(Mistake(DOTENV, "VLLM_API_KEY", what, api_keys.REMEDY))
    if need_key and not settings.api_key:
        mistakes.append(Mistake(DOTENV, "VLLM_API_KEY", "is empty", "run install.sh, which makes one, or write one"))
