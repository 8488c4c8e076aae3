"""Is an HTTP server up: the health check of every engine, run every few seconds.

Rules: one file that imports nothing of the package, so that ``python3 -I -S health.py`` starts in milliseconds; a bare socket
instead of an HTTP library for the same reason; a 2xx answer within the time is health, everything else is not.
"""

from __future__ import annotations

import socket
import sys
from typing import List

TIMEOUT = 4.0


def check(host: str, port: int, path: str) -> str:
    """What is wrong, or an empty string."""
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode("ascii"))
            answer = b""
            # A status line may come in pieces.
            while len(answer) < 12:
                piece = connection.recv(64)
                if not piece:
                    break
                answer += piece
    except OSError as error:
        return f"http://{host}:{port}{path}: {error}"
    status = answer[9:12].decode("latin-1")
    return (
        ""
        if answer.startswith(b"HTTP/1.") and status.startswith("2")
        else f"http://{host}:{port}{path}: status {status or 'none'}"
    )


def main(arguments: List[str]) -> int:
    """``[HOST [PORT [PATH]]]``; 0 is healthy."""
    host, port, path = [*arguments, *("127.0.0.1", "8000", "/health")[len(arguments) :]][:3]
    problem = check(host, int(port), path)
    if problem:
        print(problem, file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
