"""The command ``offline-kit lock``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import locking
from offline_kit.cli.shared import options
from offline_kit.cli.shared.fetching import Fetching, fetching
from offline_kit.common.output import answer
from offline_kit.project import open_project


@click.command()
@options.manifest
@options.policy
@click.option(
    "--read-engine", is_flag=True, help="Fetch the engine image now, for what its vLLM knows; 'build' does so itself."
)
@fetching
def lock(
    manifest: Path,
    policy: Path | None,
    read_engine: bool,
    fetching: Fetching,
) -> None:
    """Resolve the manifest: tags to digests, revisions to commits, every file to size and sha256.

    Writes NAME.lock.json beside the manifest; commit it. Everything is resolved anew: use it to take up newer tags and
    branches; 'build' on its own resolves only what the manifest changed. What the engine image holds is read from its layers:
    where these are not in the store, by 'build' before it fetches any weights, or now with --read-engine.
    """
    project = open_project(manifest, options.policies(policy))
    result = locking.lock_project(
        project,
        fetching.session(),
        keep=None,
        read_engine=read_engine,
    )
    changed = "is up to date" if result == project.lock else "written"
    answer(f"{project.lock_path} {changed}: {len(result.images)} images, {len(result.models)} models")
