"""A relay before a real server on the loopback, which counts what clients send, and breaks or falls silent at a byte.

Rules: it knows nothing of what passes; after `cut` bytes every connection ends, once; after `stall` bytes it reads no more
until it is stopped, so that whoever sends is in the middle of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Relay:
    """A relay to 127.0.0.1:`port`; a context manager. `sent`: bytes from clients so far."""

    def __init__(self, port: int, *, cut: int | None = None, stall: int | None = None) -> None:
        self.sent, self.stalled = 0, threading.Event()
        self._behind, self._cut, self._stall = port, cut, stall
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Relay:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._end_all()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._behind))
                self._open |= {client, server}
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                if counted:
                    self._count(len(data))
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._open.discard(end)

    def _count(self, amount: int) -> None:
        self.sent += amount
        if self._cut is not None and self.sent >= self._cut:
            self._cut = None
            self._end_all()
        if self._stall is not None and self.sent >= self._stall:
            self.stalled.set()
            self._stopped.wait()

    def _end_all(self) -> None:
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
