"""An engine on the wire, started as the supervisor starts one: HTTP on a Unix socket, well-behaved or as its arguments say."""

from __future__ import annotations

import os
import signal
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler


class _Handler(BaseHTTPRequestHandler):
    answers = 0

    def do_GET(self) -> None:
        type(self).answers += 1
        healthy = "forgets" not in sys.argv or self.answers == 1
        self.send_response(200 if healthy else 500)
        self.end_headers()

    def address_string(self) -> str:
        return "socket"


def main() -> None:
    """``stand_in.py SOCKET [fails|forgets|stubborn|children]``."""
    print(f"engine of {os.getpid()}", flush=True)
    if "fails" in sys.argv:
        sys.exit(7)
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "children" in sys.argv:
        print(f"child {subprocess.Popen(['sleep', '600']).pid}", flush=True)
    with socketserver.UnixStreamServer(sys.argv[1], _Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
