"""The listening ports of the unified image: how many connections they hold, for how long, and what the log says of bad ones.

Rules: a connection more than ``Limits.connections``, on all ports together, is answered 503 and closed, so that files stay for
engines and the log; one on which no request comes is closed; what a client sends that is no HTTP is one line of the log, a
fault of ours is its traceback, a line each.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http import HttpProcessingError

from offline_kit.runtime.render import nginx

Say = Callable[[str, str], None]  # who, line
_FULL_AGAIN = 60.0  # seconds between two lines of the log that say so
_KEPT = 64  # files for everything but connections


@dataclass(frozen=True)
class Limits:
    """Seconds, but for ``connections``. ``keepalive``: from one request to the next, the head of that included; ``slot``: that
    a large body waits for others; ``body``: until a body is there; ``send``: until a client took a piece of an answer."""

    connections: int = 4096
    keepalive: float = 15.0
    slot: float = 30.0
    body: float = 60.0
    send: float = 300.0


USUAL = Limits()


class Listeners:
    """Ports that are listened on. ``close`` ends them."""

    def __init__(self, limits: Limits, say: Say) -> None:
        self._limits, self._say = limits, say
        self._runners: list[web.AppRunner] = []
        self._servers: list[asyncio.Server] = []
        self._told = -_FULL_AGAIN
        # Each client is a file, and so is what is asked of its engine.
        self._most = min(limits.connections, max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _KEPT) // 2))
        self._logger = logging.Logger("router", logging.WARNING)
        self._logger.addHandler(LineHandler(say))

    async def listen(self, application: web.Application, address: str, port: int) -> None:
        """Serves ``application`` there. Raises OSError."""
        runner = web.AppRunner(
            application,
            access_log=None,
            logger=self._logger,
            handler_cancellation=True,
            keepalive_timeout=self._limits.keepalive,
            shutdown_timeout=1.0,
        )
        await runner.setup()
        self._runners.append(runner)
        made = await asyncio.get_running_loop().create_server(lambda: self._protocol(runner), address, port, backlog=1024)
        self._servers.append(made)

    async def close(self) -> None:
        """Listens no more, and ends what is left of requests a second later."""
        for server in self._servers:
            server.close()
        await asyncio.gather(*(runner.cleanup() for runner in self._runners))

    def _protocol(self, runner: web.AppRunner) -> asyncio.Protocol:
        servers = [each.server for each in self._runners if each.server]
        if sum(len(server.connections) for server in servers) < self._most:
            assert runner.server
            return runner.server()
        if time.monotonic() - self._told >= _FULL_AGAIN:
            self._told = time.monotonic()
            self._say("router", f"{self._most} connections are open: more are turned away")
        return _TurnedAway()


class _TurnedAway(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        body = nginx.answer(503, "service_unavailable", "too many connections are open") + "\n"
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        transport.write(f"{head}Retry-After: 5\r\nConnection: close\r\n\r\n{body}".encode())
        transport.close()


class LineHandler(logging.Handler):
    """Records of libraries as lines of the one log."""

    def __init__(self, say: Say) -> None:
        super().__init__(logging.WARNING)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        """One line for what a client did, message and traceback for anything else."""
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            self._say("router", f"{record.getMessage()}: not HTTP: {shown(error.message.partition(chr(10))[0])}")
            return
        lines = traceback.format_exception(error) if error else []
        for line in [record.getMessage(), *"".join(lines).splitlines()]:
            self._say("router", line)


@contextlib.contextmanager
def time_to_send(request: web.Request, seconds: float) -> Iterator[None]:
    """A client that has not taken what is sent within ``seconds`` loses its connection."""
    if request.transport is None:
        yield
        return
    timer = asyncio.get_running_loop().call_later(seconds, request.transport.abort)
    try:
        yield
    finally:
        timer.cancel()


def shown(text: str) -> str:
    """Text of a client as one line of a log may have it."""
    return ascii(text[:200])[1:-1]
