"""Names of files are UTF-8 bytes, whatever the locale of the machine; what a terminal cannot show is shown as an escape.

Rules: Python encodes a name as its locale says, so in another locale (GB18030, Latin-1) a bundle would get other names: the
command starts itself anew in Python's UTF-8 mode, with the very bytes of its arguments. Text for people stays in the encoding
of their terminal.
"""

from __future__ import annotations

import codecs
import io
import locale
import os
import sys
from pathlib import Path

from offline_kit.common.errors import KitError


def use_utf8_names() -> None:
    """Starts this command anew where the names of files would not be UTF-8. Raises KitError where that cannot be done."""
    if sys.getfilesystemencoding().lower() == "utf-8":
        return
    try:
        os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *_arguments()])
    except OSError as error:
        what = f"names of files would be written as {sys.getfilesystemencoding()}, not as UTF-8"
        raise KitError(what, remedy="set PYTHONUTF8=1 and run it again") from error


def print_any_name() -> None:
    """Prints in the encoding of the terminal, and escapes what that lacks."""
    chosen = "PYTHONIOENCODING" in os.environ or os.environ.get("PYTHONUTF8") == "1"
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=stream.encoding if chosen else _terminal_encoding(), errors="backslashreplace")


def _arguments() -> list[bytes]:
    """What follows the interpreter, byte for byte: decoding and encoding need not give the same again."""
    try:
        return Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
    except OSError:
        return [os.fsencode(argument) for argument in sys.orig_argv[1:]]


def _terminal_encoding() -> str:
    """That of the locale; UTF-8 where it names ASCII (``C``: nothing was chosen) or one that Python does not know."""
    try:
        name = codecs.lookup(locale.nl_langinfo(locale.CODESET)).name
    except LookupError:
        return "utf-8"
    return "utf-8" if name == "ascii" else name
