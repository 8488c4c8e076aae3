"""The gateway's files: nginx.conf and the answers of /v1/models.

Rules: default deny: only exact paths are known, each goes to a fixed path of one engine, and a path written in any unusual way
(``//v1``, ``%2e%2e``) is unknown; every path but /health, and the page at / (the same bytes in every kit), needs a key; headers
of a client reach an engine only where named here, its key never; an engine's address is looked up anew, so that nginx starts
before engines and finds one that came back elsewhere; answers stream unbuffered; every refusal is JSON in the shape of OpenAI's
errors. Runs unprivileged on a read-only root: nginx >= 1.22.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Dict, List

from ..settings.model import Model, Settings
from ..settings.routes import PATHS, models_on_path, needs_router, routes
from . import upstreams
from .nginx import HTTP, NAMES, page, refusal_files, refusals
from .static_page import static_page

ROUTER, TLS, METRICS = 8000, 8443, 9145
ENGINE_PORT = 8000
HEALTHY = "_health.json"
PAGE = "/usr/share/offline-kit/page"
_HEALTH_LIMIT = "limit_req zone=health burst=200 nodelay;"


@dataclass(frozen=True)
class NginxPlace:
    """Where nginx runs: the defaults are the gateway's container.

    ``resolver``: who knows the addresses of engines; empty: these stay (Services of Kubernetes) and are asked for once, when
    nginx starts.
    """

    resolver: str = "127.0.0.11"
    folder: str = "/etc/offline-kit"
    temp: str = "/tmp"
    address: str = "*"
    router_port: int = ROUTER
    tls_port: int = TLS
    metrics_port: int = METRICS
    engine_port: int = ENGINE_PORT
    page: str = PAGE


def container_ports(settings: Settings, router: int = ROUTER) -> Dict[str, int]:
    """Key -> the port that the gateway listens on inside its container: all above 1024, whatever is published."""
    return {model.key: router + 1 + index for index, model in enumerate(settings.models)}


def nginx_conf(settings: Settings, where: NginxPlace = NginxPlace(), *, certificate: bool = False) -> str:
    """The text of nginx.conf: one server for the router, one for each model. ``certificate``: FOLDER/tls/ has one."""
    ports = container_ports(settings, where.router_port)
    router = _tls(where) if settings.web and certificate else []
    router += [page("/health", f"{_HEALTH_LIMIT} alias {where.folder}/models/{HEALTHY};")]
    router += static_page(where.page) if settings.page else []
    router += [_list(f"{where.folder}/models/all.json")]
    router += [_chosen(path, settings, where) for path in routes(settings)]
    router += [_named(model, where) for model in settings.models] if needs_router(settings) else []
    if where.resolver:
        servers = [upstreams.text(settings.models, where.temp, where.engine_port)]
    else:
        names = [model.service for model in settings.models] + (["router"] if needs_router(settings) else [])
        servers = [upstreams.fixed(names, where.engine_port)]
    servers += [_server(where.address, where.router_port, router)]
    for model in settings.models:
        pages = [_health(model, where), _list(f"{where.folder}/models/{model.key}.json")]
        pages += [_engine(path, model, where) for path in PATHS[model.type]]
        servers.append(_server(where.address, ports[model.key], pages))
    if settings.monitoring:
        servers.append(_metrics(where))
    text = HTTP.replace("@SERVERS@", "\n".join(server for server in servers if server))
    text = text.replace("@NAMES@\n", f"{NAMES}\n" if where.resolver else "")
    values = {"RESOLVER": where.resolver, "FOLDER": where.folder, "TEMP": where.temp, "LIMIT": str(settings.key_limit)}
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text


def model_lists(settings: Settings) -> Dict[str, str]:
    """File name -> the answer of /v1/models: of the router (all.json) and of each model's own port; and what else is a file:
    the refusals, and the answer of /health."""
    entries = {model.key: _entries(model) for model in settings.models}
    every = [entry for served in entries.values() for entry in served]
    lists = {"all.json": every, **{f"{key}.json": served for key, served in entries.items()}}
    texts = {name: json.dumps({"object": "list", "data": data}) + "\n" for name, data in lists.items()}
    return {**texts, **refusal_files(), HEALTHY: '{"status":"ok"}\n'}


def _entries(model: Model) -> List[Dict[str, object]]:
    """The model, and each adapter that its engine serves under a name of its own."""
    base = _entry(model, model.name)
    return [base, *({**_entry(model, name), "parent": model.name} for name in model.adapters)]


def _entry(model: Model, name: str) -> Dict[str, object]:
    # No time is known before the engine runs; 0 keeps clients happy that demand a number.
    return {
        "id": name,
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


def _tls(where: NginxPlace) -> List[str]:
    return [
        f"        listen {where.address}:{where.tls_port} ssl default_server;",
        f"        ssl_certificate {where.folder}/tls/server.crt;",
        f"        ssl_certificate_key {where.folder}/tls/server.key;",
        "        ssl_protocols TLSv1.2 TLSv1.3;",
        "        ssl_session_cache shared:tls:10m;",
        "        ssl_session_tickets off;",
    ]


def _metrics(where: NginxPlace) -> str:
    """For Prometheus and the exporter alone: a port that is published nowhere."""
    return f"""\
    server {{
        listen {where.address}:{where.metrics_port};
        access_log off;
        location = /stub_status {{ stub_status; }}
        location = /kit {{ default_type text/plain; alias {where.folder}/metrics.prom; }}
        location = /attest {{ default_type text/plain; alias {where.folder}/attest.prom; }}
        location / {{ return 404; }}
    }}"""


def _choose(model: Model, where: NginxPlace) -> List[str]:
    return upstreams.choose(model, where.engine_port) if where.resolver else [f"set $engine {model.service};"]


def _health(model: Model, where: NginxPlace) -> str:
    lines = [*_choose(model, where), "proxy_method GET;", "client_max_body_size 1k;"]
    lines += [_HEALTH_LIMIT, "proxy_read_timeout 5s;", "proxy_pass http://$engine/health;"]
    return page("/health", *lines, methods="GET|HEAD")


def _engine(path: str, model: Model, where: NginxPlace) -> str:
    return page(path, *_choose(model, where), f"proxy_pass http://$engine{path};", methods="POST", key=True)


def _chosen(path: str, settings: Settings, where: NginxPlace) -> str:
    """On the router: straight to the engine, or, where several models answer, to whoever reads which one is meant."""
    models = models_on_path(settings, path)
    if len(models) == 1 or not needs_router(settings):
        return _engine(path, models[0], where)
    # The answer is X-Accel-Redirect: @engine-KEY; nginx keeps the body that it has read and goes on there.
    router = f"router:{where.engine_port}" if where.resolver else "router"
    lines = [f"set $engine {router};", "proxy_ignore_headers X-Accel-Expires;", "proxy_read_timeout 60s;"]
    return page(path, *lines, f"proxy_pass http://$engine{path};", methods="POST", key=True)


def _named(model: Model, where: NginxPlace) -> str:
    lines = [*_choose(model, where), "proxy_pass http://$engine$sent_path;"]
    body = "\n".join(f"            {line}" for line in lines)
    return f"        location @{model.service} {{\n{body}\n        }}"
