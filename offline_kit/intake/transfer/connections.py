"""Connections that end when an answer does not begin in time.

Rules: a socket's own time limit begins anew with every byte, so a server that drips its headers, and a proxy that drips its
consent or the TLS within its own, would be waited for without end: here the whole of each has one limit, a little above that
of a silent server, so that silence is still told as silence.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import requests
import requests.adapters

_GRACE = 5.0  # seconds


class SlowAnswer(OSError):
    """What comes before the body of an answer took too long."""


class _Timed:
    """Mixed into a connection of urllib3."""

    sock: Any
    timeout: Any

    def connect(self) -> None:
        with contextlib.ExitStack() as self._reaching:
            super().connect()  # type: ignore[misc]  # of the connection that this is mixed into

    def _new_conn(self) -> socket.socket:
        made: socket.socket = super()._new_conn()  # type: ignore[misc]
        # TLS takes ``made`` over, and gives it back when its handshake is done: until then only a twin can be ended.
        twin = self._reaching.enter_context(socket.socket(fileno=os.dup(made.fileno())))
        self._reaching.enter_context(self._limited("the proxy and the TLS handshake", twin, 2))
        return made

    def _tunnel(self) -> None:
        with self._limited("the answer of the proxy", self.sock):
            super()._tunnel()  # type: ignore[misc]

    def getresponse(self) -> Any:
        with self._limited("the headers of the answer", self.sock):
            return super().getresponse()  # type: ignore[misc]

    @contextlib.contextmanager
    def _limited(self, what: str, sock: Any, steps: int = 1) -> Iterator[None]:
        """Ends ``sock`` and raises SlowAnswer when the block takes longer than ``steps`` silent answers may."""
        limit = steps * ((self.timeout if isinstance(self.timeout, (int, float)) else 60.0) + _GRACE)
        expired = threading.Event()
        timer = threading.Timer(limit, _end, (sock, expired))
        timer.daemon = True
        timer.start()
        slow = SlowAnswer(f"{what} took more than {limit:.0f} seconds")
        try:
            yield
        except Exception as error:
            if expired.is_set():
                raise slow from error
            raise
        finally:
            timer.cancel()
        if expired.is_set():
            raise slow  # a proxy whose answer just ends is taken for one that consents


def _end(sock: Any, expired: threading.Event) -> None:
    expired.set()
    plain = getattr(sock, "socket", sock)  # TLS within the TLS of a proxy is no socket itself
    with contextlib.suppress(OSError, ValueError):  # it may be closing at this moment
        socket.socket.shutdown(plain, socket.SHUT_RDWR)  # of a TLS socket too: nobody waits for its last words


class TimedAdapter(requests.adapters.HTTPAdapter):
    """What ``requests`` sends through."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        _use(self.poolmanager)

    def proxy_manager_for(self, proxy: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **options)
        _use(manager)
        return manager


class Session(requests.Session):
    """One that reads no environment and follows nothing by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False  # ~/.netrc would go to whoever we are sent on to; what else the environment says: origins
        self.mount("https://", TimedAdapter())
        self.mount("http://", TimedAdapter())

    def resolve_redirects(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """Nothing: ``requests`` reads the body of a redirect to its end, however long, also where it follows none."""
        return iter(())


def _use(manager: Any) -> None:
    manager.pool_classes_by_scheme = {scheme: _timed(pool) for scheme, pool in manager.pool_classes_by_scheme.items()}


@functools.lru_cache(maxsize=16)
def _timed(pool: Any) -> Any:
    """The class of pools ``pool``, also one of a SOCKS proxy, with connections that have our limits."""
    if issubclass(pool.ConnectionCls, _Timed):
        return pool
    timed = type(f"Timed{pool.ConnectionCls.__name__}", (_Timed, pool.ConnectionCls), {})
    return type(f"Timed{pool.__name__}", (pool,), {"ConnectionCls": timed})


def shut_down(response: requests.Response) -> None:
    """Ends a response that another thread may be waiting for."""
    # Its own thread may be closing the socket at this moment: then there is nothing left to end.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        response.raw.shutdown()
