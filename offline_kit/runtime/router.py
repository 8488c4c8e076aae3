"""Which model does a request name? Asked by the gateway where several models answer on one path; it proxies nothing.

Rules: the gateway sends the request here first and gets back either ``X-Accel-Redirect: @engine-KEY``, upon which nginx sends
the same request to that engine and streams its answer, or a refusal in OpenAI's shape that names the models there are; a
request that names no model goes to the first of its type, and one that cannot be read goes there too, because the engine says
best what is wrong with it; a wrong guess does no harm: an engine refuses a name that is not its own. The body is scanned, not
parsed: a megabyte of picture in it costs no more than finding its closing quote.
"""

from __future__ import annotations

import argparse
import json
import re
import socketserver
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, List, Optional, Tuple

from . import config, serve
from .paths import PATHS, rivals
from .records import ConfigError, Settings

PORT = 8000
_STRUCTURE = re.compile(rb'["{}\[\]]')
_COLON = re.compile(rb"\s*:\s*")


def model_of(body: bytes) -> Optional[str]:
    """The value of ``model`` at the top of the JSON object ``body``; None where there is none or the body is no JSON object."""
    found: Optional[str] = None
    depth = position = 0
    while True:
        match = _STRUCTURE.search(body, position)
        if match is None:
            return found
        position = match.end()
        mark = match.group()
        if mark != b'"':
            depth += 1 if mark in b"{[" else -1
            continue
        start = position
        position = _end_of_string(body, start)
        if not position:
            return None
        colon = _COLON.match(body, position)
        if depth == 1 and colon and _string(body[start : position - 1]) == "model":
            position = colon.end()
            if body[position : position + 1] == b'"':
                end = _end_of_string(body, position + 1)
                if not end:
                    return None
                # The last one counts, as in every JSON reader that engines use.
                found, position = _string(body[position + 1 : end - 1]), end
            else:
                found = None


def _end_of_string(body: bytes, start: int) -> int:
    """The position after the quote that ends the string whose content begins at ``start``; 0 where there is none."""
    position = start
    while True:
        quote = body.find(b'"', position)
        if quote < 0:
            return 0
        before = quote
        while before > start and body[before - 1 : before] == b"\\":
            before -= 1
        if (quote - before) % 2 == 0:
            return quote + 1
        position = quote + 1


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
    choices = rivals(settings, path)
    if not choices:
        return None, "there is nothing at this path"
    name = model_of(body)
    for model in choices:
        if name in (None, model.name):
            return model.service, ""
    names = ", ".join(f"'{model.name}'" for model in choices)
    elsewhere = [model for model in settings.models if model.name == name]
    if elsewhere:
        right = PATHS[elsewhere[0].type][0]
        return None, f"the model '{name}' is asked at {right}; models at {path}: {names}"
    shown = json.dumps(str(name)[:100])
    return None, f"the model {shown} does not exist; models at {path}: {names}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    server: Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdigit():
            # nginx has read the whole body and sends its length.
            self.close_connection = True
            self._answer(411, "the length of the request is required")
            return
        service, reason = decide(self.server.settings, self.path, self.rfile.read(int(length)))
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
        super().__init__(address, _Handler)


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(prog="python3 -m runtime.router", description="Tell the gateway which engine is meant.")
    parser.add_argument("--config", default=serve.CONFIG, metavar="DIR", help="folder of models.json (%(default)s)")
    options = parser.parse_args(arguments)
    try:
        settings = config.load((Path(options.config) / "models.json").read_text("utf-8"), "")
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
