"""A front before a registry that misbehaves where it is pushed to: as a proxy that keeps each request until it is whole.

Rules: (1) a fault is for one request, the oldest that fits its method; (2) `cut` ends the connection after `at` bytes of the
body, and the registry sees nothing of it; `stream` passes so much of it on first; `lost` passes all on and ends the connection
in place of the answer; `status` answers that; `flip` changes a byte of the answer; `longer` sends it twice; `elsewhere` sends
uploads to another address, and `riddle` to none; `idle` takes a piece and keeps `at` bytes of it; `pause` reads a body a second
later; (3) `limit`: a larger body is answered 413, `least`: the registry wants pieces of so many bytes; (4) `received` counts
the bytes of bodies.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import threading
import time
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class UploadFault:
    """One fault; `part`: what its path holds; `skip`: requests of that kind that pass before it."""

    kind: str
    method: str = "PATCH"
    at: int = 0
    status: int = 503
    skip: int = 0
    part: str = ""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        front, length = self.server.front, int(self.headers.get("Content-Length") or 0)
        fault = front.take(self.command, self.path)
        kind = fault.kind if fault else ""
        if kind == "pause":
            time.sleep(1)
        body = self.rfile.read(min(fault.at, length) if fault and kind in ("cut", "stream") else length)
        front.count(len(body))
        if fault and kind in ("cut", "stream"):
            if kind == "stream":
                self._begin(length, body)
            return self._end()
        if front.limit and length > front.limit:
            return self._answer(413, {}, b"")
        if fault and kind == "status":
            return self._answer(fault.status, {}, b"")
        if kind == "idle":
            kept = int(self.headers["Content-Range"].partition("-")[0]) + (fault.at if fault else 0)
            return self._answer(202, {"Location": self.path, "Range": f"0-{max(0, kept - 1)}"}, b"")
        status, headers, answer = self._forward(body)
        if kind == "lost":
            return self._end()
        if kind == "flip" and answer:
            answer = answer[:-1] + bytes([answer[-1] ^ 1])
        if kind == "elsewhere":
            headers["Location"] = "http://127.0.0.1:9/elsewhere"
        if kind == "riddle":
            headers["Location"] = "http://[x"
        if kind == "longer":
            answer += answer
            headers["Content-Length"] = str(len(answer))
        if front.least and self.command == "POST":
            headers["OCI-Chunk-Min-Length"] = str(front.least)
        return self._answer(status, headers, answer)

    do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_GET

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.server.front.behind, timeout=30)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            dropped = ("transfer-encoding", "connection")
            return response.status, {k: v for k, v in response.headers.items() if k.lower() not in dropped}, response.read()
        finally:
            connection.close()

    def _begin(self, length: int, body: bytes) -> None:
        host, _, port = self.server.front.behind.partition(":")
        with socket.create_connection((host, int(port))) as upstream:
            head = [f"{self.command} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
            upstream.sendall("\r\n".join([*head, "", ""]).encode() + body)

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _end(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    front: UploadFront


class UploadFront:
    """The front of the registry at `behind` (HOST:PORT); a context manager."""

    def __init__(self, behind: str) -> None:
        self.behind, self.faults, self.limit, self.received, self.hit = behind, list[UploadFault](), 0, 0, 0
        self.least = 0
        self._lock, self._seen = threading.Lock(), dict[int, int]()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.front = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def count(self, amount: int) -> None:
        with self._lock:
            self.received += amount

    def take(self, method: str, path: str) -> UploadFault | None:
        """The fault for this request; it is used up."""
        with self._lock:
            for index, fault in enumerate(self.faults):
                if fault.method == method and fault.part in path:
                    passed = self._seen[id(fault)] = self._seen.get(id(fault), 0) + 1
                    if passed <= fault.skip:
                        return None
                    self.hit += 1
                    return self.faults.pop(index)
        return None

    def __enter__(self) -> UploadFront:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
