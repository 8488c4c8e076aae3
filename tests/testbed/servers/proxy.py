"""An HTTP proxy on the loopback: forwards plain requests, tunnels CONNECT, and writes down what it was asked.

Rules: (1) it knows no cache and changes nothing; (2) with `user` it wants a login (407); (3) one connection, one request.
"""

from __future__ import annotations

import base64
import contextlib
import http.server
import select
import socket
import threading
import urllib.parse
from types import TracebackType

_HOP_BY_HOP = ("Connection", "Proxy-Connection", "Proxy-Authorization")


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        target = urllib.parse.urlsplit(self.path)
        if not self._allowed() or not target.hostname:
            return
        host, port = target.hostname, target.port or 80
        path = urllib.parse.urlunsplit(("", "", target.path, target.query, ""))
        with socket.create_connection((host, port)) as upstream:
            kept = [f"{name}: {value}" for name, value in self.headers.items() if name not in _HOP_BY_HOP]
            upstream.sendall("\r\n".join([f"GET {path} HTTP/1.1", *kept, "Connection: close", "", ""]).encode())
            while data := upstream.recv(1 << 16):
                self.wfile.write(data)
        self.close_connection = True

    def do_CONNECT(self) -> None:
        if not self._allowed():
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            while True:
                ready, _, _ = select.select([self.connection, upstream], [], [], 10)
                if not ready or not all(self._pass_on(side, upstream) for side in ready):
                    break
        self.close_connection = True

    def _pass_on(self, side: socket.socket, upstream: socket.socket) -> bool:
        data = side.recv(1 << 16)
        (upstream if side is self.connection else self.connection).sendall(data)
        return bool(data)

    def _allowed(self) -> bool:
        self.server.asked.append(f"{self.command} {self.path}")
        login = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
        if self.server.user and base64.b64decode(login) != ":".join(self.server.user).encode():
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `asked` has it."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    asked: list[str]
    user: tuple[str, str] | None


class Proxy:
    """The proxy; a context manager that starts it and stops it. `user`: the login that it wants."""

    def __init__(self, user: tuple[str, str] | None = None) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.asked, self._server.user = [], user
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def asked(self) -> list[str]:
        """Method and target of every request."""
        return self._server.asked

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
