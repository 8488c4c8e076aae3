"""Verify: is this bundle, or this kit, exactly what its lock says?

Rules: the bytes are read and judged anew, with nothing taken from the build; everything wrong is reported, not only the first;
a file that cannot be a bundle at all is an error, not a finding.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from offline_kit.bundle.compression import Damaged
from offline_kit.bundle.format import parts as volumes
from offline_kit.bundle.format import paths
from offline_kit.bundle.format.report import Finding, Report
from offline_kit.bundle.read import folder, members, tar_stream
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.observed import Evidence
from offline_kit.bundle.read.open import compression_of
from offline_kit.bundle.verify import checks
from offline_kit.common.errors import BundleUnreadable, DiskError
from offline_kit.common.progress import Progress

__all__ = ["Finding", "Report", "verify"]


def verify(
    path: Path, *, more: Sequence[Path] = (), jobs: int | None = None, quick: bool = False, progress: Progress
) -> Report:
    """Checks the bundle file or kit folder at ``path``, ``jobs`` files at a time (default: one a processor).

    A bundle in parts: its .parts.json or any part; ``more``: other parts of it, which change nothing. ``quick``: structure,
    sizes and the content of small files only; the report says how much was not read (nothing, for a bundle that was compressed
    again: that one has no short way). Raises BundleUnreadable (no bundle there), BundleDamaged (a .parts.json that cannot be
    read) and DiskError.
    """
    started = time.monotonic()
    try:
        evidence, parts = _observe_path(path, more, jobs, quick, progress)
    except FileNotFoundError as error:
        raise BundleUnreadable("no such file or folder", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(error.filename or path)) from error
    return _report(path, parts, evidence, started)


def _observe_path(path: Path, more: Sequence[Path], jobs: int | None, quick: bool, progress: Progress) -> tuple[Evidence, int]:
    """What is at ``path``, and in how many files it lies: 0 for a kit."""
    if path.is_dir():
        return _kit(path, jobs, quick, progress), 0
    found = volumes.locate(path, *more)
    return _bundle(found, jobs, quick, progress), len(found.files)


def _report(path: Path, parts: int, evidence: Evidence, started: float) -> Report:
    """All checks on ``evidence``, and what comes of them."""
    contents = checks.run_checks(evidence) if evidence.names or evidence.files or not evidence.findings else None
    needs = evidence.base.needs if evidence.base else {}
    here = {name: seen for name, seen in evidence.files.items() if name not in needs}
    unread = [seen.size for seen in here.values() if seen.digest is None]
    return Report(
        path=str(path),
        form=evidence.form,
        name=contents.name if contents else "",
        version=contents.version if contents else "",
        findings=tuple(dict.fromkeys(evidence.findings)),  # two checks may come to the same
        notes=tuple(evidence.notes),
        files=len(here),
        bytes=sum(seen.size for seen in here.values()),
        unchecked_files=len(unread),
        unchecked_bytes=sum(unread),
        seconds=time.monotonic() - started,
        parts=parts,
        base=evidence.base.title if evidence.base else "",
        needed_files=len(needs),
        needed_bytes=evidence.base.bytes if evidence.base else 0,
    )


def _kit(path: Path, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    if not any((path / name).exists() for name in paths.HEAD):
        inside = sorted(str(found.parent) for found in path.glob(f"*/{paths.BUNDLE}"))
        inside += sorted(str(found) for pattern in ("*.tar.gz", "*.tar.zst", "*.parts.json") for found in path.glob(pattern))
        remedy = f"name one of those in it: {', '.join(inside[:5])}" if inside else ""
        raise BundleUnreadable(f"not a kit: no {paths.SUMS} and no {paths.BUNDLE} in it", where=str(path), remedy=remedy)
    return folder.observe(path, jobs, quick, progress)


def _bundle(found: volumes.LocatedBundle, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    """The evidence of the bundle, with what is wrong with its parts in front."""
    evidence = Evidence("bundle", findings=list(found.findings))
    if found.findings:
        return evidence  # what a bundle with a gap holds is not looked at: everything behind the gap would be a finding
    with MultiFile(found.files) as span:
        if found.volumes is not None and not quick:
            with progress.task("verify parts", span.size) as task:
                evidence.findings += volumes.check(found.volumes, *span.digests(task.advance))
        wrong = evidence.findings
        evidence = observe(span, found.name, jobs, quick, progress)
    evidence.findings[:0] = wrong
    return evidence


def observe(span: MultiFile, name: str, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    """The evidence of a bundle in any of its compressions. Raises BundleUnreadable and OSError."""
    compression = compression_of(span)
    if compression is None:
        return members.observe(span, jobs, quick, progress)
    codec, plain = compression.codec, span.stream()
    evidence = tar_stream.observe(compression.form, codec.inflate(plain), plain, span.size, progress)
    try:
        codec.check_end(span)
    except Damaged as error:
        evidence.found(name, str(error))
    return evidence
