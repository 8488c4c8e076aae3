"""The payload as scanners see it: files under their real names, without a second copy of their bytes.

Rules: what the store has is a hard link in a folder beside it, on the same disk; a file of a local folder is shown where it
lies, and in a folder of all files as a link of its own or, on another disk or of another user, as a copy (a symbolic link is
what many scanners pass over in silence); an image's layers are shown as the archives that they are, ``layer-NN.tar.gz``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from offline_kit.common.digest import Digest
from offline_kit.common.files import disk_errors
from offline_kit.intake.store.store import Store
from offline_kit.intake.store.work_folder import work_folder
from offline_kit.spec.lock import Lock, LockedImage


@dataclass(frozen=True)
class PayloadFile:
    """``path``: in the kit; ``name``: as scanners see it, below a folder; ``place``: where its bytes were proven."""

    path: str
    name: str
    size: int
    place: Path


def payload(lock: Lock, locate: Callable[[Digest], Path]) -> list[PayloadFile]:
    """Every file of the payload once."""
    found: dict[str, PayloadFile] = {}
    for key, image in lock.images.items():
        for name, digest, size in _parts(image):
            path = f"images/blobs/sha256/{digest.hex}"
            found.setdefault(path, PayloadFile(path, f"images/{key}/{name}", size, locate(digest)))
    for key, model in lock.models.items():
        for file in model.files:
            path = f"models/{key}/{file.path}"
            found[path] = PayloadFile(path, path, file.size, locate(file.sha256))
    for name, extra in lock.files.items():
        found[f"files/{name}"] = PayloadFile(f"files/{name}", f"files/{name}", extra.size, locate(extra.sha256))
    return [found[path] for path in sorted(found)]


def _parts(image: LockedImage) -> Iterator[tuple[str, Digest, int]]:
    yield "manifest.json", image.manifest.digest, image.manifest.size
    yield "config.json", image.config.digest, image.config.size
    for number, layer in enumerate(image.layers):
        yield f"layer-{number:02}.tar.gz", layer.digest, layer.size


@contextmanager
def shown_files(files: list[PayloadFile], store: Store, *, together: bool) -> Iterator[tuple[Path, dict[str, PayloadFile]]]:
    """A private folder, and where each file is to be seen; ``together``: all of them below that folder. Gone afterwards.

    Raises DiskError.
    """
    with work_folder(store.root, "scan-") as root:
        places = {}
        with disk_errors(root):
            for file in files:
                if not together and not file.place.is_relative_to(store.root):
                    places[str(file.place)] = file
                    continue
                shown = root / file.name
                shown.parent.mkdir(parents=True, exist_ok=True)
                _link(file.place, shown)
                places[str(shown)] = file
        yield root, places


def _link(place: Path, shown: Path) -> None:
    try:
        os.link(place.resolve(), shown)
    except OSError:  # another disk, another user's file, or a file system without links
        shutil.copyfile(place, shown)
