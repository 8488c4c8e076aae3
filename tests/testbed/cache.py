"""Things that take minutes to make, kept between runs in a folder outside the checkout.

Rules: (1) an entry is a folder `<kind>-<key>`; the key is a hash of everything that the content depends on, so a
changed input is another entry and nothing is ever brought up to date in place; (2) an entry is made under a file
lock, in a folder with a temporary name, and renamed when whole: a killed run leaves no half entry; (3) whoever uses
an entry only reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def root() -> Path:
    """The cache folder: $OFFLINE_KIT_TESTBED_CACHE, else ~/.cache/offline-kit-testbed. Made when absent."""
    chosen = os.environ.get("OFFLINE_KIT_TESTBED_CACHE")
    folder = Path(chosen) if chosen else Path.home() / ".cache" / "offline-kit-testbed"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def say(message: str) -> None:
    """One line of progress, on stderr: stdout belongs to data."""
    print(f"testbed: {message}", file=sys.stderr, flush=True)


def key_of(*inputs: str | bytes | Path) -> str:
    """A key of 16 hex digits over the inputs, in order; of a Path the file's content counts, not its name."""
    digest = hashlib.sha256()
    for item in inputs:
        data = item.read_bytes() if isinstance(item, Path) else item.encode() if isinstance(item, str) else item
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the lock file `<cache>/<name>.lock`; waits as long as another process holds it."""
    with (root() / f"{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that makes {name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def entry(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The folder of the entry `<kind>-<key>`; when it is absent, `make(empty folder)` fills it first.

    An exception of `make` passes through, and nothing is kept.
    """
    name = f"{kind}-{key}"
    final = root() / name
    if final.is_dir():
        return final
    with locked(name):
        if final.is_dir():
            return final
        partial = root() / f".{name}.partial"  # a killed run may have left it; the lock says that nobody works in it
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir()
        say(f"making {name}")
        began = time.monotonic()
        try:
            make(partial)
            partial.rename(final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        say(f"made {name} in {time.monotonic() - began:.0f} s")
    return final
