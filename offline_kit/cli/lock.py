"""The command ``offline-kit lock``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import locking
from offline_kit.cli import options
from offline_kit.common.output import answer
from offline_kit.project import open_project


@click.command()
@options.manifest
@options.store
@options.policy
@options.jobs
@options.limit_rate
@options.min_rate
@options.mirrors
@options.log_format
@click.option(
    "--read-engine", is_flag=True, help="Fetch the engine image now, for what its vLLM knows; 'build' does so itself."
)
@options.quiet
def lock(
    manifest: Path,
    store: Path | None,
    policy: Path | None,
    jobs: int,
    limit_rate: int | None,
    min_rate: int | None,
    mirrors: dict[str, str],
    log_format: str,
    read_engine: bool,
    quiet: bool,
) -> None:
    """Resolve the manifest: tags to digests, revisions to commits, every file to size and sha256.

    Writes NAME.lock.json beside the manifest; commit it. Everything is resolved anew: use it to take up newer tags and
    branches; 'build' on its own resolves only what the manifest changed. What the engine image holds is read from its layers:
    where these are not in the store, by 'build' before it fetches any weights, or now with --read-engine.
    """
    project = open_project(manifest, options.policies(policy))
    result = locking.lock_project(
        project,
        options.session(store, jobs, options.transfers(limit_rate, mirrors, min_rate), options.progress(quiet, log_format)),
        keep=None,
        read_engine=read_engine,
    )
    changed = "is up to date" if result == project.lock else "written"
    answer(f"{project.lock_path} {changed}: {len(result.images)} images, {len(result.models)} models")
