"""The ports of the unified image, before engines that are real servers on Unix sockets."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl

from offline_kit.unified.supervisor import READY, SILENT, STARTING
from tests.unit.unified.proxy_world import CHAT, EMBED, KEY, World, run, world


def test_by_path_and_by_port(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        for port, path, served in (("router", CHAT, "chat"), ("router", EMBED, "embedding"), ("chat", CHAT, "chat")):
            assert await made.ask(port, path, json={"model": f"tiny-{served}"}) == (200, {"served": served, "path": path})
        large = json.dumps({"model": "tiny-chat", "filler": "x" * (2 << 20)}).encode()
        assert (await made.ask("router", CHAT, data=io.BytesIO(large)))[0] == 200 and made.asked[-1][2] == large
        _, request, sent = made.asked[0]
        assert json.loads(sent) == {"model": "tiny-chat"} and "Authorization" not in request.headers
        status, answer = await made.ask("router", "/v1/models", method="GET")
        assert status == 200 and [entry["id"] for entry in answer["data"]] == ["tiny-chat", "tiny-embedding"]
        assert (await made.ask("chat", "/v1/models", method="GET"))[1]["data"][0]["id"] == "tiny-chat"
        assert any(CHAT in line and " 200 " in line for line in made.log) and KEY not in "".join(made.log)

    run(tmp_path, body)


def test_by_name_where_two_models_answer_one_path(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        for name in ("one", "two"):
            assert (await made.ask("router", CHAT, json={"model": f"tiny-{name}"}))[1]["served"] == name
        status, answer = await made.ask("router", CHAT, json={"model": "three"})
        assert status == 404 and "'tiny-one', 'tiny-two'" in answer["error"]["message"]

    run(tmp_path, body, one="chat", two="chat")


@pytest.mark.parametrize(
    ("port", "path", "more", "status"),
    [
        ("router", "/metrics", {}, 404),
        ("router", "//v1/chat/completions", {}, 404),
        ("router", "/v1/chat%2fcompletions", {}, 404),
        ("chat", EMBED, {}, 404),
        ("router", CHAT, {"method": "GET"}, 405),
        ("router", "/v1/models", {}, 405),
        ("router", CHAT, {"key": ""}, 401),
        ("router", CHAT, {"key": KEY + "x"}, 401),
        ("chat", "/v1/models", {"method": "GET", "key": "é"}, 401),
        ("router", CHAT, {"size": (64 << 20) + 1}, 413),
    ],
)
def test_what_is_refused(tmp_path: Path, port: str, path: str, more: dict[str, Any], status: int) -> None:
    async def body(made: World) -> None:
        headers = {"Authorization": f"Bearer {more.get('key', KEY)}"}
        url = yarl.URL(f"http://127.0.0.1:{made.ports[port]}{path}", encoded=True)
        data = io.BytesIO(b"x" * more.get("size", 0))
        async with made.client.request(more.get("method", "POST"), url, headers=headers, data=data) as answer:
            assert answer.status == status and (await answer.json())["error"]["code"] == status
        assert not made.asked

    run(tmp_path, body)


def test_without_a_key_there_is_none_to_show(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        assert (await made.ask("router", CHAT, key="", json={}))[0] == 200

    run(tmp_path, body, key="")


def test_health_is_that_of_the_engines(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        assert await made.ask("router", "/health", method="GET", key="") == (
            200,
            {"status": "ok", "engines": {"chat": "ready", "embedding": "ready"}},
        )
        made.engines["chat"].state = STARTING
        assert (await made.ask("router", "/health", method="GET"))[1]["engines"]["chat"] == "starting"
        states = [(await made.ask(port, "/health", method="GET"))[0] for port in ("router", "chat", "embedding")]
        assert states == [503, 503, 200]
        assert (await made.ask("router", CHAT, json={}))[0] == 503 and (await made.ask("router", EMBED, json={}))[0] == 200
        made.engines["chat"].state = READY  # and it went down a moment ago
        made.engines["chat"].job.socket.unlink()
        assert (await made.ask("chat", CHAT, json={}))[0] == 503

    run(tmp_path, body)


def test_answers_stream_and_a_broken_one_is_seen(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        url, headers = f"http://127.0.0.1:{made.ports['router']}{CHAT}", {"Authorization": f"Bearer {KEY}"}
        async with made.client.post(url, headers=headers, json={"what": "stream"}) as answer:
            assert await answer.read() == b"data: 1\n\n" and "X-Secret" not in answer.headers
        async with made.client.post(url, headers=headers, json={"what": "break"}) as answer:
            with pytest.raises(aiohttp.ClientError):
                await answer.read()
        async with made.client.post(url, headers=headers, json={"what": "think"}) as answer:
            assert await answer.content.readany() == b"data: 1\n\n"  # while the engine goes on thinking
            assert made.engines["chat"].requests == 1
            answer.close()
        await made.hung_up.wait()
        assert made.engines["chat"].requests == 0

    run(tmp_path, body)


def test_a_packed_body_is_refused_and_an_engine_that_missed_a_check_is_asked(tmp_path: Path) -> None:
    async def body() -> None:
        async with world(tmp_path) as made:
            packed = gzip.compress(b" " * 100_000)
            status, said = await made.ask("chat", CHAT, data=packed, headers_more={"Content-Encoding": "gzip"})
            assert status == 400 and "Content-Encoding" in said["error"]["message"] and not made.asked
            made.engines["chat"].state = SILENT
            assert (await made.ask("chat", CHAT, json={"messages": []}))[0] == 200
            assert made.asked[-1][1].headers["Accept-Encoding"] == "identity"

    asyncio.run(body())
