"""The command ``offline-kit diff``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from offline_kit.bundle.diff import Difference, compare
from offline_kit.bundle.read.inspect import read_head
from offline_kit.common.output import answer, answer_json
from offline_kit.common.units import size


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def diff(a: Path, b: Path, as_json: bool) -> None:
    """Show what changed from A to B, and how many bytes a delta would carry. Each: a bundle, a kit's folder or a lock.

    Reads only the first kilobytes of a bundle, and proves nothing: that is 'verify'.
    """
    difference = compare(read_head(a), read_head(b))
    answer_json(difference.as_json()) if as_json else answer("\n".join(_lines(difference)))


def _lines(difference: Difference) -> Iterator[str]:
    yield f"{difference.a} -> {difference.b}"
    if not difference.changes:
        yield "  the same"
    for change in difference.changes:
        travels = f"  {size(change.bytes)}" if change.bytes else ""
        yield f"  {change.how:8} {change.kind} {change.name}{f'  {change.what}' if change.what else ''}{travels}"
    yield f"  a delta carries {size(difference.travels)} of {size(difference.payload)} images and models, and the small files"
