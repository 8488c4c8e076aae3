"""``offline-kit verify``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from offline_kit.bundle.report import Report
from offline_kit.bundle.verify import verify as verify_bundle
from offline_kit.cli import options
from offline_kit.errors import BundleDamaged
from offline_kit.progress import size


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--quick", is_flag=True, help="Structure, sizes and small files only; says what it did not check.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on stdout.")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=None, help="Threads. [default: all cores]")
@options.quiet
def verify(bundle: tuple[Path, ...], quick: bool, as_json: bool, jobs: int | None, quiet: bool) -> None:
    """Prove a bundle (NAME-VERSION.tar.gz) or an unpacked kit (its folder): every file, every byte, nothing extra.

    A bundle in parts: its NAME-VERSION.parts.json, any part, or all parts. Exit code 0: whole. 20: damaged, each finding names
    the file or the part. 21: not a bundle.
    """
    first, *more = bundle
    report = verify_bundle(first, more=more, jobs=jobs, quick=quick, progress=options.progress(quiet))
    if as_json:
        click.echo(json.dumps(report.as_json(), indent=2))
    else:
        for finding in report.findings:
            click.echo(finding)
        for note in report.notes:
            click.echo(f"note: {note}", err=True)
    if report.findings:
        raise BundleDamaged(
            f"damaged, {len(report.findings)} finding(s)", where=str(first), remedy="do not install it; copy or build it again"
        )
    if report.incomplete:
        raise BundleDamaged(
            f"not complete, a delta: {report.needed_files} files, {size(report.needed_bytes)}, of {report.base} are missing",
            where=str(first),
            remedy=f"./install.sh --base ../{report.base}",
        )
    if not as_json:
        click.echo(_summary(report))


def _summary(report: Report) -> str:
    checked = f"{report.files - report.unchecked_files} files, {size(report.bytes - report.unchecked_bytes)}"
    text = f"{report.name} {report.version}: whole ({checked} proven in {report.seconds:.1f} s)"
    if report.parts > 1:
        text += f" in {report.parts} parts"
    if report.base:
        text += f"; a delta: {report.needed_files} files, {size(report.needed_bytes)}, are to come from {report.base}"
    if report.unchecked_files:
        text += f"; content NOT checked: {report.unchecked_files} files, {size(report.unchecked_bytes)} (run without --quick)"
    return text
