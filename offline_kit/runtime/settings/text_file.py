"""The small text files of a kit, read without believing that they are small, text or files at all.

Rules: a pipe is not waited for and a device not read to its end; what a person can mend is a ConfigError that says how.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from .model import ConfigError, Mistake

AT_MOST = 8 << 20  # bytes


def read_text(kit: Path, name: str) -> str:
    """The text of the file ``name`` in the folder ``kit``. Raises ConfigError, and OSError where it cannot be opened."""
    # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
    with os.fdopen(os.open(kit / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError([Mistake(name, "", "is not a file", "put the file back, or unpack the bundle again")])
        try:
            content = file.read(AT_MOST + 1)
        except OSError as error:
            error.filename = name
            raise
    if len(content) > AT_MOST:
        raise ConfigError([Mistake(name, "", f"has more than {AT_MOST} bytes", "put the file back as it was")])
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError([Mistake(f"{name}, line {line}", "", "is not UTF-8 text", "save it as UTF-8")]) from error
