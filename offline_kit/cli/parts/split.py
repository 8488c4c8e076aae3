"""The command ``offline-kit split``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.split_join import split as split_bundle
from offline_kit.cli.shared import options
from offline_kit.cli.shared.size_options import parse_size, part_size
from offline_kit.cli.trust.record import record_bundle
from offline_kit.common.output import answer

DEFAULT = 4 << 30  # bytes


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--size", callback=parse_size, default=None, help="Of each part. FAT32 holds at most 4095MiB.  [default: 4GiB]")
@options.medium
@options.record
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=None, help="[beside BUNDLE]")
@options.quiet
def split(bundle: Path, size: int | None, medium: Medium | None, record: bool, output: Path | None, quiet: bool) -> None:
    """Write a finished bundle again in parts: BUNDLE.001, BUNDLE.002 ... and their NAME-VERSION.parts.json.

    'unpack' and 'verify' take the .parts.json or any part. The parts are read back before they
    get their names. BUNDLE stays as it is.
    """
    progress = options.progress(quiet)
    size = part_size(size, medium, "--size") or DEFAULT
    path, _ = split_bundle(bundle, size, output or bundle.parent, progress=progress)
    if record:
        record_bundle(path, [], medium, progress, just_written=True)
    answer(path)
