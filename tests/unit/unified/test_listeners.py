"""The ports of the unified image before many, slow, silent and garbled connections; and what a check of the image does."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from offline_kit.runtime.settings import load
from offline_kit.unified.__main__ import check
from offline_kit.unified.configuration import Job, Plan
from offline_kit.unified.listeners import Limits
from offline_kit.unified.proxy import LARGE_AT_ONCE
from tests.unit.unified.proxy_world import CHAT, KEY, World, entry, free_ports, run


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
    router, chat = free_ports(2)
    text = json.dumps({"models": {"chat": entry("chat", "chat", chat)}})
    settings = load.load_settings(text, "", f"VLLM_ROUTER_PORT={router}\nOFFLINE_KIT_BIND=127.0.0.1\n", need_key=False)
    plan = Plan(settings, ((Job("chat", "chat", ("false",), {}, tmp_path / "chat.sock", ()),),))
    assert asyncio.run(check(plan)) == 0
    with socket.socket() as one:
        one.bind(("127.0.0.1", chat))
        one.listen()
        assert asyncio.run(check(plan)) == 1
