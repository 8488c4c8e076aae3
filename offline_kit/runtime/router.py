"""Which model does a request name? Asked by the gateway where several models answer on one path; it proxies nothing.

Rules: the gateway sends the request here first and gets back either ``X-Accel-Redirect: @engine-KEY``, upon which nginx sends
the same request to that engine and streams its answer, or a refusal in OpenAI's shape that names the models there are; a
request that names no model goes to the first of its type, and one that cannot be read goes there too, because the engine says
best what is wrong with it; a wrong guess does no harm: an engine refuses a name that is not its own. The body is scanned, not
parsed, and no byte of it costs a step of Python; large bodies wait for one another, small ones for none.
"""

from __future__ import annotations

import argparse
import json
import re
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, List, Optional, Tuple

from . import serve
from .settings import load
from .settings.model import ConfigError, Settings
from .settings.routes import PATHS, models_on_path

PORT = 8000
# A body from here on is read and scanned one at a time: what it costs then adds to no other's.
LARGE = 256 << 10
WAIT = 20.0  # seconds that a large body waits for its turn
_STEP = 256 << 10  # bytes between two moments at which other threads may run
_MOST = 4096  # keys called "model" that are looked at; no request has more
_NAME = b"".join(rb"(?:%c|\\u00(?i:%02x))" % (letter, letter) for letter in b"model")
_KEY = re.compile(rb'"' + _NAME + rb'"[ \t\r\n]*:[ \t\r\n]*')


def model_of(body: bytes) -> Optional[str]:
    """The value of ``model`` at the top of the JSON object ``body``; None where there is none or the body is no JSON object.

    Every byte is passed by functions written in C alone (replace, find, split, count): the time is linear in the length, at
    hundreds of megabytes a second, whatever the bytes are.
    """
    # Of the same length, so that positions stay: what is left of backslashes no longer hides a quote.
    plain = body.replace(b"\\\\", b"\0\0").replace(b'\\"', b"\0\0")
    found: Optional[str] = None
    depth, quoted, position = 0, False, 0
    for number, key in enumerate(_KEY.finditer(plain)):
        if number == _MOST:
            return None
        depth, quoted = _pass_over(plain, position, key.start(), depth, quoted)
        position = key.start()
        if depth != 1 or quoted:
            continue
        start = key.end() + 1
        end = plain.find(b'"', start)
        # The last one counts, as in every JSON reader that engines use; one that is no text names nothing.
        found = _string(body[start:end]) if plain[start - 1 : start] == b'"' and end >= 0 else None
    return found


def _pass_over(plain: bytes, start: int, end: int, depth: int, quoted: bool) -> Tuple[int, bool]:
    """How many brackets are open at ``end``, and whether a string is, given the same of ``start``."""
    for begin in range(start, end, _STEP):
        parts = plain[begin : min(begin + _STEP, end)].split(b'"')
        outside = b"".join(parts[1 if quoted else 0 :: 2])
        depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
        quoted ^= len(parts) % 2 == 0
    return depth, quoted


def _string(content: bytes) -> Optional[str]:
    # A name longer than any that a model may have need not be understood.
    if len(content) > 4096:
        return None
    try:
        text = json.loads(b'"' + content + b'"')
    except ValueError:
        return None
    return text if isinstance(text, str) else None


def decide(settings: Settings, path: str, body: bytes) -> Tuple[Optional[str], str]:
    """The service that answers, or None and why not."""
    choices = models_on_path(settings, path)
    if not choices:
        return None, "there is nothing at this path"
    name = model_of(body)
    for model in choices:
        if name in (None, model.name, *model.adapters):
            return model.service, ""
    names = ", ".join(f"'{name}'" for model in choices for name in (model.name, *model.adapters))
    elsewhere = [model for model in settings.models if name in (model.name, *model.adapters)]
    if elsewhere:
        right = PATHS[elsewhere[0].type][0]
        return None, f"the model '{name}' is asked at {right}; models at {path}: {names}"
    shown = json.dumps(str(name)[:100])
    return None, f"the model {shown} does not exist; models at {path}: {names}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    server: Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            # nginx has read the whole body and sends its length.
            self.close_connection = True
            self._answer(411, "the length of the request is required")
            return
        large = int(length) >= LARGE
        # Before the body is read, so that one at most is held in memory.
        if large and not self.server.turn.acquire(timeout=WAIT):
            self.close_connection = True
            self._answer(503, "too many large requests at once: ask again")
            return
        try:
            service, reason = decide(self.server.settings, self.path, self.rfile.read(int(length)))
        finally:
            if large:
                self.server.turn.release()
        if service is None:
            self._answer(404, reason)
            return
        self.send_response(200)
        self.send_header("X-Accel-Redirect", f"@{service}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        status, message = (200, "ok") if self.path == "/health" else (404, "there is nothing at this path")
        self._answer(status, message)

    def _answer(self, status: int, message: str) -> None:
        error: Any = {"message": message, "type": "not_found_error", "param": "model", "code": status}
        body = json.dumps({"error": error} if status != 200 else {"status": message}).encode("utf-8") + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The gateway logs every request."""


class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """A thread for each request, so that a large body keeps no other request waiting."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, address: Tuple[str, int], settings: Settings) -> None:
        self.settings = settings
        self.turn = threading.Semaphore()
        super().__init__(address, _Handler)


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.router", description="Tell the gateway which engine is meant.")
    parser.add_argument("--config", default=serve.CONFIG, metavar="DIR", help="folder of models.json (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        settings = load.load_settings((Path(options.config) / "models.json").read_text("utf-8"), "")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 3
    with Server(("", PORT), settings) as server:
        print(f"router on {PORT}", file=sys.stderr, flush=True)
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
