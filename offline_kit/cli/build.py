"""``offline-kit build``"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.cli import options


@click.command()
@click.option("--version", required=True, help="Version of the bundle, for example v1.0.0.")
@options.manifest
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the bundle. [default: this folder]",
)
@options.store
@click.option("--locked", is_flag=True, help="Refuse to build when the lock is missing or stale (for release jobs).")
@options.jobs
@options.quiet
def build(version: str, manifest: Path, output: Path, store: Path | None, locked: bool, jobs: int, quiet: bool) -> None:
    """Fetch everything, pack it, verify the finished file: NAME-VERSION.tar.gz.

    Uses the lock beside the manifest; where that is missing or no longer fits, the changed entries are resolved and the lock is
    written. What the store has is not downloaded again. The bundle appears under its name only when it was read back whole.
    """
    result = pipeline.build(
        manifest, version, output, options.open_store(store), locked=locked, jobs=jobs, progress=options.progress(quiet)
    )
    click.echo(result.path)
