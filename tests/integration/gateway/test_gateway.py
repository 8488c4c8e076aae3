"""The gateway's configuration in a real nginx, in front of stand-in engines."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from offline_kit.runtime import smoke
from tests.support.nginx_front import GATEWAY, KEY, QUESTION, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Engine, Names, engine

ENGINES = {key: addresses(four_models())[f"engine-{key}"] for key in ("chat", "embedding", "rerank")}
ELSEWHERE = "127.71.0.9"


@pytest.fixture
def names() -> Iterator[Names]:
    server = Names({**addresses(four_models()), "router": ROUTER})
    yield server
    server.close()


@pytest.fixture
def front(tmp_path: Path, names: Names) -> Iterator[Gateway]:
    open_to_workers(tmp_path)
    running = Gateway(tmp_path, names, four_models())
    yield running
    running.stop()


@pytest.fixture
def engines(front: Gateway) -> Iterator[dict[str, Engine]]:
    with ExitStack() as stack:
        yield {key: stack.enter_context(engine(address, front.engine_port, key)) for key, address in ENGINES.items()}


def _nothing_asked(engines: dict[str, Engine]) -> bool:
    return not any(server.asked for server in engines.values())


def test_each_path_reaches_the_engine_of_its_type(front: Gateway, engines: dict[str, Engine]) -> None:
    for path, key in (
        ("/v1/chat/completions", "chat"),
        ("/v1/completions", "chat"),
        ("/v1/embeddings", "embedding"),
        ("/v1/rerank", "rerank"),
        ("/rerank", "rerank"),
        ("/v1/responses", "chat"),
        ("/v1/messages", "chat"),
        ("/v1/messages/count_tokens", "chat"),
        ("/v2/rerank", "rerank"),
        ("/v1/score", "rerank"),
        ("/score", "rerank"),
        ("/classify", "rerank"),
    ):
        assert front.ask(path).status_code == 200
        assert engines[key].asked[-1].path == path
        assert front.ask(path, key).status_code == 200


def test_vectors_and_scores_as_they_are_pooled(front: Gateway, engines: dict[str, Engine]) -> None:
    for key in ("embedding", "rerank"):
        assert front.ask("/pooling", key, json={"input": "x"}).status_code == 200
        assert front.ask("/pooling", json={"input": "x", "model": f"big-{key}"}).status_code == 200
        assert [asked.path for asked in engines[key].asked[-2:]] == ["/pooling", "/pooling"]
    assert front.ask("/pooling", "chat").status_code == 404 and front.ask("/pooling", key=None).status_code == 401


def test_each_model_has_its_tokenizer(front: Gateway, engines: dict[str, Engine]) -> None:
    for key, server in engines.items():
        for path in ("/tokenize", "/detokenize"):
            assert front.ask(path, key, json={"prompt": "x"}).status_code == 200
            assert front.ask(path, json={"prompt": "x", "model": f"big-{key}"}).status_code == 200
            assert [asked.path for asked in server.asked[-2:]] == [path, path]
            assert front.ask(path, key=None).status_code == 401


def test_an_engine_sees_the_question_but_not_the_key(front: Gateway, engines: dict[str, Engine]) -> None:
    answer = front.ask("/v1/chat/completions", headers={"X-Request-ID": "mine-1", "Cookie": "a=b", "X-Api-Key": "x"})
    asked = engines["chat"].asked[-1]
    assert json.loads(asked.body) == QUESTION
    assert {name.lower() for name in asked.headers} == {"host", "content-type", "content-length", "accept", "x-request-id"}
    assert asked.headers["X-Request-Id"] == answer.headers["X-Request-ID"] == "mine-1"
    assert "Server" in answer.headers and answer.headers["Server"] == "nginx"


@pytest.mark.parametrize("key", [None, "", "wrong", KEY.upper(), KEY + "x", KEY[:-1], f"{KEY} {KEY}"])
def test_without_the_right_key_nothing_is_answered(front: Gateway, engines: dict[str, Engine], key: str | None) -> None:
    for path, port in (("/v1/chat/completions", "router"), ("/v1/rerank", "rerank"), ("/rerank", "router")):
        answer = front.ask(path, port, key=key)
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert front.ask("/v1/models", method="GET", key=key).status_code == 401
    assert _nothing_asked(engines)


@pytest.mark.parametrize(
    "path",
    [
        "/page",
        "/page.html",
        "/index.html",
        "/v2/embed",
        "/v1/responses/x",
        "/metrics",
        "/invocations",
        "/v1",
        "/v1/",
        "/docs",
        "/v1/models/x",
    ],
)
def test_other_paths_are_unknown(front: Gateway, engines: dict[str, Engine], path: str) -> None:
    for port in front.ports:
        for method in ("GET", "POST"):
            answer = front.ask(path, port, method=method)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, 404)
    assert front.ask("/v1/embeddings", "chat").status_code == 404
    assert _nothing_asked(engines)


@pytest.mark.parametrize(
    "path",
    [
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat/completions/",
        "/v1/chat/completions/../../../metrics",
        "/v1/chat/completions/%2e%2e/%2e%2e/%2e%2e/metrics",
        "/x/../v1/chat/completions",
        "/v1/chat/completions%00",
        "/v1/chat/completions%0d%0aX:y",
        "/v1/chat/completions#/metrics",
        "http://engine-chat/metrics",
        "http://engine-chat:8000/../metrics",
        "/V1/chat/completions",
        "/v1/chat/completions;x=1",
    ],
)
def test_tricks_with_the_path_reach_nothing(front: Gateway, engines: dict[str, Engine], path: str) -> None:
    body = json.dumps(QUESTION)
    head = f"Host: x\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    answer = front.raw(f"POST {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n{body}")
    assert answer.split(b" ")[1] in (b"404", b"400"), answer
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]
    assert _nothing_asked(engines)


def test_a_query_string_and_an_absolute_address_change_nothing(front: Gateway, engines: dict[str, Engine]) -> None:
    assert front.ask("/v1/chat/completions?x=/../metrics").status_code == 200
    body = json.dumps(QUESTION)
    head = f"Host: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\nConnection: close"
    assert b" 200 " in front.raw(f"POST http://evil/v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n{body}")[:20]
    assert [asked.path for asked in engines["chat"].asked] == ["/v1/chat/completions"] * 2


def test_smuggled_and_broken_requests_are_refused(front: Gateway, engines: dict[str, Engine]) -> None:
    both = f"Host: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    inner = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
    assert b" 400 " in front.raw(f"POST /v1/chat/completions HTTP/1.1\r\n{both}{inner}")[:20]
    spaced = f"Host: x\r\nAuthorization : Bearer {KEY}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert front.raw(f"POST /v1/chat/completions HTTP/1.1\r\n{spaced}").split(b" ")[1] in (b"400", b"401")
    assert b'"code": 400' in front.raw("GARBAGE\r\n\r\n")
    assert front.ask("/health", method="GET", headers={"X-Long": "x" * 40000}).status_code == 400
    assert not [asked for server in engines.values() for asked in server.asked if asked.path == "/metrics"]


def test_methods_are_limited(front: Gateway, engines: dict[str, Engine]) -> None:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = front.ask("/v1/chat/completions", method=method)
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, 405)
    assert front.ask("/v1/models").status_code == 405
    assert front.ask("/health").status_code == 405
    assert _nothing_asked(engines)


def test_health_needs_no_key(front: Gateway, engines: dict[str, Engine]) -> None:
    assert front.ask("/health", method="GET", key=None).json() == {"status": "ok"}
    assert front.ask("/health", "chat", method="GET", key=None).status_code == 200
    assert front.ask("/health", "chat", method="HEAD", key=None).status_code == 200
    assert front.ask("/health", "second", method="GET", key=None).status_code == 503
    assert [asked.path for asked in engines["chat"].asked] == ["/health"] * 2


def test_models_are_listed(front: Gateway) -> None:
    every = front.ask("/v1/models", method="GET").json()
    assert every["object"] == "list"
    assert [entry["id"] for entry in every["data"]] == ["big-chat", "big-embedding", "big-rerank", "small-chat"]
    assert every["data"][0]["max_model_len"] == 128
    assert [entry["id"] for entry in front.ask("/v1/models", "rerank", method="GET").json()["data"]] == ["big-rerank"]


def test_an_answer_streams_as_it_is_made(front: Gateway, engines: dict[str, Engine]) -> None:
    start = time.monotonic()
    arrived = []
    with front.ask("/v1/chat/completions", json={**QUESTION, "stream": True}, stream=True) as answer:
        for line in answer.iter_lines(chunk_size=1):
            if line:
                arrived.append((line, time.monotonic() - start))
    assert [line for line, _ in arrived] == [b"data: 0", b"data: 1", b"data: 2", b"data: 3"]
    assert arrived[3][1] - arrived[0][1] > 0.3, "held back, the pieces would come at once"


def test_an_engines_own_error_comes_through(front: Gateway, engines: dict[str, Engine]) -> None:
    answer = front.ask("/v1/chat/completions", json={"model": "unknown"})
    assert answer.status_code == 404
    assert "does not exist" in answer.json()["error"]["message"]


def test_an_engine_that_is_down_is_said_to_be(front: Gateway, names: Names) -> None:
    for name in ("refuses connections", "has no address"):
        answer = front.ask("/v1/chat/completions")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, 503), name
        assert answer.json()["error"]["type"] == "service_unavailable"
        assert answer.headers["Retry-After"] == "5"
        names.table.pop("engine-chat", None)
        time.sleep(5.5)  # the time that an address is remembered


def test_an_engine_that_moved_is_found_again(front: Gateway, names: Names) -> None:
    with engine(ENGINES["chat"], front.engine_port, "first"):
        assert front.ask("/v1/chat/completions").json()["engine"] == "first"
    names.table["engine-chat"] = ELSEWHERE
    with engine(ELSEWHERE, front.engine_port, "second"):
        deadline = time.monotonic() + 10
        while (answer := front.ask("/v1/chat/completions")).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert answer.json()["engine"] == "second"


def test_large_requests(front: Gateway, engines: dict[str, Engine]) -> None:
    fits = {**QUESTION, "padding": "x" * (20 << 20)}
    assert front.ask("/v1/chat/completions", json=fits).status_code == 200
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {65 << 20}\r\n\r\n"
    answer = front.raw(head)
    assert b" 413 " in answer[:20] and json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == 413


def test_a_body_of_unknown_length_arrives_whole(front: Gateway, engines: dict[str, Engine]) -> None:
    pieces = iter([b'{"model": "big-chat", ', b'"messages": []}'])
    assert front.ask("/v1/chat/completions", data=pieces, headers={"Content-Type": "application/json"}).status_code == 200
    assert json.loads(engines["chat"].asked[-1].body) == {"model": "big-chat", "messages": []}


def test_http_1_0_is_answered(front: Gateway, engines: dict[str, Engine]) -> None:
    body = json.dumps(QUESTION)
    head = f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    assert b" 200 " in front.raw(f"POST /v1/chat/completions HTTP/1.0\r\n{head}\r\n\r\n{body}")[:20]
    assert b" 401 " in front.raw(f"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n{body}")[:20]


def test_keys_change_without_a_lost_request(front: Gateway, engines: dict[str, Engine]) -> None:
    with front.ask("/v1/chat/completions", json={**QUESTION, "stream": True}, stream=True) as answer:
        front.change_keys([("other", "another-key-0123456789")])
        assert len([line for line in answer.iter_lines() if line]) == 4
    assert front.ask("/v1/chat/completions").status_code == 401
    assert front.ask("/v1/chat/completions", key="another-key-0123456789").status_code == 200


def test_the_log_is_json_and_has_no_key(front: Gateway, engines: dict[str, Engine]) -> None:
    front.ask("/v1/chat/completions", headers={"X-Request-ID": "find-me"})
    front.ask("/nothing")
    time.sleep(0.2)
    lines = [json.loads(line) for line in front.log().splitlines() if line.startswith("{")]
    found = next(line for line in lines if line["request_id"] == "find-me")
    assert (found["status"], found["key"], found["engine"]) == (200, "default", f"engine-chat:{front.engine_port}")
    assert KEY not in front.log()
    assert "uninitialized" not in front.log()


def test_the_smoke_test_passes_and_tells_what_fails(front: Gateway, engines: dict[str, Engine]) -> None:
    checks = smoke.run(front.settings, smoke.Client(f"http://{GATEWAY}", KEY, 10), ports=front.ports)
    assert [(check.name, check.ok) for check in checks] == [
        ("engine-chat", True),
        ("engine-embedding", True),
        ("engine-rerank", True),
        ("engine-second", False),
        ("gateway", True),
        ("router", True),
        ("without a key", True),
    ]
    assert "503" in checks[3].detail
