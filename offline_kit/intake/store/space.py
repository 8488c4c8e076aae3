"""Whether what is to come fits on the store's disk: asked before the first byte, not when the disk is full."""

from __future__ import annotations

import os

from offline_kit.common.errors import DiskError
from offline_kit.common.files import disk_error
from offline_kit.common.units import size
from offline_kit.intake.store.store import Store


def require_space(store: Store, amount: int, what: str) -> None:
    """Raises DiskError when the store's disk has not ``amount`` bytes free for ``what``."""
    try:
        state = os.statvfs(store.root)
    except OSError as error:
        raise disk_error(error, store.root) from error
    free = state.f_bavail * state.f_frsize
    if amount > free:
        text = f"not enough space for {what}: it needs {size(amount)}, {size(free)} are free"
        raise DiskError(text, where=str(store.root), remedy="free some space there, or choose another folder with --store")
