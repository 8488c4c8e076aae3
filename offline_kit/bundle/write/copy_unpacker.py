"""``unpack.py`` and ``verify-kit.sh`` beside a bundle: for hosts with Python, and for who trusts no kit yet.

Rules: they are files of this package, byte for byte; a file of that name which is not one of ours stays.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.bundle import unpack
from offline_kit.common.digest import Digest
from offline_kit.common.files import disk_errors, read_plain_file, replace_file
from offline_kit.common.progress import Progress

NAME = "unpack.py"
CHECKER, CHECKER_MARK = "verify-kit.sh", "Checks the signatures of a kit"


def carry_unpacker(folder: Path, progress: Progress) -> Path | None:
    """Writes ``unpack.py`` into ``folder``, or replaces an earlier one. Raises DiskError."""
    return _carry(folder / NAME, Path(unpack.__file__).read_bytes(), unpack.MARK, progress)


def carry_checker(folder: Path, text: bytes, progress: Progress) -> Path | None:
    """Writes ``verify-kit.sh`` and its sum into ``folder``, or replaces earlier ones. Raises DiskError."""
    target = _carry(folder / CHECKER, text, CHECKER_MARK, progress)
    if target is not None:
        _carry(folder / f"{CHECKER}.sha256", f"{Digest.of(text).hex}  {CHECKER}\n".encode(), CHECKER, progress)
    return target


def _carry(target: Path, text: bytes, mark: str, progress: Progress) -> Path | None:
    with disk_errors(target):
        if target.exists() or target.is_symlink():
            found = _content(target)
            if found == text:
                return target
            if mark.encode() not in found[:1000]:
                progress.note(f"{target} is not one of offline-kit: it stays, and the bundle goes without")
                return None
    replace_file(target, text, 0o644 if target.suffix == ".sha256" else 0o755)
    return target


def _content(target: Path) -> bytes:
    """What lies there; nothing of what is no plain file, or far too long to be one of ours."""
    try:
        return read_plain_file(target, 1 << 20)
    except OSError:
        return b""
