"""A proxy that listens, before engines that are real servers on Unix sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from offline_kit.runtime.settings import load
from offline_kit.unified.configuration import Job
from offline_kit.unified.listeners import USUAL, Limits
from offline_kit.unified.proxy import Proxy
from offline_kit.unified.supervisor import READY, Running

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
    ports = dict(zip(("router", *keys), free_ports(1 + len(keys)), strict=True))
    models = {name: entry(name, kind, ports[name]) for name, kind in keys.items()}
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


def entry(name: str, kind: str, port: int) -> dict[str, Any]:
    numbers = {"port": port, "gpu_memory_utilization": 0.2, "max_model_len": 128, "tensor_parallel_size": 1}
    return {"name": f"tiny-{name}", "path": f"/models/{name}", "type": kind, "dtype": "auto", **numbers}


def free_ports(count: int) -> list[int]:
    """Different ones: each is held until all are known."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def run(folder: Path, body: Callable[[World], Awaitable[None]], key: str = KEY, limits: Limits = USUAL, **keys: str) -> None:
    async def inside() -> None:
        async with world(folder, key, limits, **keys) as made:
            await asyncio.wait_for(body(made), 60)

    asyncio.run(inside())
