"""The names of a bundle's fixed paths, and the order in which its files lie in the archive.

Rules: every fixed path is named here once, relative to the top folder; what a reader that streams needs first comes first:
the sums, what the bundle is, the lock, all other small files, then images, then the further files, then models.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from offline_kit.common.digest import Digest

FORMAT = 1
SUMS = "SHA256SUMS"
BUNDLE = "bundle.json"
LOCK = "lock.json"
HEAD = (SUMS, BUNDLE, LOCK)

CONFIG = "config"
INSTALLER = "install.sh"
KIT_ENV = "deploy/kit.env"
IMAGE_FACTS = "deploy/images"

# Only in a delta, and gone when it is completed: bundle.json as the full kit has it, and what comes from the base.
DELTA = "delta"
DELTA_BUNDLE = "delta/bundle.json"
DELTA_NEEDS = "delta/needs"

IMAGES = "images"
LAYOUT, INDEX, DOCKER = "oci-layout", "index.json", "manifest.json"
BLOBS = "images/blobs/sha256"
MODELS = "models"
FILES = "files"
FOLDERS = (CONFIG, "deploy", FILES, IMAGES, MODELS, "runtime", "scripts")  # of every kit, or of many

# Made on the host; in no bundle, and never counted when a kit is verified.
ENV = ".env"
STATE = ".state"
INSTALLED = ".state/installed"


def blob(digest: Digest) -> str:
    return f"{BLOBS}/{digest.hex}"


def model_file(key: str, path: str) -> str:
    return f"{MODELS}/{key}/{path}"


def extra_file(path: str) -> str:
    return f"{FILES}/{path}"


def is_payload(path: str) -> bool:
    """Whether the file is an image blob, a further file or belongs to a model: large, and named by the lock."""
    return path.startswith((f"{BLOBS}/", f"{FILES}/", f"{MODELS}/"))


def place(path: str) -> tuple[int, int, bytes]:
    """Sort key: where the file lies in the archive."""
    if path in HEAD:
        return 0, HEAD.index(path), b""
    if path.startswith(f"{IMAGES}/"):
        first = (f"{IMAGES}/{LAYOUT}", f"{IMAGES}/{INDEX}", f"{IMAGES}/{DOCKER}")
        return 2, first.index(path) if path in first else len(first), path.encode()
    late = {FILES: 3, MODELS: 4}.get(path.partition("/")[0], 1)
    return (late if "/" in path else 1), 0, path.encode()


def is_signature(path: str, signed: str = SUMS) -> bool:
    """Whether ``path`` is a signature file of ``signed``, which lies in a kit's folder and in no bundle."""
    return re.fullmatch(re.escape(signed) + r"(?:\.[0-9a-f]{16})?(?:\.sig|\.sigstore\.json)", path) is not None


def with_folders(top: str, paths: Iterable[str]) -> Iterator[str]:
    """Full names in the archive: each path, and before it those of its folders (with a final slash) that were not yet named."""
    named: set[str] = set()
    for path in paths:
        full = f"{top}/{path}"
        slash = full.find("/")
        while slash >= 0:
            if (folder := full[: slash + 1]) not in named:
                named.add(folder)
                yield folder
            slash = full.find("/", slash + 1)
        yield full
