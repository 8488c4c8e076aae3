"""The options of every command that fetches, as one: where blobs are kept, how much and how fast, and how it is told.

Rules: a command gets them as one argument, ``fetching``; nothing is opened before ``session`` is asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from offline_kit.cli.shared import options
from offline_kit.common.progress import Progress

if TYPE_CHECKING:
    from offline_kit.intake.session import Session

_OPTIONS = {  # parameter -> what adds it to a command, in the order of its help
    "store": options.store,
    "jobs": options.jobs,
    "limit_rate": options.limit_rate,
    "min_rate": options.min_rate,
    "mirrors": options.mirrors,
    "log_format": options.log_format,
    "quiet": options.quiet,
}


@dataclass(frozen=True)
class Fetching:
    """What they say. ``given``: parameter -> value; ``progress``: bars and notes on stderr, or nothing."""

    given: dict[str, Any]
    progress: Progress

    @property
    def jobs(self) -> int:
        """How many transfers at once."""
        return int(self.given["jobs"])

    def session(self) -> Session:
        """What the command works with."""
        store: Path | None = self.given["store"]
        transfers = options.transfers(self.given["limit_rate"], self.given["mirrors"], self.given["min_rate"])
        return options.session(store, self.jobs, transfers, self.progress)


def fetching(command: Callable[..., None]) -> Callable[..., None]:
    """Adds the options to ``command``, which gets them as ``fetching``."""

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {name: arguments.pop(name) for name in _OPTIONS}
        command(fetching=Fetching(given, options.progress(given["quiet"], given["log_format"])), **arguments)

    for option in reversed(_OPTIONS.values()):
        run = option(run)
    return run
