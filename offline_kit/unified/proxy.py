"""The ports of the unified image: one for all models, by path and the request's ``model``, and one for each model.

Rules: the same paths, methods, refusals and lists of models as the gateway of a kit, from the same tables; every path but
/health needs the key where there is one; a header reaches an engine only where named here, the key never; an answer streams as
it is made, and one that breaks off looks like it; a client that hangs up, or takes nothing, ends the engine's work; a question
is sent once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import aiohttp
from aiohttp import web

from offline_kit.runtime.render import gateway, nginx
from offline_kit.runtime.router import decide
from offline_kit.runtime.settings.model import Model, Settings
from offline_kit.runtime.settings.routes import PATHS, routes
from offline_kit.unified.listeners import USUAL, Limits, Listeners, shown, time_to_send
from offline_kit.unified.supervisor import READY, SILENT, Running, Say

LARGEST = 64 << 20
LARGE, LARGE_AT_ONCE = 1 << 20, 16
_RETRY = {429: "1", 503: "5"}
_TO_ENGINE = ("Content-Type", "Accept")
_TO_CLIENT = ("Content-Type",)
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=3600)


class Refused(Exception):
    """The answer to a request that reaches no engine, by the status that nginx would have."""

    def __init__(self, status: int, message: str | None = None) -> None:
        super().__init__(status)
        self.status, self.message = status, message

    def response(self) -> web.Response:
        """In the shape of OpenAI's errors."""
        status, kind, message = nginx.REFUSALS[self.status]
        headers = {"WWW-Authenticate": 'Bearer realm="offline-kit"'} if status == 401 else {}
        if status in _RETRY:
            headers["Retry-After"] = _RETRY[status]
        text = nginx.answer(status, kind, self.message or message) + "\n"
        return web.Response(status=status, text=text, content_type="application/json", headers=headers)


class Proxy:
    """The servers of all ports before ``engines``."""

    def __init__(self, settings: Settings, engines: Sequence[Running], say: Say, limits: Limits = USUAL) -> None:
        self._settings, self._engines, self._say, self._limits = settings, engines, say, limits
        self._lists = gateway.model_lists(settings)
        self._listeners = Listeners(limits, say)
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def start(self) -> None:
        """Listens on every port. Raises OSError."""
        for engine in self._engines:
            connector = aiohttp.UnixConnector(path=str(engine.job.socket), limit=0)
            self._sessions[engine.job.key] = aiohttp.ClientSession(
                connector=connector, timeout=_TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            )
        ports: dict[int, Model | None] = {self._settings.router_port: None}
        ports |= {model.port: model for model in self._settings.models}
        for port, model in ports.items():
            application = web.Application(client_max_size=LARGEST)
            application.router.add_route("*", "/{path:.*}", self._handler(model))
            await self._listeners.listen(application, self._settings.bind, port)
            self._say("router", f"port {port}: {model.name if model else 'all models'}")

    async def stop(self) -> None:
        """Listens no more, and ends what is left of requests a second later."""
        await self._listeners.close()
        for session in self._sessions.values():
            await session.close()

    def _handler(self, model: Model | None) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            began = time.monotonic()
            path = request.raw_path.partition("?")[0]
            try:
                response = await self._answer(request, path, model)
            except Refused as refused:
                response = refused.response()
            if not response.prepared:
                with time_to_send(request, self._limits.send):
                    await response.prepare(request)
                    await response.write_eof()
            if path != "/health":
                took = time.monotonic() - began
                self._say("router", f"{request.remote} {request.method} {shown(path)} {response.status} {took:.3f} s")
            return response

        return handle

    async def _answer(self, request: web.Request, path: str, model: Model | None) -> web.StreamResponse:
        if path == "/health":
            _check_method(request, "GET", "HEAD")
            return self._health(model)
        known = PATHS[model.type] if model else routes(self._settings)
        if path != "/v1/models" and path not in known:
            raise Refused(404)
        self._check_key(request)
        if path == "/v1/models":
            _check_method(request, "GET", "HEAD")
            return web.Response(text=self._lists[f"{model.key if model else 'all'}.json"], content_type="application/json")
        _check_method(request, "POST")
        async with self._body(request) as body:
            chosen = model.key if model else await self._chosen(path, body)
            engine = self._free_engine(chosen)
            engine.requests += 1
            try:
                return await self._forward(request, path, body, engine)
            finally:
                engine.requests -= 1

    def _health(self, model: Model | None) -> web.Response:
        """Of one model: whether an engine of it is ready; of all: whether every engine is."""
        mine = [engine for engine in self._engines if model is None or engine.job.model == model.key]
        ready = [engine for engine in mine if engine.state == READY]
        good = bool(ready) if model else len(ready) == len(mine)
        said = {"status": "ok" if good else "unavailable", "engines": {e.job.key: e.state for e in mine}}
        return web.Response(status=200 if good else 503, text=json.dumps(said) + "\n", content_type="application/json")

    def _check_key(self, request: web.Request) -> None:
        if not self._settings.api_key:
            return
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(key.encode("utf-8", "replace"), self._settings.api_key.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refused(401)

    @contextlib.asynccontextmanager
    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        """The whole body; few large ones are held at once, the others wait."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":  # its size would be anybody's guess
            raise Refused(400, "a body with Content-Encoding is not taken here")
        length = request.content_length
        if length is not None and length > LARGEST:
            raise Refused(413)
        async with contextlib.AsyncExitStack() as stack:
            if length is None or length > LARGE:
                await self._take_slot(stack)
            try:
                body = await asyncio.wait_for(request.read(), self._limits.body)
            except web.HTTPRequestEntityTooLarge as error:
                raise Refused(413) from error
            except asyncio.TimeoutError as error:
                raise Refused(408) from error
            except web.RequestPayloadError as error:
                raise Refused(400) from error
            if len(body) <= LARGE:  # a small one of unknown length
                await stack.aclose()
            yield body

    async def _take_slot(self, stack: contextlib.AsyncExitStack) -> None:
        """Room for one large body, given back by ``stack``."""
        try:
            await asyncio.wait_for(self._large.acquire(), self._limits.slot)
        except asyncio.TimeoutError as error:
            raise Refused(429) from error
        stack.callback(self._large.release)

    async def _chosen(self, path: str, body: bytes) -> str:
        service, reason = await asyncio.to_thread(decide, self._settings, path, body)
        if service is None:
            raise Refused(404, reason)
        return next(model.key for model in self._settings.models if model.service == service)

    def _free_engine(self, key: str) -> Running:
        mine = [engine for engine in self._engines if engine.job.model == key and engine.state in (READY, SILENT)]
        if not mine:
            raise Refused(503)
        # One that missed a health check may be busy with a long prompt, and still answer.
        return min(mine, key=lambda engine: (engine.state == SILENT, engine.requests))

    async def _forward(self, request: web.Request, path: str, body: bytes, engine: Running) -> web.StreamResponse:
        headers = _only(request.headers.items(), _TO_ENGINE)
        headers["X-Request-Id"] = name = uuid.uuid4().hex
        headers["Accept-Encoding"] = "identity"
        session = self._sessions[engine.job.key]
        try:
            async with session.post(
                f"http://engine{path}", data=io.BytesIO(body), headers=headers, allow_redirects=False
            ) as answer:
                response = web.StreamResponse(status=answer.status, headers=_only(answer.headers.items(), _TO_CLIENT))
                response.headers["X-Request-Id"] = name
                response.content_length = answer.content_length
                return await self._stream(request, answer, response)
        except aiohttp.ClientConnectorError as error:
            raise Refused(503) from error
        except asyncio.TimeoutError as error:
            raise Refused(504) from error
        except aiohttp.ClientError as error:
            raise Refused(502, "the engine went down while it answered") from error

    async def _stream(
        self, request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> web.StreamResponse:
        await response.prepare(request)
        try:
            async for piece in answer.content.iter_any():
                with time_to_send(request, self._limits.send):
                    await response.write(piece)
            await response.write_eof()
        except (aiohttp.ClientPayloadError, asyncio.TimeoutError, ConnectionError):
            # The status is out already: a connection that breaks off is what says that the answer is not whole.
            if request.transport:
                request.transport.abort()
        return response


def _check_method(request: web.Request, *methods: str) -> None:
    if request.method not in methods:
        raise Refused(405)


def _only(headers: Iterable[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    wanted = {name.lower(): name for name in names}
    return {wanted[name.lower()]: value for name, value in headers if name.lower() in wanted}
