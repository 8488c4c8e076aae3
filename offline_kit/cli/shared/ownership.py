"""Whose is a file that is found in a folder above the working directory?

Rules: such a file decides what a command does and, by a manifest's scanners, what it runs; in a folder that everybody may write
into, as /tmp, anybody can put one: only what belongs to this user, to root, or to whom the working directory belongs is taken.
"""

from __future__ import annotations

import os
from pathlib import Path

from offline_kit.common.output import say

_TOLD: set[Path] = set()


def is_ours(path: Path, here: Path) -> bool:
    """Whether ``path``, and what it leads to if it is a link, may be taken by who works in ``here``; tells of one that may not.

    Raises OSError (it is not there any more).
    """
    ours = {0, os.geteuid(), here.stat().st_uid}
    if {path.lstat().st_uid, path.stat().st_uid} <= ours:
        return True
    if path not in _TOLD:
        _TOLD.add(path)
        say(f"note: {path} belongs to another user: not taken")
    return False
