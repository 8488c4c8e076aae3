"""``unpack.py`` beside a bundle: for hosts that have Python, but not the kit.

Rules: it is ``bundle/unpack.py`` of this package, byte for byte; a file of that name which is not one of ours stays.
"""

from __future__ import annotations

import os
from pathlib import Path

from offline_kit.bundle import unpack
from offline_kit.bundle.stage import disk_errors
from offline_kit.progress import Progress

NAME = "unpack.py"


def carry_unpacker(folder: Path, progress: Progress) -> Path | None:
    """Writes ``unpack.py`` into ``folder``, or replaces an earlier one. Raises DiskError."""
    text = Path(unpack.__file__).read_bytes()
    target, partial = folder / NAME, folder / f".{NAME}.{os.getpid()}.partial"
    with disk_errors(target):
        if target.exists():
            held = target.read_bytes()
            if held == text:
                return target
            if unpack.MARK.encode() not in held[:1000]:
                progress.note(f"{target} is not one of offline-kit: it stays, and the bundle goes without")
                return None
        partial.write_bytes(text)
        partial.chmod(0o755)
        partial.replace(target)
    return target
