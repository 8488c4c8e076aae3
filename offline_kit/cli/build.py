"""``offline-kit build``"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.bundle.inspect import read_head
from offline_kit.cli import options
from offline_kit.cli.sizes import parse_size


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
@click.option(
    "--split",
    callback=parse_size,
    metavar="SIZE",
    default=None,
    help="In parts of this size, such as 4GiB. FAT32 holds at most 4095MiB.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="A delta: without the images and models that this earlier bundle, kit or lock has.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["tar.gz", "tar.zst"]),
    default="tar.gz",
    show_default=True,
    help="tar.zst: smaller and slower, for hosts that have zstd.",
)
@click.option("--locked", is_flag=True, help="Refuse to build when the lock is missing or stale (for release jobs).")
@options.jobs
@options.limit_rate
@options.mirrors
@options.log_format
@options.quiet
def build(
    version: str,
    manifest: Path,
    output: Path,
    store: Path | None,
    split: int | None,
    base: Path | None,
    form: str,
    locked: bool,
    jobs: int,
    limit_rate: int | None,
    mirrors: dict[str, str],
    log_format: str,
    quiet: bool,
) -> None:
    """Fetch everything, pack it, verify the finished file: NAME-VERSION.tar.gz.

    Uses the lock beside the manifest; where that is missing or no longer fits, the changed entries are resolved and the lock is
    written. What the store has is not downloaded again. The bundle appears under its name only when it was read back whole.
    With --split: NAME-VERSION.tar.gz.001 ... and NAME-VERSION.parts.json. With --base: NAME-VERSION.delta.tar.gz, which
    './install.sh --base EARLIER_KIT' completes on the host. Beside it: unpack.py, for hosts that have Python.
    """
    shape = pipeline.Shape(f".{form}", split, read_head(base) if base else None)
    result = pipeline.build(
        manifest,
        version,
        output,
        options.open_store(store),
        shape=shape,
        locked=locked,
        jobs=jobs,
        options=options.transfers(limit_rate, mirrors),
        progress=options.progress(quiet, log_format),
    )
    click.echo(result.path)
