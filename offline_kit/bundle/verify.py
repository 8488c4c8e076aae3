"""Verify: is this bundle, or this kit, exactly what its lock says?

Rules: the bytes are read and judged anew, with nothing taken from the build; everything wrong is reported, not only the first;
a file that cannot be a bundle at all is an error, not a finding.
"""

from __future__ import annotations

import time
from pathlib import Path

from offline_kit.bundle import checks, kit, paths, reader, stream
from offline_kit.bundle.evidence import Evidence
from offline_kit.bundle.report import Finding, Report
from offline_kit.errors import BundleUnreadable, DiskError
from offline_kit.progress import Progress

__all__ = ["Finding", "Report", "verify"]


def verify(path: Path, *, jobs: int | None = None, quick: bool = False, progress: Progress) -> Report:
    """Checks the bundle file or kit folder at ``path``, ``jobs`` files at a time (default: one a processor).

    ``quick``: structure, sizes and the content of small files only; the report says how much was not read (nothing, for a
    bundle that was compressed again: that one has no short way). Raises BundleUnreadable (no bundle there) and DiskError.
    """
    started = time.monotonic()
    try:
        evidence = _look(path, jobs, quick, progress)
    except FileNotFoundError as error:
        raise BundleUnreadable("no such file or folder", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error
    contents = checks.judge(evidence)
    unread = [seen.size for seen in evidence.files.values() if seen.digest is None]
    return Report(
        path=str(path),
        form=evidence.form,
        name=contents.name if contents else "",
        version=contents.version if contents else "",
        findings=tuple(dict.fromkeys(evidence.findings)),  # two checks may come to the same
        notes=tuple(evidence.notes),
        files=len(evidence.files),
        bytes=sum(seen.size for seen in evidence.files.values()),
        unchecked_files=len(unread),
        unchecked_bytes=sum(unread),
        seconds=time.monotonic() - started,
    )


def _look(path: Path, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    if path.is_dir():
        if not any((path / name).exists() for name in paths.HEAD):
            raise BundleUnreadable(f"not a kit: no {paths.SUMS} and no {paths.BUNDLE} in it", where=str(path))
        return kit.look(path, jobs, quick, progress)
    if path.exists() and not path.is_file():
        raise BundleUnreadable("neither a file nor a folder", where=str(path))
    with path.open("rb", buffering=0) as file:
        start = file.read(4)
        if start[:2] != b"\x1f\x8b":
            raise BundleUnreadable("not a bundle: not a gzip file", where=str(path))
        size = path.stat().st_size
        if reader.is_ours(start):
            return reader.look(file.fileno(), size, jobs, quick, progress)
        file.seek(0)
        return stream.look(file, size, progress)
