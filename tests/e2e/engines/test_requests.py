"""Nothing that a client with a key can send ends an engine: the whole API, and odd values of each parameter, on real engines.

Rules: whatever is sent, another client is answered throughout, and the process of the engine stays the same; an answer is 200
or a refusal; a fault (500) is one of the request, told by the engine itself, never by a gateway that has lost it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Installed
from tests.support.engines import odd_requests
from tests.support.engines.odd_requests import CHAT, EMBED, RERANK, SCORE, TEXT, Request

CLIENT = Path(odd_requests.__file__).with_name("odd_client.py")
PORTS = {"chat": 8001, "embedding": 8002, "rerank": 8003}
PLAIN: dict[str, Request] = {
    "chat": (CHAT, json.dumps({"model": "tiny-chat", "messages": odd_requests.MESSAGES, "max_tokens": 1})),
    "embedding": (EMBED, json.dumps({"model": "tiny-embed", "input": "hi"})),
    "rerank": (RERANK, json.dumps({"model": "tiny-rerank", "query": "hi", "documents": ["a"]})),
}


def send(installed: Installed, key: str, requests: list[Request], plain: Request | None = None) -> list[tuple[int, str]]:
    """The answers; another client, who asks ``plain``, was answered throughout, and the engine is the process that it was."""
    before = _process(installed, key)
    command = [sys.executable, str(CLIENT), str(PORTS[key]), installed.key, json.dumps(plain or PLAIN[key])]
    done = subprocess.run(
        installed.host.argv(*command), input=json.dumps(requests), capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["others"] and set(found["others"]) == {200}
    assert _process(installed, key) == before
    return [(status, text) for status, text in found["answers"]]


def _process(installed: Installed, key: str) -> str:
    form = "{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}"
    return installed.host.docker.docker("inspect", "--format", form, f"demo-engine-{key}-1")


def judge(requests: list[Request], answers: list[tuple[int, str]]) -> None:
    """200, a refusal, or a fault that the engine itself tells in the shape of its errors."""
    wrong = []
    for (path, body), (status, text) in zip(requests, answers, strict=True):
        told = status == 500 and '"InternalServerError"' in text
        if status != 200 and not 400 <= status < 500 and not told:
            wrong.append((status, path, body[:200], text[:200]))
    assert wrong == []


def test_what_the_api_has_is_answered_or_refused_with_a_reason(installed: Installed) -> None:
    requests = list(odd_requests.features("tiny-chat"))
    answers = send(installed, "chat", requests)
    refused = [(body, text) for (_, body), (status, text) in zip(requests, answers, strict=True) if status != 200]
    # The tiny model has no parser of tool calls: that it may or must call one is refused, and why.
    told = [json.loads(body) for body, _ in refused]
    assert [body.get("tool_choice", "auto") for body in told if body["tools"]] == ["auto", "required", odd_requests.NAMED], (
        refused
    )
    assert len(refused) == 3 and all("--tool-call-parser" in text for _, text in refused)


@pytest.mark.parametrize("key", PORTS)
def test_odd_values_and_bodies(installed: Installed, key: str) -> None:
    model, paths = {
        "chat": ("tiny-chat", (CHAT, TEXT)),
        "embedding": ("tiny-embed", (EMBED,)),
        "rerank": ("tiny-rerank", (RERANK, SCORE)),
    }[key]
    requests = [request for path in paths for request in odd_requests.odd_bodies(model, path)]
    requests += odd_requests.odd_values(model, paths)
    judge(requests, send(installed, key, requests))


def test_odd_schemas_grammars_tools_and_messages(installed: Installed) -> None:
    requests = list(odd_requests.odd_structures("tiny-chat"))
    judge(requests, send(installed, "chat", requests))


def test_a_first_request_of_a_few_tokens(installed: Installed) -> None:
    """An engine on a processor with AMX died of it, as long as no longer prompt had come before."""
    done = installed.host.run("./scripts/deploy.sh", "restart", "chat", cwd=installed.kit)
    assert done.returncode == 0, done.stderr
    request = (TEXT, json.dumps({"model": "tiny-chat", "prompt": "hi", "max_tokens": 3}))
    assert [status for status, _ in send(installed, "chat", [request], plain=request)] == [200]


@pytest.mark.long
def test_each_backend_of_structured_outputs(installed: Installed) -> None:
    """Each as an operator sets it: it answers, or refuses with a reason what it does not have.

    The fourth, lm-format-enforcer 0.11.3, does not go with this vLLM: the rehearsal refuses an engine that is set to it.
    """
    services = installed.kit / "config/models.json"
    before = services.read_text()
    refused: dict[str, set[str]] = {}
    try:
        for backend in ("xgrammar", "guidance", "outlines"):
            content = json.loads(before)
            content["models"]["chat"].setdefault("engine_args", {})["structured_outputs_config"] = {"backend": backend}
            services.write_text(json.dumps(content))
            _do(installed, "restart")
            checks = json.loads(_do(installed, "smoke", "--full", "--json"))["checks"]
            told = {check["name"].removeprefix("engine-chat: "): check for check in checks}
            asked = {name: told[name] for name in ("JSON object", "JSON by schema", "regular expression", "choice", "grammar")}
            assert all(check["ok"] for check in asked.values()), (backend, asked)
            refused[backend] = {name for name, check in asked.items() if not check["able"]}
            assert all(asked[name]["detail"].startswith("400: ") for name in refused[backend]), (backend, asked)
    finally:
        services.write_text(before)
        _do(installed, "restart")
    assert refused == {"xgrammar": set(), "guidance": set(), "outlines": {"JSON object", "grammar"}}


def _do(installed: Installed, *words: str) -> str:
    done = installed.host.run("./scripts/deploy.sh", *words, cwd=installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_full_smoke_test_names_what_an_engine_cannot_do(installed: Installed) -> None:
    done = installed.host.run("./scripts/deploy.sh", "smoke", "--full", "--json", cwd=installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)["checks"]
    unable = {check["name"]: check["detail"] for check in found if not check["able"]}
    assert set(unable) == {
        "engine-chat: tools, as it likes",
        "engine-chat: tools, one it must",
        "engine-embedding: shorter vectors (dimensions)",
        "engine-embedding: /pooling, of each token",
    }
    assert all(detail.startswith("400: ") for detail in unable.values())
    assert {
        "engine-chat: log probabilities",
        "engine-chat: grammar",
        "engine-rerank: /v1/score",
        "engine-rerank: /classify",
    } <= {c["name"] for c in found}
    shown = installed.host.run("./scripts/deploy.sh", "smoke", "--full", cwd=installed.kit).stdout
    assert "\nno    engine-embedding: shorter vectors (dimensions)" in shown and "\nok    engine-chat: beam search" in shown
