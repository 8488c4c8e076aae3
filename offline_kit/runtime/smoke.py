"""Ask each service one question, or with --full for all that the API has, through the gateway, as a client would.

Rules: an answer counts only if its content makes sense (text, a vector that is not zero, a ranking in order), not by its status
alone; that a request without a key is refused is part of the test; every check is made and told, then the exit code says all;
what an engine refuses with a reason, it cannot do: that is told, and is no fault.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

from . import apply, capabilities
from .render import gateway
from .settings import routes
from .settings.model import ConfigError, Model, Settings

DOCUMENTS = ["Paris is the capital of France.", "A cat sleeps on the sofa.", "Tar archives keep many files in one."]


class Check(NamedTuple):
    """What came of one question. ``able``: the engine does this; one that refuses is still well."""

    name: str
    ok: bool
    seconds: float
    detail: str
    able: bool = True


class Client:
    """Requests to one gateway, never through a proxy."""

    def __init__(self, base: str, key: str, timeout: float) -> None:
        """``base``: ``http://HOST``, without a port; ``timeout`` in seconds for each answer."""
        self._base, self._key, self._timeout = base.rstrip("/"), key, timeout
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, port: int, path: str, body: Optional[Dict[str, Any]] = None, *, key: bool = True) -> Tuple[int, Any]:
        """Status and decoded JSON (None where there is none). Raises OSError when nothing answers."""
        status, data = self.send(port, path, body, key=key)
        return status, _json(data)

    def send(self, port: int, path: str, body: Optional[Dict[str, Any]] = None, *, key: bool = True) -> Tuple[int, bytes]:
        """Status and bytes of the answer. Raises OSError when nothing answers."""
        headers = {"Authorization": f"Bearer {self._key}"} if key else {}
        data = None
        if body is not None:
            headers["Content-Type"], data = "application/json", json.dumps(body).encode("utf-8")
        request = urllib.request.Request(f"{self._base}:{port}{path}", data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=self._timeout) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()


def run(settings: Settings, client: Client, only: Optional[str] = None, ports: Optional[Dict[str, int]] = None) -> List[Check]:
    """All checks, in the order of models.json. ``ports``: key (and ``router``) -> port; default: of the container."""
    ports = ports or {"router": gateway.ROUTER, **gateway.container_ports(settings)}
    checks = []
    for model in settings.models:
        if only in (None, model.key):
            checks.append(_timed(model.service, lambda m=model: _model(client, ports[m.key], m)))  # type: ignore[misc]
    if only is None:
        checks.append(_timed("gateway", lambda: _router(client, ports["router"], settings)))
        if routes.needs_router(settings):
            checks.append(_timed("router", lambda: _by_name(client, ports["router"], settings)))
        checks.append(_timed("without a key", lambda: _refused(client, ports["router"], settings)))
    return checks


def run_full(settings: Settings, client: Client, only: Optional[str] = None) -> List[Check]:
    """What each engine can do, in the order of models.json."""
    ports, checks = gateway.container_ports(settings), []
    for model in settings.models:
        if only in (None, model.key):
            checks += [_feature(client, ports[model.key], model, question) for question in capabilities.questions(model)]
    return checks


def _feature(client: Client, port: int, model: Model, question: capabilities.Question) -> Check:
    start = time.monotonic()
    ok, able, detail = True, True, ""
    try:
        status, data = client.send(port, question.path, question.body)
        answer = data.decode("utf-8", "replace") if question.body.get("stream") else _json(data)
        if status != 200:
            ok, able, detail = status < 500, False, f"{status}: {_reason(data)}"
        elif not question.right(answer):
            ok, detail = False, f"an answer that does not show it: {data[:300]!r}"
    except (OSError, http.client.HTTPException) as error:
        ok, detail = False, str(error)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        ok, detail = False, f"an answer of another shape ({error!r}): {data[:300]!r}"
    return Check(f"{model.service}: {question.feature}", ok, round(time.monotonic() - start, 2), detail, able)


def _reason(data: bytes) -> str:
    """The message of a refusal, in one line."""
    answer = _json(data)
    error = answer.get("error") if isinstance(answer, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    return " ".join(str(message or data[:300]).split())[:300]


def _timed(name: str, question: Callable[[], str]) -> Check:
    start = time.monotonic()
    try:
        ok, detail = True, question()
    except (OSError, http.client.HTTPException, _Wrong) as error:
        ok, detail = False, str(error)
    return Check(name, ok, round(time.monotonic() - start, 2), detail)


class _Wrong(Exception):
    """An answer that does not make sense."""


def _model(client: Client, port: int, model: Model) -> str:
    questions: Dict[str, Tuple[Dict[str, Any], Callable[[Any], str]]] = {
        "chat": ({"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 16, "temperature": 0}, _chat),
        "embedding": ({"input": DOCUMENTS[0]}, _embedding),
        "rerank": ({"query": "What is the capital of France?", "documents": DOCUMENTS}, _rerank),
    }
    body, check = questions[model.type]
    status, answer = client.ask(port, routes.PATHS[model.type][0], {"model": model.name, **body})
    if status != 200:
        raise _Wrong(f"status {status}: {json.dumps(answer)[:300]}")
    try:
        return check(answer)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise _Wrong(f"an answer of another shape ({error!r}): {json.dumps(answer)[:300]}") from error


def _chat(answer: Any) -> str:
    message = answer["choices"][0]["message"]
    # A model that thinks first may spend the few tokens on that alone.
    text = message["content"] or message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(text, str) or not text:
        raise _Wrong("an empty answer")
    return json.dumps(text[:60])


def _embedding(answer: Any) -> str:
    vector = [float(number) for number in answer["data"][0]["embedding"]]
    norm = math.sqrt(sum(number * number for number in vector))
    if not math.isfinite(norm) or norm <= 0:
        raise _Wrong(f"a vector of length {norm}")
    return f"{len(vector)} numbers, norm {norm:.3f}"


def _rerank(answer: Any) -> str:
    scores = [float(result["relevance_score"]) for result in answer["results"]]
    places = sorted(int(result["index"]) for result in answer["results"])
    if places != list(range(len(DOCUMENTS))) or scores != sorted(scores, reverse=True) or not all(map(math.isfinite, scores)):
        raise _Wrong(f"not a ranking of {len(DOCUMENTS)} documents: {json.dumps(answer)[:300]}")
    return "scores " + ", ".join(f"{score:.4g}" for score in scores)


def _router(client: Client, port: int, settings: Settings) -> str:
    status, _ = client.ask(port, "/health", key=False)
    listed, answer = client.ask(port, "/v1/models")
    names = [entry["id"] for entry in answer["data"]] if listed == 200 else []
    if status != 200 or sorted(names) != sorted(name for model in settings.models for name in (model.name, *model.adapters)):
        raise _Wrong(f"/health: status {status}; /v1/models: status {listed}, {names}")
    return f"lists {', '.join(names)}"


def _by_name(client: Client, port: int, settings: Settings) -> str:
    # What a model that does not exist gets is asked, too: it is answered by the router alone, with all names that there are.
    shared = [path for path in routes.routes(settings) if len(routes.models_on_path(settings, path)) > 1]
    for path in shared:
        status, answer = client.ask(port, path, {"model": "no-such-model"})
        message = str((answer or {}).get("error", {}).get("message"))
        if status != 404 or not all(model.name in message for model in routes.models_on_path(settings, path)):
            raise _Wrong(f"{path}: status {status}: {message}")
    return f"chooses by name at {', '.join(shared)}"


def _refused(client: Client, port: int, settings: Settings) -> str:
    for path in ("/v1/models", *routes.routes(settings)):
        status, _ = client.ask(port, path, None if path == "/v1/models" else {}, key=False)
        if status != 401:
            raise _Wrong(f"{path} answered {status} instead of 401")
    return "401 everywhere"


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return None


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.smoke", description="Ask each service one question.")
    parser.add_argument("--kit", required=True, type=Path, metavar="DIR", help="the kit as mounted")
    parser.add_argument("--base", default="http://gateway", metavar="URL", help="the gateway, without a port (%(default)s)")
    parser.add_argument("--only", metavar="KEY", help="ask this model only")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="the key; default: that of .env")
    parser.add_argument("--timeout", type=float, default=120, metavar="SECONDS", help="for each answer (%(default)s)")
    parser.add_argument("--full", action="store_true", help="then for all that the API has: say what each engine cannot do")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    options = parser.parse_args(arguments)
    try:
        settings, _ = apply.read(options.kit)
        key = options.key_file.read_text("ascii").strip() if options.key_file else settings.api_key
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    if options.only not in (None, *(model.key for model in settings.models)):
        print(f"there is no model '{options.only}' in config/models.json", file=sys.stderr)
        return 3
    client = Client(options.base, key, options.timeout)
    checks = run(settings, client, options.only)
    checks += run_full(settings, client, options.only) if options.full else []
    good = all(check.ok for check in checks)
    if options.json:
        print(json.dumps({"ok": good, "checks": [{"able": check.able, **check._asdict()} for check in checks]}))
    else:
        for check in checks:
            word = "ok  " if check.ok and check.able else "no  " if check.ok else "FAIL"
            print(f"{word}  {check.name:<20} {check.seconds:6.2f} s  {check.detail}".rstrip())
    return 0 if good else 7


if __name__ == "__main__":
    sys.exit(main())
