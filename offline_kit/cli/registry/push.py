"""The command ``offline-kit push``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.cli.shared import options
from offline_kit.cli.shared.size_options import parse_size
from offline_kit.common.output import answer, answer_json, say
from offline_kit.common.units import size
from offline_kit.intake.sources.registry_upload import SMALLEST
from offline_kit.publish.push import Destination
from offline_kit.publish.push import push as push_kit


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("destination", metavar="REGISTRY[/PREFIX]")
@click.option("--dry-run", is_flag=True, help="Ask what is there and say what would be sent; change nothing.")
@click.option("--read-all", is_flag=True, help="Read back also what the registry had before, and not only ask for it.")
@click.option("--insecure", is_flag=True, help="Plain HTTP, beyond the loopback too: login and bytes can be read on the way.")
@click.option(
    "--chunk", callback=parse_size, metavar="SIZE", default="16MiB", show_default=True, help="What one request carries at most."
)
@click.option("--json", "as_json", is_flag=True, help="What was pushed, as JSON on stdout.")
@options.jobs
@options.limit_rate
@options.log_format
@options.quiet
def push(
    bundle: Path,
    destination: str,
    dry_run: bool,
    read_all: bool,
    insecure: bool,
    chunk: int,
    as_json: bool,
    jobs: int,
    limit_rate: int | None,
    log_format: str,
    quiet: bool,
) -> None:
    """Push a bundle or a kit to a registry of the site, and read it back by digest.

    Images keep their digests (PREFIX/images/KEY:VERSION). Each model becomes an image with its files below /models
    (PREFIX/models/KEY:VERSION) and a ModelPack artifact (PREFIX/models/KEY:VERSION-modelpack). PREFIX/kit:VERSION holds sums,
    lock and bill of materials. What the registry has is not sent again. Logins are those of 'docker login'.
    """
    if chunk < SMALLEST:
        raise click.BadParameter("at least 64KiB", param_hint="--chunk")
    to = Destination.parse(destination, insecure=insecure, chunk=chunk)
    progress = options.progress(quiet, log_format)
    transfers = options.transfers(limit_rate, {})
    outcome = push_kit(bundle, to, options=transfers, jobs=jobs, dry_run=dry_run, read_all=read_all, progress=progress)
    if as_json:
        answer_json(outcome.as_json())
    else:
        for item in outcome.pushed:
            answer(f"{item['reference']}@{item['digest']}")
    if quiet:
        return
    if dry_run:
        say(f"would send {size(outcome.total - outcome.present)} of {size(outcome.total)}; nothing was changed")
    else:
        say(f"pushed: {size(outcome.sent)} sent and read back by digest; {size(outcome.present)} were there")
