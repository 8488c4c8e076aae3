"""The files of a new project, written all or none.

Rules: each is whole under a temporary name before any gets its own; what exists is not replaced; whatever ends the work early
(a full disk, Ctrl-C) leaves neither files nor folders of this run; the manifest comes last, for a project is found by it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from offline_kit.common.errors import DiskError


def write_project(files: Mapping[Path, bytes]) -> None:
    """Writes the files in their order. Raises DiskError: one exists, or cannot be written."""
    made: list[Path] = []
    path = Path()
    try:
        for path, content in files.items():
            for folder in _missing_folders(path.parent):
                folder.mkdir()
                made.append(folder)
            made.append(_partial(path))
            with _partial(path).open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for path in files:
            if os.path.lexists(path):
                raise FileExistsError(17, "is there already, and is not overwritten")
            _partial(path).rename(path)
            made.append(path)
    except BaseException as error:
        for one in reversed(made):
            with contextlib.suppress(OSError):
                one.rmdir() if one.is_dir() else one.unlink()
        if isinstance(error, OSError):
            what = f"cannot be written: {error.strerror}; nothing was left"
            raise DiskError(what, where=str(path), remedy="free some space there, or name another FOLDER") from error
        raise


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _missing_folders(folder: Path) -> Iterator[Path]:
    """The folders on the way to ``folder`` and itself that are not there, the outermost first."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    yield from reversed(missing)
