"""The command ``offline-kit build``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.bundle.format import parts
from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.signature.check import check_signatures
from offline_kit.bundle.write.copy_unpacker import carry_checker
from offline_kit.cli.shared import options
from offline_kit.cli.shared.fetching import Fetching, fetching
from offline_kit.cli.shared.size_options import parse_size, part_size
from offline_kit.cli.trust.record import record_bundle
from offline_kit.cli.trust.sign import sign_with
from offline_kit.common.errors import DiskError
from offline_kit.common.output import answer
from offline_kit.common.progress import Progress
from offline_kit.common.units import size
from offline_kit.host import assets
from offline_kit.spec.names import VERSION
from offline_kit.spec.rehearsal import Extent

_SUMS_SHOWN = 3


class _Build(click.Command):
    """Says what is meant where the version stands alone, as other tools take it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and VERSION.fullmatch(args[0]) and not any(word.split("=")[0] == "--version" for word in args):
            ctx.fail(f"the version is an option: --version {args[0]}")
        return super().parse_args(ctx, args)


@click.command(cls=_Build)
@click.option("--version", required=True, help="Version of the bundle, for example v1.0.0.")
@options.manifest
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder for the bundle. [default: this folder]",
)
@click.option(
    "--split",
    callback=parse_size,
    metavar="SIZE",
    default=None,
    help="In parts of this size, such as 4GiB. FAT32 holds at most 4095MiB.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="A delta: without the images and models that this earlier bundle, kit or lock has.",
)
@options.form
@click.option("--locked", is_flag=True, help="Refuse to build when the lock is missing or stale (for release jobs).")
@click.option(
    "--sign", "key", metavar="KEY", help="Sign it: a PEM file, pkcs11:URI, or 'command:PROGRAM ...'; as 'offline-kit sign'."
)
@click.option(
    "--public", type=click.Path(path_type=Path, dir_okay=False), help="With --sign command: the public key, a PEM file."
)
@click.option("--dry-run", is_flag=True, help="Lock and check, say what would be fetched and written, and stop.")
@click.option("--replace", is_flag=True, help="Also where this version is there already, with other content.")
@options.rehearse
@options.medium
@options.record
@options.policy
@fetching
def build(
    version: str,
    manifest: Path,
    output: Path,
    split: int | None,
    base: Path | None,
    form: str,
    locked: bool,
    key: str | None,
    public: Path | None,
    dry_run: bool,
    replace: bool,
    rehearse: Extent | None,
    medium: Medium | None,
    record: bool,
    policy: Path | None,
    fetching: Fetching,
) -> None:
    """Fetch everything, pack it, verify the finished file: NAME-VERSION.tar.gz.

    Uses the lock beside the manifest; where that is missing or no longer fits, the changed entries are resolved and the lock is
    written. What the store has is not downloaded again. The bundle appears under its name only when it was read back whole.
    With --split: NAME-VERSION.tar.gz.001 ... and NAME-VERSION.parts.json. With --base: NAME-VERSION.delta.tar.gz, which
    './install.sh --base EARLIER_KIT' completes on the host. Beside it: unpack.py, for hosts that have Python.
    """
    started = time.monotonic()
    progress = fetching.progress
    shape = pipeline.Shape(f".{form}", part_size(split, medium, "--split"), read_head(base) if base else None, base)
    order = pipeline.Order(manifest, version, output, shape, locked, options.policies(policy), rehearse, replace)
    session = fetching.session()
    if dry_run:
        _tell_preview(pipeline.preview(order, session), session.store.root, output)
        return
    result = pipeline.build(order, session)
    signed = sign_with(result.path, key, public) if key else None
    if signed:
        carry_checker(output, assets.checker(), progress)
    line = check_signatures(result.path, [], None).fingerprint
    progress.note(f"fingerprint {line}", event="fingerprint", fingerprint=line)
    _report_built(result, time.monotonic() - started, shape.base, progress)
    if record:
        record_bundle(result.path, [signed.public] if signed else [], medium, progress, just_written=True)
    answer(result.path)


def _tell_preview(found: pipeline.Preview, store: Path, output: Path) -> None:
    """Says what a build would do. Raises DiskError: there is no room for it."""
    answer(f"would fetch {size(found.fetch)} into {store} ({size(found.free_store)} free)")
    content = f"{size(found.write)} of images and models at most, and small files"
    answer(f"would write {found.name}, {content}, into {output.resolve()} ({size(found.free)} free)")
    if not found.fits:
        both = ", both on one disk" if found.together else ""
        raise DiskError(
            f"there is no room for it{both}", where=str(output), remedy="free space, or --output and --store elsewhere"
        )


def _report_built(built: pipeline.Built, seconds: float, base: Head | None, progress: Progress) -> None:
    """Says how much it became, in what time, its sums, and the next step."""
    located = parts.locate(built.path)
    total = sum(file.stat().st_size for file in located.files)
    sums, listing = parts.read_sums(located), parts.sums_name(located.name)
    in_parts = f" in {len(located.files)} part(s)" if located.in_parts else ""
    lines = [f"{located.name}: {size(total)}{in_parts}, made in {seconds:.0f} s"]
    lines += [f"sha256 {digest}  {name}" for name, digest in list(sums.items())[:_SUMS_SHOWN]]
    how = f"./install.sh --base ../{base.title}" if base else "./install.sh"
    lines += [f"carry {listing} with it; where it arrives: sha256sum -c {listing}, unpack it, {how}"]
    progress.note("\n".join(lines), event="built", file=located.name, bytes=total, sha256=sums, seconds=round(seconds, 1))
