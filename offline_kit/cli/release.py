"""The command ``offline-kit release``."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import click

from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.signature import signers
from offline_kit.cli.shared import options
from offline_kit.cli.shared.fetching import Fetching, fetching
from offline_kit.cli.shared.size_options import parse_size, part_size
from offline_kit.cli.trust.sign import passphrase
from offline_kit.common.errors import Busy, CommandFailed, KitError, Unchanged
from offline_kit.common.output import answer
from offline_kit.common.progress import Progress
from offline_kit.common.redact import shown
from offline_kit.release.index import Release
from offline_kit.release.make import ReleaseOptions, make_release
from offline_kit.release.publish.publish import open_destination
from offline_kit.spec.rehearsal import Extent


@click.command()
@options.manifest
@click.option("--output", "-o", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of the releases.")
@click.option(
    "--version",
    default="auto",
    show_default=True,
    help="auto: the next patch, v1.0.0 first; date: vYEAR.MONTH.DAY; or a version.",
)
@click.option("--if-changed", is_flag=True, help="Only if anything but the version would differ: else exit code 11.")
@click.option("--locked", is_flag=True, help="From the lock as it is, instead of resolving tags and revisions anew.")
@click.option(
    "--full-every", type=click.IntRange(1), metavar="N", help="Deltas, and every Nth release a full one. [default: all full]"
)
@click.option(
    "--keep", type=click.IntRange(1), metavar="N", help="Keep the newest N, and what their deltas need. [default: all]"
)
@click.option("--split", callback=parse_size, metavar="SIZE", default=None, help="In parts of this size, as 'build' does.")
@options.form
@click.option("--sign", "key", metavar="KEY", help="Sign it, as 'build' does; the passphrase: OFFLINE_KIT_KEY_PASSPHRASE.")
@click.option("--public", type=click.Path(path_type=Path, dir_okay=False), help="With --sign command: the public key.")
@click.option(
    "--publish",
    "places",
    multiple=True,
    metavar="PLACE",
    help="Publish all that lies there to s3://BUCKET/PREFIX or oci://REGISTRY/REPOSITORY, too. Can be given again.",
)
@click.option(
    "--on-success", metavar="COMMAND", help="Run by sh after a release, with OFFLINE_KIT_RELEASE_* in its environment."
)
@click.option("--on-failure", metavar="COMMAND", help="Run by sh when it fails, with OFFLINE_KIT_RELEASE_ERROR and _EXIT_CODE.")
@options.medium
@options.rehearse
@options.record
@options.policy
@fetching
def release(
    manifest: Path,
    output: Path,
    version: str,
    if_changed: bool,
    locked: bool,
    full_every: int | None,
    keep: int | None,
    split: int | None,
    form: str,
    key: str | None,
    public: Path | None,
    places: tuple[str, ...],
    on_success: str | None,
    on_failure: str | None,
    medium: Medium | None,
    rehearse: Extent | None,
    record: bool,
    policy: Path | None,
    fetching: Fetching,
) -> None:
    """Make the next release, for a scheduler: resolve anew, build, verify, sign, write notes, list it in releases.json, prune,
    publish.

    Exit code 11: nothing changed (with --if-changed). 12: another run makes a release there. Any other but 0: it failed, and
    earlier releases are as they were; the next run goes on with what was downloaded. docs/releases.md: timers and CI jobs.
    """
    progress = fetching.progress
    try:
        chosen = ReleaseOptions(
            version=version,
            if_changed=if_changed,
            locked=locked,
            suffix=f".{form}",
            split=part_size(split, medium, "--split"),
            full_every=full_every,
            keep=keep,
            # a key that cannot be used is said before hours of work
            signer=signers.open_signer(key, public, passphrase) if key else None,
            record=record,
            medium=medium,
            policies=options.policies(policy),
            rehearsal=rehearse,
            destinations=tuple(open_destination(place, fetching.jobs) for place in places),
        )
        made = make_release(manifest, output, chosen, fetching.session())
    except (Unchanged, Busy):
        raise
    except KitError as error:
        if on_failure:
            said = " ".join(shown(str(error)).split())  # as on the terminal, in one line
            variables = {"OFFLINE_KIT_RELEASE_ERROR": said, "OFFLINE_KIT_RELEASE_EXIT_CODE": str(error.exit_code)}
            _tell_failure(on_failure, variables, progress)
        raise
    progress.note(
        f"released {made.version}", event="released", version=made.version, base=made.base, changes=list(made.changes)
    )
    if on_success:
        _run_success(on_success, output, made)
    answer(output / made.file)


def _run_success(command: str, output: Path, made: Release) -> None:
    variables = {
        "VERSION": made.version,
        "FILE": str(output / made.file),
        "FINGERPRINT": made.fingerprint,
        "BASE": made.base or "",
    }
    code = _run(command, {f"OFFLINE_KIT_RELEASE_{name}": value for name, value in variables.items()})
    if code:
        raise CommandFailed(
            f"{made.version} is released, and --on-success ended with {code}", where=command, remedy="run it by hand"
        )


def _tell_failure(command: str, variables: dict[str, str], progress: Progress) -> None:
    """Runs the command; how it ends changes nothing about how this run ends."""
    code = _run(command, variables)
    if code:
        progress.note(f"warning: --on-failure ended with {code}", event="finding", where=command)


def _run(command: str, variables: dict[str, str]) -> int:
    """The exit status; what the command prints goes to stderr, so that stdout is the result alone."""
    done = subprocess.run(
        ["/bin/sh", "-c", command], env={**os.environ, **variables}, stdout=2, stdin=subprocess.DEVNULL, check=False
    )
    return done.returncode
