"""The manifest that a command means when none is named.

Rules: the folder ``manifests/`` of the working directory or of the nearest folder above it that holds a manifest; in it
``default.yaml``, ``knowflow.yaml``, or the only one; above the working directory, what another user put there is passed over.
"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.cli.shared.ownership import is_ours
from offline_kit.common.errors import DiskError
from offline_kit.common.files import disk_error

_FIRST = ("default.yaml", "knowflow.yaml")
SHOWN_DEFAULT = "that of manifests/, here or above"


def find_manifest() -> Path:
    """The manifest, relative where it is below the working directory.

    Raises UsageError: several could be meant; DiskError: a folder of manifests, or the working directory, cannot be read.
    """
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise DiskError("the working directory is not there any more", remedy="go to a folder that is, or name -m") from error
    for folder in (here, *here.parents):
        found = sorted(
            name
            for name in _listed(folder / "manifests")
            if name.endswith(".yaml") and name[0] != "." and (folder == here or _is_ours(folder / "manifests", name, here))
        )
        chosen = [name for name in _FIRST if name in found][:1] or found
        if len(chosen) > 1:
            raise click.UsageError(f"several manifests in {folder / 'manifests'}: name one with -m: {', '.join(chosen[:8])}")
        if chosen:
            return Path("manifests" if folder == here else folder / "manifests") / chosen[0]
    return Path("manifests") / _FIRST[1]


def _is_ours(folder: Path, name: str, here: Path) -> bool:
    try:
        return is_ours(folder, here) and is_ours(folder / name, here)
    except OSError as error:
        raise disk_error(error, folder / name) from error


def _listed(folder: Path) -> list[str]:
    """The names in ``folder``, none where it is not there."""
    try:
        return [path.name for path in folder.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_error(error, folder) from error
