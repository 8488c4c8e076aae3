"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from offline_kit.intake.store import Store
from offline_kit.progress import Progress, Silent, Terminal

Function = TypeVar("Function", bound=Callable[..., Any])

manifest: Callable[[Function], Function] = click.option(
    "--manifest",
    "-m",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("manifests/knowflow.yaml"),
    show_default=True,
    help="The manifest to work from.",
)
store: Callable[[Function], Function] = click.option(
    "--store",
    "store",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder that keeps blobs between builds. [default: $OFFLINE_KIT_STORE or ~/.cache/offline-kit]",
)
jobs: Callable[[Function], Function] = click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="How many transfers at once."
)
quiet: Callable[[Function], Function] = click.option("--quiet", "-q", is_flag=True, help="No progress, errors only.")


def open_store(path: Path | None) -> Store:
    """The store at ``path``, or at its default place."""
    return Store(path or Store.default_root())


def progress(quiet: bool) -> Progress:
    """Bars and notes on stderr, or nothing."""
    return Silent() if quiet else Terminal()
