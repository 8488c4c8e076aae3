"""Small servers on the loopback that answer as a test says; a hub and a registry, honest until a test bends their answers."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from offline_kit.common.digest import Digest
from tests.support import intake_samples as samples

COMMIT = "0" * 39 + "1"
WEIGHTS = samples.safetensors({"w": b"0123456789"})
FILES = {"config.json": b'{"model_type": "llama"}', "model.safetensors": WEIGHTS, "LICENSE": b"free"}
TREE = "/api/models/o/m/tree/"
INFO = "/api/models/o/m/revision/"


class Request(BaseHTTPRequestHandler):
    """What a test's function gets: ``reply`` is the usual way to answer it."""

    protocol_version = "HTTP/1.1"

    def reply(self, body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A whole answer. A header that is given as empty is left out."""
        self.begin(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def begin(self, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """The answer up to its body."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


class Quiet(ThreadingHTTPServer):
    """Says nothing of clients that hang up."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(answer: Callable[[Request], object], host: str = "127.0.0.1") -> Iterator[str]:
    """The URL of a server that calls ``answer`` for each request."""

    class Handler(Request):
        def do_GET(self) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                answer(self)

        do_POST = do_GET

    with Quiet((host, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://{host}:{server.server_port}"
        finally:  # a closed socket that is still served keeps a processor busy
            server.shutdown()


def blob_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def entry(path: str, data: bytes) -> dict[str, Any]:
    told: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": blob_id(data)}
    if path.endswith(".safetensors"):
        told["lfs"] = {"oid": Digest.of(data).hex, "size": len(data), "pointerSize": 134}
    return told


class Hub:
    """An honest hub of one model; what a test sets is answered instead. ``seen``: path and login of each request."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None]] = []
        self.instead: dict[str, Callable[[Request], object]] = {}
        self.info: dict[str, Any] = {"id": "o/m", "sha": COMMIT, "siblings": []}
        self.tree: Any = [entry(path, data) for path, data in FILES.items()]
        self.headers: Callable[[str, bytes], Mapping[str, str]] = lambda path, data: {}

    def __call__(self, request: Request) -> None:
        self.seen.append((request.path, request.headers.get("Authorization")))
        path = request.path.partition("?")[0]
        for start, answer in self.instead.items():
            if path.startswith(start):
                answer(request)
                return
        if path.startswith(TREE):
            request.reply(json.dumps(self.tree).encode())
        elif path.startswith(INFO):
            request.reply(json.dumps(self.info).encode())
        elif path.startswith("/o/m/resolve/"):
            name = path.split("/", 5)[5]
            request.reply(FILES[name], headers=self.headers(name, FILES[name]))
        else:
            request.reply(b"{}", 404)


class Registry:
    """A registry of one image, whose manifest a test bends."""

    def __init__(self, change: Callable[[dict[str, Any]], Any] | None = None) -> None:
        self.image = samples.image("gzip")
        content = json.loads(self.image.manifest)
        bent = (change or (lambda content: None))(content)
        self.manifest = bent if isinstance(bent, bytes) else json.dumps(content if bent is None else bent).encode()
        self.asked: list[str] = []

    def __call__(self, request: Request) -> None:
        self.asked.append(request.path)
        last = request.path.rpartition("/")[2]
        if "/manifests/" in request.path:
            request.reply(self.manifest, headers={"Content-Type": self.image.media_type})
        elif last in self.image.blobs:
            request.reply(self.image.blobs[last])
        else:
            request.reply(b"{}", 200 if request.path == "/v2/" else 404)
