"""The command ``offline-kit join``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.split_join import join as join_bundle
from offline_kit.cli.shared import options
from offline_kit.common.output import answer


@click.command()
@click.argument("part", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), default=None, help="[default: beside PART]")
@options.quiet
def join(part: Path, output: Path | None, quiet: bool) -> None:
    """Write a bundle in one file from its parts. PART: the .parts.json, or any part, with all others beside it.

    Parts that are missing or changed are named. The result is verified before it gets its name. The parts stay as they are.
    """
    path, _ = join_bundle(part, output or part.parent, progress=options.progress(quiet))
    answer(path)
