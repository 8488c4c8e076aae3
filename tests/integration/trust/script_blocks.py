"""Blocks that stand in several scripts, since those may source nothing: ``make copies`` writes them anew from the library.

Rules: a block begins with ``# ---- NAME: ...`` and ends with ``# ---- end of NAME``; the library has it, others have copies;
one block may lie in another.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.testbed.cache import REPOSITORY

LIBRARY = REPOSITORY / "scripts/lib/kit/signature.sh"
COPIES = {"signatures": REPOSITORY / "scripts/install.sh", "one signature": REPOSITORY / "scripts/verify-kit.sh"}


def block(text: str, name: str) -> str:
    """The block of this name, with its first and last line."""
    (found,) = re.findall(rf"^# ---- {name}: .*?^# ---- end of {name}$", text, flags=re.M | re.S)
    return str(found)


def with_block(path: Path, name: str) -> str:
    """The text of ``path`` with the library's block in the place of its own."""
    text = path.read_text()
    return text.replace(block(text, name), block(LIBRARY.read_text(), name))


if __name__ == "__main__":
    for name, path in COPIES.items():
        path.write_text(with_block(path, name))
