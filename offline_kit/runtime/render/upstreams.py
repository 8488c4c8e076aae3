"""The engines of one model behind one name in nginx: least connections, a dead one taken out and back in.

Rules: a request goes to another engine only if the first never saw it, so that a question which kills an engine kills one, and
no answer is computed twice; an engine's address is looked up anew all the while, which an ``upstream`` of nginx before 1.27
cannot do: each engine is therefore a server of this same nginx on a Unix socket, which knows its name, and the ``upstream``
chooses among sockets. What the inner server answers: 503 where nothing was sent (try the next), 502 or 504 where the engine
failed after it had the question (the client decides).
"""

from __future__ import annotations

from typing import Iterable, List

from ..settings.model import Model
from ..settings.replicas import Engine, engines_of
from .nginx import answer

_DOWN = answer(503, "service_unavailable", "the engine does not answer: it is starting or down")
_DIED = answer(502, "server_error", "the engine went down while it answered")
_LATE = answer(504, "timeout_error", "the engine did not answer in time")


def choose(model: Model, port: int) -> List[str]:
    """Directives that set $engine to where ``model`` is served."""
    if model.replicas == 1:
        return [f"set $engine {model.service}:{port};"]
    # Without a port it is the name of an upstream.
    return [f"set $engine {model.service};", "proxy_next_upstream error http_503 non_idempotent;"]


def text(models: Iterable[Model], temp: str, port: int) -> str:
    """The upstream of each model that has several engines, and the inner server of each such engine."""
    blocks = []
    for model in models:
        if model.replicas > 1:
            engines = engines_of(model)
            blocks += [_upstream(model, engines, temp), *(_server(engine, temp, port) for engine in engines)]
    return "\n".join(blocks)


def fixed(names: Iterable[str], port: int) -> str:
    """An upstream for each of ``names``, whose address stays while nginx runs."""
    return "\n".join(f"    upstream {name} {{ server {name}:{port}; }}" for name in names)


def _unless_sent(status: int, body: str) -> str:
    return f"if ($upstream_bytes_sent ~ [1-9]) {{ return {status} '{body}\\n'; }} return 503 '{_DOWN}\\n';"


def _socket(engine: Engine, temp: str) -> str:
    return f"unix:{temp}/{engine.service}.sock"


def _upstream(model: Model, engines: Iterable[Engine], temp: str) -> str:
    lines = [f"    upstream {model.service} {{", f"        zone {model.service} 128k;", "        least_conn;"]
    lines += [f"        server {_socket(engine, temp)} max_fails=1 fail_timeout=2s;" for engine in engines]
    return "\n".join([*lines, "    }"])


def _server(engine: Engine, temp: str, port: int) -> str:
    return f"""\
    server {{
        listen {_socket(engine, temp)};
        access_log off;
        client_max_body_size 0;
        add_header X-Offline-Kit-Engine {engine.service} always;
        location / {{
            set $replica {engine.service}:{port};
            # On a bridge of this host a connection takes no time; one to an address that is gone would take seconds.
            # Docker answers for a name that it knows in milliseconds, and never for that of a stopped container.
            proxy_connect_timeout 500ms;
            resolver_timeout 700ms;
            proxy_pass http://$replica$request_uri;
        }}
        error_page 502 503 = /.failed/502;
        error_page 504 = /.failed/504;
        location = /.failed/502 {{ internal; {_unless_sent(502, _DIED)} }}
        location = /.failed/504 {{ internal; {_unless_sent(504, _LATE)} }}
    }}"""
