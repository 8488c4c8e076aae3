"""``offline-kit diff``"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from offline_kit.bundle.compare import Difference, compare
from offline_kit.bundle.inspect import read_head
from offline_kit.progress import size


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show what changed from A to B, and how many bytes a delta would carry. Each: a bundle, a kit's folder or a lock.

    Reads only the first kilobytes of a bundle, and proves nothing: that is 'verify'.
    """
    difference = compare(read_head(a), read_head(b))
    click.echo(json.dumps(difference.as_json(), indent=2) if as_json else "\n".join(_lines(difference)))


def _lines(difference: Difference) -> Iterator[str]:
    yield f"{difference.a} -> {difference.b}"
    if not difference.changes:
        yield "  the same"
    for change in difference.changes:
        travels = f"  {size(change.bytes)}" if change.bytes else ""
        yield f"  {change.how:8} {change.kind} {change.name}{f'  {change.what}' if change.what else ''}{travels}"
    yield f"  a delta carries {size(difference.travels)} of {size(difference.payload)} images and models, and the small files"
