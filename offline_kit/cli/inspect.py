"""``offline-kit inspect``"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.inspect import inspect as inspect_bundle


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle or a kit contains, from its first few kilobytes. Proves nothing: that is 'verify'."""
    contents = inspect_bundle(bundle)
    click.echo(contents.as_json() if as_json else contents.as_text(), nl=not as_json)
