"""Which line of Python asks for a network: an audit hook that notes it, with the step that was under way.

Rules: nothing is forbidden and nothing judged here (the packets are what counts: capture.py sees those of every program); this
adds the place in the code, which no packet has. Not seen: child processes, and libraries that open sockets without Python.
"""

from __future__ import annotations

import os
import socket
import sys
import sysconfig
from typing import Any, Dict, List

MODEL_CODE = ("/models/", "/transformers_modules/")
_KEPT = 50  # attempts, so that one that is made again and again fills nothing
_LIBRARY = sysconfig.get_paths()["stdlib"]


class Attempts:
    """What this process asked for, from ``watch`` on; ``step``: what it is doing."""

    def __init__(self) -> None:
        self.step = "start"
        self.found: List[Dict[str, Any]] = []

    def watch(self) -> None:
        """From now on, for the whole life of the process: hooks cannot be taken out."""
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: Any) -> None:
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            target = _text(arguments[0])
        elif event == "socket.connect" and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            target = f"{_text(arguments[1][0])}:{arguments[1][1]}"
        else:
            return
        if len(self.found) < _KEPT:
            self.found.append({"pid": os.getpid(), "target": target, "step": self.step, "place": _place()})


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _place() -> str:
    """FILE:LINE of the model's own code, where that is on the stack; else the innermost that is not Python's own library."""
    frame, other = sys._getframe(2), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in MODEL_CODE):
            return f"{name}:{frame.f_lineno}"
        if not other and not name.startswith("<") and not (name.startswith(_LIBRARY) and "-packages/" not in name):
            other = f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return other
