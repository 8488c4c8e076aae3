"""What one run works with, as one value from the command down to the last source."""

from __future__ import annotations

from dataclasses import dataclass, field

from offline_kit.common.progress import Progress, Silent
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import TransferOptions


@dataclass(frozen=True)
class Session:
    """The store of blobs, how many transfers run at once, how they are made, and who is told of progress."""

    store: Store
    jobs: int = 4
    options: TransferOptions = field(default_factory=TransferOptions)
    progress: Progress = field(default_factory=Silent)
