"""The ports of the unified image, before engines that are real servers on Unix sockets."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from aiohttp import web

from offline_kit.runtime.settings import load
from offline_kit.unified.__main__ import check
from offline_kit.unified.configuration import Job, Plan
from offline_kit.unified.listeners import USUAL, Limits
from offline_kit.unified.proxy import LARGE_AT_ONCE, Proxy
from offline_kit.unified.supervisor import READY, SILENT, STARTING, Running

KEY = "a-key-of-32-characters-for-tests"
CHAT, EMBED = "/v1/chat/completions", "/v1/embeddings"


@dataclass
class World:
    """A proxy that listens, its engines, and what these were asked."""

    ports: dict[str, int]
    engines: dict[str, Running]
    client: aiohttp.ClientSession
    asked: list[tuple[str, web.Request, bytes]] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def ask(self, port: str, path: str, *, method: str = "POST", key: str = KEY, **more: Any) -> tuple[int, Any]:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers_more", {})}
        url = f"http://127.0.0.1:{self.ports[port]}{path}"
        async with self.client.request(method, url, headers=headers, **more) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def world(folder: Path, key: str = KEY, limits: Limits = USUAL, **keys: str) -> AsyncIterator[World]:
    """``keys``: the models, key -> type; without any: chat and embedding."""
    keys = keys or {"chat": "chat", "embedding": "embedding"}
    ports = {name: _free_port() for name in ("router", *keys)}
    models = {name: _entry(name, kind, ports[name]) for name, kind in keys.items()}
    dotenv = f"VLLM_ROUTER_PORT={ports['router']}\nOFFLINE_KIT_BIND=127.0.0.1\nVLLM_API_KEY={key}\n"
    settings = load.load_settings(json.dumps({"models": models}), "", dotenv)
    engines = {name: Running(Job(name, name, (), {}, folder / f"{name}.sock", ()), READY) for name in keys}
    runners = []
    async with aiohttp.ClientSession() as client:
        made = World(ports, engines, client)
        for name, engine in engines.items():
            application = web.Application(client_max_size=1 << 30)
            application.router.add_post("/{path:.*}", _engine(name, made))
            runners.append(web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1))
            await runners[-1].setup()
            await web.UnixSite(runners[-1], str(engine.job.socket)).start()
        proxy = Proxy(settings, list(engines.values()), lambda who, line: made.log.append(f"{who} {line}"), limits)
        await proxy.start()
        try:
            yield made
        finally:
            await proxy.stop()
            for runner in runners:
                await runner.cleanup()


def _engine(name: str, made: World) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        made.asked.append((name, request, body))
        what = json.loads(body).get("what") if len(body) < 10_000 else None
        if what is None:
            return web.json_response({"served": name, "path": request.path})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Secret": "inside"})
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        if what == "break" and request.transport:
            request.transport.abort()
        if what == "long":
            for _ in range(300):
                await response.write(b"x" * (1 << 20))
        if what == "think":
            try:
                await asyncio.sleep(60)
            finally:
                made.hung_up.set()
        return response

    return handle


def _entry(name: str, kind: str, port: int) -> dict[str, Any]:
    numbers = {"port": port, "gpu_memory_utilization": 0.2, "max_model_len": 128, "tensor_parallel_size": 1}
    return {"name": f"tiny-{name}", "path": f"/models/{name}", "type": kind, "dtype": "auto", **numbers}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
        return number


def run(folder: Path, body: Callable[[World], Awaitable[None]], key: str = KEY, limits: Limits = USUAL, **keys: str) -> None:
    async def inside() -> None:
        async with world(folder, key, limits, **keys) as made:
            await asyncio.wait_for(body(made), 60)

    asyncio.run(inside())


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


@pytest.mark.parametrize(
    "garbage, told",
    [
        (b"\x16\x03\x01\x02\x00\x01\n\n", 0),
        (b"GET / HTTP/9.9\r\n\r\n", 1),
        (b"GET / HTTP/1.1\r\nA\x00: b\r\n\r\n", 1),
    ],
)
def test_what_is_no_http_is_refused_in_one_line_of_the_log(tmp_path: Path, garbage: bytes, told: int) -> None:
    async def body(made: World) -> None:
        before = len(made.log)
        async with _connection(made, "router") as (reader, writer):
            writer.write(garbage)
            assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        said = made.log[before:]
        assert ["not HTTP: " in line and "\n" not in line for line in said] == [True] * told, said

    run(tmp_path, body)


def test_a_fault_of_ours_is_in_the_log_line_by_line(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        made.engines["chat"].requests = None  # type: ignore[assignment]
        url = f"http://127.0.0.1:{made.ports['chat']}{CHAT}"
        async with made.client.post(url, headers={"Authorization": f"Bearer {KEY}"}, json={}) as answer:
            assert answer.status == 500
        assert any(line.startswith("router TypeError") for line in made.log), made.log
        assert all("\n" not in line for line in made.log)

    run(tmp_path, body)


@pytest.mark.parametrize("begun", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"])
def test_a_connection_on_which_no_request_comes_is_closed(tmp_path: Path, begun: bytes) -> None:
    async def body(made: World) -> None:
        async with _connection(made, "router") as (reader, writer):
            writer.write(begun)
            await asyncio.wait_for(reader.read(), 5)

    run(tmp_path, body, limits=Limits(keepalive=0.2))


def test_a_connection_too_many_is_turned_away_and_told_of_once(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        async with _connection(made, "router"), _connection(made, "chat"):
            for _ in range(2):
                async with _connection(made, "embedding") as (reader, _):
                    assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            told = [line for line in made.log if "turned away" in line]
            assert told == ["router 2 connections are open: more are turned away"]
        assert (await made.ask("chat", CHAT, json={}))[0] == 200

    run(tmp_path, body, limits=Limits(connections=2))


def test_a_client_that_takes_nothing_loses_its_answer(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        question = json.dumps({"what": "long"}).encode()
        async with _connection(made, "chat") as (reader, writer):
            writer.write(_head(len(question)) + question)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            while made.engines["chat"].requests:  # nothing more is read
                await asyncio.sleep(0.01)
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(300 << 20)

    run(tmp_path, body, limits=Limits(send=0.3))


def test_large_bodies_wait_for_each_other_and_not_for_ever(tmp_path: Path) -> None:
    async def body(made: World) -> None:
        async with AsyncExitStack() as stack:
            for _ in range(LARGE_AT_ONCE):
                _, writer = await stack.enter_async_context(_connection(made, "chat"))
                writer.write(_head(2_000_000))
            await asyncio.sleep(0.1)
            status, said = await made.ask("chat", CHAT, data=io.BytesIO(b"x" * 2_000_000))
            assert status == 429 and "large" in said["error"]["message"]
            assert (await made.ask("chat", CHAT, json={}))[0] == 200, "a small one waits for nobody"
        assert (await made.ask("chat", CHAT, data=io.BytesIO(b"x" * 2_000_000)))[0] == 200

    run(tmp_path, body, limits=Limits(slot=0.2))


@asynccontextmanager
async def _connection(made: World, port: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection of a client that says what it likes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", made.ports[port], limit=1 << 10)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def _head(length: int) -> bytes:
    """The head of a question with a body of so many bytes."""
    lines = (f"POST {CHAT} HTTP/1.1", "Host: x", f"Authorization: Bearer {KEY}", f"Content-Length: {length}")
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_check_opens_every_port_and_starts_no_engine(tmp_path: Path) -> None:
    router, chat = _free_port(), _free_port()
    text = json.dumps({"models": {"chat": _entry("chat", "chat", chat)}})
    settings = load.load_settings(text, "", f"VLLM_ROUTER_PORT={router}\nOFFLINE_KIT_BIND=127.0.0.1\n", need_key=False)
    plan = Plan(settings, ((Job("chat", "chat", ("false",), {}, tmp_path / "chat.sock", ()),),))
    assert asyncio.run(check(plan)) == 0
    with socket.socket() as one:
        one.bind(("127.0.0.1", chat))
        one.listen()
        assert asyncio.run(check(plan)) == 1
