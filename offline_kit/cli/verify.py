"""``offline-kit verify``"""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.verify import verify as verify_bundle
from offline_kit.cli import options
from offline_kit.errors import BundleDamaged


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Structure, sizes and small files only; says what it did not check.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on stdout.")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=None, help="Threads. [default: all cores]")
@options.quiet
def verify(bundle: Path, quick: bool, as_json: bool, jobs: int | None, quiet: bool) -> None:
    """Prove a bundle (NAME-VERSION.tar.gz) or an unpacked kit (its folder): every file, every byte, nothing extra.

    Exit code 0: whole. 20: damaged, each finding names the file. 21: not a bundle.
    """
    report = verify_bundle(bundle, jobs=jobs, quick=quick, progress=options.progress(quiet))
    if as_json:
        click.echo(report.as_json(), nl=False)
    else:
        for finding in report.findings:
            click.echo(f"{finding.where}: {finding.what}")
        for note in report.notes:
            click.echo(f"note: {note}", err=True)
    if not report.whole:
        raise BundleDamaged(
            f"damaged, {len(report.findings)} finding(s)", where=str(bundle), remedy="do not install it; copy or build it again"
        )
    if not as_json:
        click.echo(report.summary())
