"""Stand-ins at the wire for the gateway's tests: HTTP engines and the name server that Docker would be.

Rules: every server listens on an address below 127/8 of its own, on a port that the system chose or that the test shares among
addresses; what an engine was asked is kept, so that a test can tell what reached it.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Asked(NamedTuple):
    """One request as it reached an engine."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Engine(ThreadingHTTPServer):
    """Answers like the vLLM endpoints do; ``asked`` has all requests."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: str, port: int, name: str) -> None:
        self.name, self.asked = name, list[Asked]()
        self.words = list[str]()  # what a stream says, as chunks of a chat; empty: four numbers
        self.left = 0  # streams whose client went away
        super().__init__((address, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def log_message(self, format: str, *args: object) -> None:
        """Tests read ``asked`` instead."""

    def do_GET(self) -> None:
        self._note(b"")
        self._answer(200, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._note(body)
        question: dict[str, Any] = json.loads(body or b"{}")
        if question.get("stream"):
            self._stream()
        elif question.get("die"):
            # As an engine that a question kills: nothing is answered, and nothing listens from here on.
            self.close_connection = True
            self.server.shutdown()
            self.server.socket.close()
        elif question.get("model") == "unknown":
            self._answer(404, json.dumps({"error": {"message": "The model `unknown` does not exist.", "code": 404}}).encode())
        else:
            self._answer(200, json.dumps(self._reply(question)).encode())

    def _reply(self, question: dict[str, Any]) -> dict[str, Any]:
        if "documents" in question:
            return {
                "results": [
                    {"index": index, "relevance_score": 0.9 - index / 10} for index in range(len(question["documents"]))
                ]
            }
        if "input" in question:
            count = len(question["input"]) if isinstance(question["input"], list) else 1
            return {"object": "list", "data": [{"index": at, "embedding": [0.6, 0.8 - at * 0.9]} for at in range(count)]}
        time.sleep(float(question.get("seconds", 0)))
        if "length" in question:
            return {"text": "x" * int(question["length"])}
        return {"engine": self.server.name, "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello."}}]}

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            chunks = [json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}) for word in self.server.words]
            for number in [*chunks, "[DONE]"] if chunks else range(4):
                piece = f"data: {number}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                time.sleep(0.3)
            self.wfile.write(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.server.left += 1
            self.close_connection = True

    def _note(self, body: bytes) -> None:
        self.server.asked.append(Asked(self.command, self.path, dict(self.headers.items()), body))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.server.left += 1
            self.close_connection = True


@contextmanager
def engine(address: str, port: int, name: str) -> Iterator[Engine]:
    """A running engine; its port is closed at the end."""
    server = Engine(address, port, name)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Names:
    """A name server: ``table`` maps names to IPv4 addresses, and what is not in there does not exist.

    Of names in ``silent`` it never answers, as Docker's does of a container that was stopped.
    """

    def __init__(self, table: dict[str, str]) -> None:
        self.table, self.silent = table, set[str]()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "{}:{}".format(*self._socket.getsockname())
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            question, client = self._socket.recvfrom(512)
            if not question:
                return
            if self._name(question) not in self.silent:
                self._socket.sendto(self._answer(question), client)

    def _name(self, question: bytes) -> str:
        labels, position = [], 12
        while question[position]:
            length = question[position]
            labels.append(question[position + 1 : position + 1 + length].decode())
            position += length + 1
        return ".".join(labels)

    def _answer(self, question: bytes) -> bytes:
        name = self._name(question)
        asked = question[12 : 12 + len(name) + 2 + 4]
        address = self.table.get(name)
        flags, count = (0x8180, 1) if address else (0x8183, 0)
        answer = question[:2] + struct.pack(">HHHHH", flags, 1, count, 0, 0) + asked
        if address:
            answer += b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4) + socket.inet_aton(address)
        return answer
