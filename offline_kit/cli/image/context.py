"""The command ``offline-kit context``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.cli.shared import options
from offline_kit.cli.shared.fetching import Fetching, fetching
from offline_kit.common.output import answer


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@options.manifest
@click.option("--version", default="0", show_default=True, help="The version that the image's label says.")
@click.option("--skip-models", is_flag=True, help="Without models: they are mounted where it runs.")
@click.option("--base", metavar="IMAGE", help="Put it on this engine image. [default: the manifest's, by digest]")
@click.option("--locked", is_flag=True, help="Refuse when the lock is missing or stale (for release jobs).")
@options.policy
@fetching
def context(
    folder: Path,
    manifest: Path,
    version: str,
    skip_models: bool,
    base: str | None,
    locked: bool,
    policy: Path | None,
    fetching: Fetching,
) -> None:
    """Make FOLDER, from which 'docker build FOLDER' makes one image that serves all models alone, on ports 8000 to 8003.

    Models are fetched and proven as for a bundle, and become layers, one a file of weights. scripts/build.sh --unified does all
    of it and proves every file in the finished image. docs/unified-image.md has what a bundle does more.
    """
    answer(
        pipeline.lay_image_context(
            manifest,
            version,
            folder,
            fetching.session(),
            locked=locked,
            models=not skip_models,
            base=base,
            policies=options.policies(policy),
        )
    )
