"""The command ``offline-kit record``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.signature.keys import PublicKey, load_public_key
from offline_kit.bundle.verify.verify import verify
from offline_kit.cli.shared import options
from offline_kit.common.errors import BundleDamaged
from offline_kit.common.output import answer
from offline_kit.common.progress import Progress


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A public key: signatures by it are named as its own. Can be given again.",
)
@options.medium
@options.quiet
def record(bundle: Path, keys: tuple[Path, ...], medium: Medium | None, quiet: bool) -> None:
    """Write the paper that travels with a bundle: NAME-VERSION.transfer.pdf, .csv and .json beside it.

    What lies on the medium, with sizes and sha256; what is in the kit, from where and under which licence; what scanners
    said; who signed; the fingerprint; boxes for names and signatures. The bundle is verified first. With --medium, the number
    of the medium that each part comes on. After another signature, write it again. BUNDLE: its file, .parts.json or a part.
    """
    progress = options.progress(quiet)
    public = [load_public_key(path) for path in keys]
    report = verify(bundle, progress=progress)
    if not report.whole:
        found = "\n".join(str(finding) for finding in report.findings)
        raise BundleDamaged(f"damaged, no record was written\n{found}", where=str(bundle), remedy="copy or build it again")
    for path in record_bundle(bundle, public, medium, progress):
        answer(path)


def record_bundle(
    bundle: Path, keys: Sequence[PublicKey], medium: Medium | None, progress: Progress, *, just_written: bool = False
) -> list[Path]:
    """Writes the record of a bundle that was verified; gives and notes its files. Raises KitError.

    ``just_written``: by this run, which took its sums on the way and then proved the finished file: they are not taken again.
    """
    from offline_kit.record.gather import gather  # noqa: PLC0415  what draws pages is loaded only by who wants them
    from offline_kit.record.write import write_record  # noqa: PLC0415

    written = write_record(gather(bundle, keys, medium, progress, just_written=just_written), bundle.parent)
    names = [path.name for path in written]
    progress.note(f"transfer record: {', '.join(names)}", event="record", files=names)
    return written
