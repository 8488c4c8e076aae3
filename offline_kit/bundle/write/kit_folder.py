"""The kit that a bundle would unpack to, without packing it: its files in a folder.

Rules: the bytes of a blob are a hard link where the folder is on its disk and all may read it, else a copy: what runs the kit
is another user; nothing is proven here, and nothing of it is ever packed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from offline_kit.bundle.format.entries import Entry
from offline_kit.bundle.write.archive import PathOf
from offline_kit.common.files import disk_errors

_READABLE = 0o004


def lay_kit(entries: Sequence[Entry], path_of: PathOf, folder: Path) -> Path:
    """Writes every file of ``entries`` below ``folder``, which is made; gives it back. Raises DiskError."""
    made = {folder}
    with disk_errors(folder):
        folder.mkdir()
        folder.chmod(0o755)  # whatever the umask is
        for entry in entries:
            target = folder / entry.path
            for parent in reversed(target.parents):
                if parent.is_relative_to(folder) and parent not in made:
                    parent.mkdir(exist_ok=True)
                    parent.chmod(0o755)
                    made.add(parent)
            if entry.content is not None:
                target.write_bytes(entry.content)
                target.chmod(entry.mode)
            else:
                link_file(path_of(entry.digest), target)
    return folder


def link_file(place: Path, target: Path) -> None:
    """Gives the file ``place`` the further name ``target``, or a copy of that name. Raises OSError."""
    if place.stat().st_mode & _READABLE:
        try:
            os.link(place.resolve(), target)
            return
        except OSError:  # another disk, another user's file, or a file system without links
            pass
    shutil.copyfile(place, target)
    target.chmod(0o644)
