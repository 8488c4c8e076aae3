"""Waits until the capture of this container's network runs, then becomes the command that it was given.

Rules: standard library alone, run as ``python3 -I -S gate.py PROGRAM ARGUMENT...``, so that no start-up code of the image runs
before the capture does; the sign is the route that capture.py makes last.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import NoReturn

_PATIENCE = 120.0  # seconds


def captured() -> bool:
    """Whether the default route of this network namespace is the capture's."""
    with Path("/proc/net/route").open(encoding="ascii") as table:
        return any(row.split()[:2] == ["lo", "00000000"] for row in table)


def main() -> NoReturn:
    deadline = time.monotonic() + _PATIENCE
    while not captured():
        if time.monotonic() > deadline:
            sys.exit("the capture of this container's network did not start")
        time.sleep(0.02)
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
