"""``offline-kit split``"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.repack import split as split_bundle
from offline_kit.cli import options
from offline_kit.cli.sizes import parse_size


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--size", callback=parse_size, default="4GiB", show_default=True, help="Of each part. FAT32 holds at most 4095MiB."
)
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=None, help="[beside BUNDLE]")
@options.quiet
def split(bundle: Path, size: int, output: Path | None, quiet: bool) -> None:
    """Write a finished bundle again in parts: BUNDLE.001, BUNDLE.002 ... and their NAME-VERSION.parts.json.

    'cat BUNDLE.* | tar -xzf -' unpacks them; 'verify' takes the .parts.json or any part. The parts are read back before they
    get their names. BUNDLE stays as it is.
    """
    path, _ = split_bundle(bundle, size, output or bundle.parent, progress=options.progress(quiet))
    click.echo(path)
