"""The command ``offline-kit verify``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.bundle.format.report import Report
from offline_kit.bundle.read.inspect import read_head, read_rehearsal_record, read_scan_record
from offline_kit.bundle.signature.bases import check_base_of
from offline_kit.bundle.signature.check import Signatures, check_signatures
from offline_kit.bundle.signature.keys import load_public_key
from offline_kit.bundle.verify.verify import verify as verify_bundle
from offline_kit.cli.shared import options
from offline_kit.common.errors import BundleDamaged
from offline_kit.common.output import answer, answer_json, say
from offline_kit.common.units import size
from offline_kit.spec.policy_check import check_policy, check_rehearsal, check_scanners


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--quick", is_flag=True, help="Structure, sizes and small files only; says what it did not check.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON on stdout.")
@click.option("--jobs", "-j", type=click.IntRange(1, 256), default=None, help="Threads. [default: all cores]")
@click.option(
    "--key",
    "keys",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    help="A public key that must have signed it. Can be given again.",
)
@click.option("--threshold", type=click.IntRange(1), default=None, help="How many of the keys must have signed. [default: all]")
@click.option(
    "--expect",
    metavar="SHA256",
    help="The sha256 or fingerprint of SHA256SUMS, or the sha256 of the lock, told over another way.",
)
@click.option(
    "--base",
    type=click.Path(path_type=Path, exists=True),
    default=None,
    help="Of a delta: the earlier bundle or kit, which must be the one that completes it, and signed by the same keys.",
)
@options.policy
@options.quiet
def verify(
    bundle: tuple[Path, ...],
    quick: bool,
    as_json: bool,
    jobs: int | None,
    keys: tuple[Path, ...],
    threshold: int | None,
    expect: str | None,
    base: Path | None,
    policy: Path | None,
    quiet: bool,
) -> None:
    """Prove a bundle (NAME-VERSION.tar.gz) or an unpacked kit (its folder): every file, every byte, nothing extra.

    A bundle in parts: its NAME-VERSION.parts.json, any part, or all parts. Exit code 0: whole. 20: damaged, each finding names
    the file or the part. 21: not a bundle. 22: not signed by the keys that --key names, or not the expected one.
    23: --policy forbids it.
    """
    first, *more = bundle
    policies = options.policies(policy)
    for _, rules in policies:
        keys += tuple(map(Path, rules.signers))
        threshold = threshold if threshold is not None else rules.threshold
    demanded = bool(keys) or threshold is not None or expect is not None
    # Where nothing is demanded of signatures, a damaged head is a finding among others.
    trusted = [load_public_key(path) for path in keys]
    signatures = check_signatures(first, trusted, threshold, expect) if demanded else None
    report = verify_bundle(first, more=more, jobs=jobs, quick=quick, progress=options.progress(quiet))
    if as_json:
        answer_json(report.as_json())
    else:
        for finding in report.findings:
            answer(finding)
        for note in report.notes:
            say(f"note: {note}")
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
    demanding = [name for name, rules in policies if rules.signed_bases]
    if base or demanding:
        check_base_of(read_head(first), base, trusted, threshold, ", ".join(demanding))
    for name, rules in policies:
        check_policy(read_head(first).lock, rules, name)
        if rules.scanners:
            record = read_scan_record(first)
            check_scanners(record.scanners if record else (), rules, name)
        if rules.rehearsal:
            rehearsed = read_rehearsal_record(first)
            check_rehearsal(rehearsed.extent if rehearsed else None, rules, name)
    if not as_json:
        answer(_summary(report))
        answer(_signed(signatures or check_signatures(first, [], None), demanded=bool(keys)))


def _signed(signatures: Signatures, *, demanded: bool) -> str:
    """Whose list it is, and the line that two people read to each other."""
    text = f"fingerprint {signatures.fingerprint}"
    if demanded:
        return f"{text}; signed by " + ", ".join(f"{key.name} ({key.id})" for key in signatures.signers)
    return f"{text}; " + (f"{signatures.found} signature(s), not checked: --key" if signatures.found else "NOT SIGNED")


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
