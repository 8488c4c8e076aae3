"""``offline-kit inspect``"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from offline_kit.bundle.inspect import Contents
from offline_kit.bundle.inspect import inspect as inspect_bundle
from offline_kit.progress import size


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what a bundle or a kit contains, from its first few kilobytes. Proves nothing: that is 'verify'."""
    contents = inspect_bundle(bundle)
    click.echo(json.dumps(contents.as_json(), indent=2) if as_json else "\n".join(_lines(contents)))


def _lines(contents: Contents) -> Iterator[str]:
    yield f"{contents.name} {contents.version} for {contents.platform}, {contents.accelerator}; made by {contents.made_by}"
    yield f"  images ({size(contents.totals.images_bytes)}, shared layers once)"
    for key, image in contents.images.items():
        yield f"    {key:12} {size(image.bytes):>10}  {image.reference or image.source}  {image.config}"
    yield f"  models ({size(contents.totals.models_bytes)})"
    for key, model in contents.models.items():
        yield f"    {key:12} {size(model.bytes):>10}  {model.source}  {model.commit or 'local folder'}  {model.files} files"
