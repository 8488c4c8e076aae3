"""The gateway's files: nginx.conf, the keys, the answers of /v1/models.

Rules: default deny: only exact paths are known, each goes to a fixed path of one engine, and a path written in any unusual way
(``//v1``, ``%2e%2e``) is unknown; every path but /health needs a key; headers of a client reach an engine only where
named here, its key never; an engine's address is looked up anew, so that nginx starts before engines and finds one that came
back elsewhere; answers stream unbuffered; every refusal is JSON in the shape of OpenAI's errors. Runs unprivileged on a
read-only root: nginx >= 1.22.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple

from .nginx import HTTP, page, refusals
from .records import Model, Settings

ROUTER = 8000
ENGINE_PORT = 8000
# What each type of engine answers, all by POST.
PATHS: Dict[str, Tuple[str, ...]] = {
    "chat": ("/v1/chat/completions", "/v1/completions"),
    "embedding": ("/v1/embeddings",),
    "rerank": ("/v1/rerank", "/rerank"),
}


@dataclass(frozen=True)
class Surroundings:
    """Where nginx runs: the defaults are the gateway's container."""

    resolver: str = "127.0.0.11"
    folder: str = "/etc/offline-kit"
    temp: str = "/tmp"
    address: str = "*"
    router_port: int = ROUTER
    engine_port: int = ENGINE_PORT


def container_ports(settings: Settings, router: int = ROUTER) -> Dict[str, int]:
    """Key -> the port that the gateway listens on inside its container: all above 1024, whatever is published."""
    return {model.key: router + 1 + index for index, model in enumerate(settings.models)}


def routes(settings: Settings) -> Dict[str, Model]:
    """Path on the router -> the model that answers it: the first of its type in models.json."""
    first: Dict[str, Model] = {}
    for model in settings.models:
        for path in PATHS[model.type]:
            first.setdefault(path, model)
    return first


def nginx_conf(settings: Settings, where: Surroundings = Surroundings()) -> str:
    """The text of nginx.conf: one server for the router, one for each model."""
    ports = container_ports(settings, where.router_port)
    router = [page("/health", 'return 200 \'{"status":"ok"}\';')]
    router += [_list(f"{where.folder}/models/all.json")]
    router += [_engine(path, model, where) for path, model in routes(settings).items()]
    servers = [_server(where.address, where.router_port, router)]
    for model in settings.models:
        pages = [_health(model, where), _list(f"{where.folder}/models/{model.key}.json")]
        pages += [_engine(path, model, where) for path in PATHS[model.type]]
        servers.append(_server(where.address, ports[model.key], pages))
    http = HTTP.replace("@RESOLVER@", where.resolver).replace("@FOLDER@", where.folder).replace("@TEMP@", where.temp)
    return http.replace("@SERVERS@", "\n".join(servers))


def keys_conf(keys: Sequence[Tuple[str, str]]) -> str:
    """The included part of the map from an Authorization header to the name of its key: (name, key) pairs."""
    # A plain string in a map is compared without regard to case; an expression is not.
    return "".join(f'"~^[Bb]earer {re.escape(key)}$" "{name}";\n' for name, key in keys)


def model_lists(settings: Settings) -> Dict[str, str]:
    """File name -> the answer of /v1/models: of the router (all.json) and of each model's own port."""
    entries = {model.key: _entry(model) for model in settings.models}
    lists = {"all.json": list(entries.values()), **{f"{key}.json": [entry] for key, entry in entries.items()}}
    return {name: json.dumps({"object": "list", "data": data}) + "\n" for name, data in lists.items()}


def _entry(model: Model) -> Dict[str, object]:
    # No time is known before the engine runs; 0 keeps clients happy that demand a number.
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": "offline-kit",
        "max_model_len": model.max_model_len,
        "type": model.type,
    }


def _server(address: str, port: int, pages: List[str]) -> str:
    return "\n".join(
        [
            "    server {",
            f"        listen {address}:{port} default_server;",
            '        set $engine "";',
            *pages,
            "        location / { return 404; }",
            refusals(),
            "    }",
        ]
    )


def _list(file: str) -> str:
    return page("/v1/models", f"alias {file};", methods="GET|HEAD", key=True)


def _health(model: Model, where: Surroundings) -> str:
    lines = [f"set $engine {model.service}:{where.engine_port};", "proxy_method GET;", "client_max_body_size 1k;"]
    lines += ["proxy_read_timeout 5s;", "proxy_pass http://$engine/health;"]
    return page("/health", *lines, methods="GET|HEAD")


def _engine(path: str, model: Model, where: Surroundings) -> str:
    lines = [f"set $engine {model.service}:{where.engine_port};", f"proxy_pass http://$engine{path};"]
    return page(path, *lines, methods="POST", key=True)
