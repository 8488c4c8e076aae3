"""What a configuration says once it is proven right, and how a mistake in one is told.

Rules: frozen; whoever holds a Settings need not check anything again; a mistake is one line that names the file, the field,
what is wrong and what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Sequence, Tuple

MODELS_JSON = "config/models.json"
ENGINE_YAML = "config/vllm_config.yaml"
ENVIRONMENT_YAML = "config/environment.yaml"
DOTENV = ".env"
KEYS = ".state/keys"
TYPES = ("chat", "embedding", "rerank")
DEVICES = ("nvidia", "cpu")
LOOPBACK = "127.0.0.1"
AUTO = ("auto",)  # the ``gpus`` of a model that the plan may place


@dataclass(frozen=True)
class Mistake:
    """One thing to mend."""

    file: str
    field: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        where = f"{self.file}: {self.field}: " if self.field else f"{self.file}: "
        return f"{where}{self.what}" + (f" -> {self.remedy}" if self.remedy else "")


class ConfigError(ValueError):
    """A configuration that cannot be used; ``mistakes`` has all of them."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


@dataclass(frozen=True)
class Model:
    """One entry of models.json, with the port that .env may have moved."""

    key: str
    name: str
    folder: str
    type: str
    port: int
    gpu_memory_utilization: float
    max_model_len: int
    tensor_parallel_size: int
    dtype: str
    engine_args: Mapping[str, Any]
    gpus: Tuple[str, ...] = ()
    memory_limit: Optional[str] = None
    replicas: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    parsers: Mapping[str, str] = field(default_factory=dict)  # found at build, by argument of vLLM
    code: Mapping[str, str] = field(default_factory=dict)  # repository that auto_map names -> its folder below models/

    @property
    def path(self) -> str:
        """Where the engine finds the weights."""
        return f"/models/{self.folder}"

    @property
    def adapters(self) -> Tuple[str, ...]:
        """The names of its LoRA adapters, by which clients ask for them."""
        return adapter_names(self.engine_args.get("lora-modules"))

    @property
    def service(self) -> str:
        """The name of its engine (the first, of several) in Compose and on the internal network."""
        return f"engine-{self.key}"


@dataclass(frozen=True)
class Web:
    """Ports 80 and 443: the router once more, where clients look for it without a port.

    ``tls_only``: every port but that of HTTPS is published on the loopback.
    """

    http_port: int = 80
    https_port: int = 443
    tls_only: bool = False


@dataclass(frozen=True)
class Monitoring:
    """Prometheus and Grafana: what is published, and the password of Grafana's first user."""

    prometheus_port: int = 9090
    grafana_port: int = 3000
    bind: str = "127.0.0.1"
    password: str = ""


@dataclass(frozen=True)
class Settings:
    """models.json, vllm_config.yaml, environment.yaml, .env and the named keys together.

    ``web``, ``monitoring``: None where not wanted; ``environment``: of all engines, a model's own wins; ``page``: the one at /.
    """

    models: Tuple[Model, ...]
    common: Mapping[str, Any]
    router_port: int
    bind: str
    device: str
    visible: Tuple[str, ...]
    api_key: str
    keys: Tuple[Tuple[str, str], ...] = ()
    key_limit: int = 512
    web: Optional[Web] = None
    monitoring: Optional[Monitoring] = None
    environment: Mapping[str, str] = field(default_factory=dict)
    page: bool = True

    def address(self, port: int) -> str:
        """Where a port of the gateway or of Grafana is published."""
        if self.web and self.web.tls_only and port != self.web.https_port:
            return LOOPBACK
        return self.bind

    def model(self, key: str) -> Model:
        """The model named ``key``. Raises KeyError."""
        for model in self.models:
            if model.key == key:
                return model
        raise KeyError(key)


def adapter_names(modules: Any) -> Tuple[str, ...]:
    """The names in vLLM's ``lora_modules``."""
    return tuple(name for name, _ in lora_modules(modules))


def lora_modules(modules: Any) -> Tuple[Tuple[str, str], ...]:
    """Name and path of each adapter: ``NAME=PATH``, or an object with both (as it is, or as JSON in a string)."""
    found = []
    for module in modules if isinstance(modules, list) else [modules]:
        name, path = _lora_module(module)
        if isinstance(name, str) and name:
            found.append((name, str(path or "")))
    return tuple(found)


def _lora_module(module: Any) -> Tuple[Any, Any]:
    if isinstance(module, dict):
        return module.get("name"), module.get("path")
    if not isinstance(module, str):
        return None, None
    if not module.lstrip().startswith("{"):
        name, mark, path = module.partition("=")
        return (name if mark else None), path
    try:
        content = json.loads(module)
    except ValueError:
        return None, None
    return _lora_module(content) if isinstance(content, dict) else (None, None)


def port_variable(key: str) -> str:
    """The name in .env that moves the published port of the model ``key``."""
    return "VLLM_" + key.upper().replace("-", "_") + "_PORT"
