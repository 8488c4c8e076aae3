"""Many models and many engines behind one gateway: who answers a request, and who when an engine is gone."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.nginx_front import KEY, QUESTION, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Engine, Names, engine

PATH = "/v1/chat/completions"
SILENT = "127.71.0.200"


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Gateway]:
    """Three engines of big-chat, one each of three other models, named but not started."""
    settings = four_models(replicas=3)
    names = Names({**addresses(settings), "router": ROUTER})
    open_to_workers(tmp_path)
    running = Gateway(tmp_path, names, settings)
    yield running
    running.stop()
    names.close()


@pytest.fixture
def engines(front: Gateway) -> Iterator[dict[str, Engine]]:
    with ExitStack() as stack:
        yield {
            service: stack.enter_context(engine(address, front.engine_port, service))
            for service, address in addresses(front.settings).items()
        }


def chats(engines: dict[str, Engine]) -> dict[str, Engine]:
    return {name: server for name, server in engines.items() if name.startswith("engine-chat")}


def test_the_models_name_decides(front: Gateway, engines: dict[str, Engine]) -> None:
    assert front.ask(PATH, json={**QUESTION, "model": "small-chat"}).json()["engine"] == "engine-second"
    assert front.ask(PATH).json()["engine"] in chats(engines)
    assert front.ask("/v1/completions", json={"prompt": "x", "model": "small-chat"}).status_code == 200
    assert engines["engine-second"].asked[-1].path == "/v1/completions"
    assert front.ask(PATH, json={"messages": []}).json()["engine"] in chats(engines), "no name means the first"
    assert front.ask("/v1/embeddings", json={"input": "x", "model": "big-embedding"}).status_code == 200


def test_a_name_inside_the_conversation_decides_nothing(front: Gateway, engines: dict[str, Engine]) -> None:
    messages = [{"role": "user", "content": '"model": "small-chat", {"model": "small-chat"}', "model": "small-chat"}]
    assert front.ask(PATH, json={"messages": messages, "model": "big-chat"}).json()["engine"] in chats(engines)
    assert front.ask(PATH, json={"tools": {"model": "big-chat"}, "model": "small-chat"}).json()["engine"] == "engine-second"


def test_an_unknown_name_is_told_which_there_are(front: Gateway, engines: dict[str, Engine]) -> None:
    answer = front.ask(PATH, json={**QUESTION, "model": "gpt-5"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (404, 404, "model")
    assert "'big-chat', 'small-chat'" in error["message"] and "gpt-5" in error["message"]
    wrong_path = front.ask(PATH, json={**QUESTION, "model": "big-rerank"})
    assert wrong_path.status_code == 404 and "/v1/rerank" in wrong_path.json()["error"]["message"]
    assert not any(server.asked for server in engines.values())


def test_what_cannot_be_read_goes_to_an_engine_that_says_why(front: Gateway, engines: dict[str, Engine]) -> None:
    front.ask(PATH, data=b"[]", headers={"Content-Type": "application/json"})
    assert sum(len(server.asked) for server in chats(engines).values()) == 1


def test_a_chosen_engine_streams_and_takes_large_and_chunked_bodies(front: Gateway, engines: dict[str, Engine]) -> None:
    for model in ("big-chat", "small-chat"):
        arrived = []
        with front.ask(PATH, json={**QUESTION, "model": model, "stream": True}, stream=True) as answer:
            for line in answer.iter_lines(chunk_size=1):
                if line:
                    arrived.append((line, len(engines["engine-second"].asked)))
        assert [line for line, _ in arrived] == [b"data: 0", b"data: 1", b"data: 2", b"data: 3"]
        large = {"padding": "x" * (20 << 20), "model": model}
        assert front.ask(PATH, json=large).status_code == 200
        pieces = iter([b'{"model": "%s"' % model.encode(), b', "messages": []}'])
        assert front.ask(PATH, data=pieces).status_code == 200
    assert json.loads(engines["engine-second"].asked[-1].body) == {"model": "small-chat", "messages": []}


def test_a_client_that_leaves_is_noticed_by_the_engine(front: Gateway, engines: dict[str, Engine]) -> None:
    with front.ask(PATH, json={**QUESTION, "stream": True}, stream=True) as answer:
        next(answer.iter_lines(chunk_size=1))
    deadline = time.monotonic() + 5
    while not any(server.left for server in chats(engines).values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert sum(server.left for server in chats(engines).values()) == 1


def test_without_the_router_the_answer_is_503_and_single_models_still_answer(
    front: Gateway, engines: dict[str, Engine]
) -> None:
    front.names.table.pop("router")
    front.router.server_close()
    answer = front.ask(PATH)
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers["Retry-After"]) == (503, 503, "5")
    assert front.ask("/v1/embeddings", json={"input": "x"}).status_code == 200
    assert front.ask(PATH, "chat").status_code == 200


def test_an_engine_cannot_send_a_request_elsewhere(front: Gateway, engines: dict[str, Engine]) -> None:
    """X-Accel-Redirect counts from the router alone."""
    text = (front.folder / "nginx.conf").read_text()
    http = text.split("    server {")[0]
    assert "proxy_ignore_headers X-Accel-Redirect" in http
    assert text.count("proxy_ignore_headers X-Accel-Expires;") == 8, "five of chat, two of tokenizers, and /pooling have rivals"


def test_engines_share_the_load_by_what_they_have_to_do(front: Gateway, engines: dict[str, Engine]) -> None:
    """With one engine busy, least connections gives the rest to the others."""
    with concurrent.futures.ThreadPoolExecutor(24) as crowd:
        waiting = [crowd.submit(front.ask, PATH, json={**QUESTION, "seconds": 1}) for _ in range(24)]
        assert {done.result().status_code for done in waiting} == {200}
    shares = [len(server.asked) for server in chats(engines).values()]
    assert sum(shares) == 24 and min(shares) >= 6, shares
    names = {entry["replica"] for entry in front.entries() if entry["path"] == PATH}
    assert names == set(chats(engines))


def test_a_dead_engine_is_taken_out_and_back_in(front: Gateway) -> None:
    places = {name: place for name, place in addresses(front.settings).items() if name.startswith("engine-chat")}
    with ExitStack() as stack:
        for service in ("engine-chat-2", "engine-chat-3"):
            stack.enter_context(engine(places[service], front.engine_port, service))
        answers = [front.ask(PATH) for _ in range(12)]
        assert {answer.status_code for answer in answers} == {200}
        with engine(places["engine-chat"], front.engine_port, "engine-chat") as back:
            deadline = time.monotonic() + 10
            while not back.asked and time.monotonic() < deadline:
                assert front.ask(PATH).status_code == 200
            assert back.asked
    assert front.ask(PATH).status_code == 503
    assert front.ask("/health", "chat", method="GET", key=None).status_code == 503


def test_an_address_that_is_gone_is_not_waited_for(front: Gateway, engines: dict[str, Engine]) -> None:
    """A stopped container leaves an address at which nobody says no: here a listener whose queue is full.

    The gateway gives it half a second; five, nginx's usual patience here, is what must not be seen.
    """
    front.names.table["engine-chat"] = SILENT
    with ExitStack() as stack:
        silent = stack.enter_context(socket.socket())
        silent.bind((SILENT, front.engine_port))
        silent.listen(0)
        for _ in range(4):
            knock = stack.enter_context(socket.socket())
            knock.setblocking(False)
            knock.connect_ex((SILENT, front.engine_port))
        answers = [front.ask(PATH) for _ in range(6)]
    assert {answer.status_code for answer in answers} == {200}
    tries = [float(seconds) for entry in front.entries() for seconds in re.split(" : |, ", entry["engine_seconds"])]
    assert [seconds for seconds in tries if seconds > 0.3] and max(tries) < 4


def test_a_name_of_which_nobody_answers_is_not_waited_for(front: Gateway, engines: dict[str, Engine]) -> None:
    """Docker's name server keeps silent about a stopped container; the gateway's own log says how long it asked."""
    front.names.silent.add("engine-chat")
    assert {front.ask(PATH).status_code for _ in range(6)} == {200}
    tries = [entry["engine_seconds"].split(" : ")[-1].split(", ") for entry in front.entries()]
    assert [seconds for first, *others in tries if others for seconds in [float(first)] if 0.5 < seconds < 1]


def test_a_question_that_kills_an_engine_kills_one(front: Gateway, engines: dict[str, Engine]) -> None:
    answer = front.ask(PATH, json={**QUESTION, "die": True})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, 502)
    assert sum(len(server.asked) for server in chats(engines).values()) == 1
    assert {front.ask(PATH).status_code for _ in range(6)} == {200}


def test_health_of_a_model_is_that_of_any_engine(front: Gateway) -> None:
    with engine(addresses(front.settings)["engine-chat-3"], front.engine_port, "engine-chat-3"):
        assert {front.ask("/health", "chat", method="GET", key=None).status_code for _ in range(4)} == {200}
    assert KEY not in front.log()
