"""Extract: a bundle in any form becomes a kit, proven on the way; the work is ``unpack``'s.

Rules: what ``unpack`` alone does not judge (the lock, the images, bundle.json) is judged on the finished folder, before it
gets its name; the bytes of large files are read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from offline_kit.bundle import reader, stream, unpack, volumes, zstd
from offline_kit.bundle.report import Report
from offline_kit.bundle.span import Span
from offline_kit.bundle.verify import verify
from offline_kit.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.progress import Progress


def extract(bundle: Path, folder: Path, *, jobs: int | None = None, progress: Progress) -> tuple[Path, Report]:
    """Unpacks ``bundle`` (a file, its .parts.json or a part) into ``folder``; gives the kit's folder and what was found in it.

    Raises BundleUnreadable, BundleDamaged with every finding, and DiskError (no space, or the kit is there already).
    """
    reports: list[Report] = []

    def check(kit: Path) -> list[str]:
        reports.append(verify(kit, jobs=jobs, quick=True, progress=progress))
        return [str(finding) for finding in reports[-1].findings]

    try:
        found = volumes.locate(bundle)
        if found.findings:
            raise unpack.Refused([str(finding) for finding in found.findings])
        with Span(found.files) as span, progress.task("unpack", span.size) as task:
            start = span.pread(4, 0)
            plain = None
            if not reader.is_ours(start):
                if start[:2] != b"\x1f\x8b" and start != zstd.MAGIC:
                    raise BundleUnreadable("not a bundle: neither a gzip nor a zstd file", where=str(bundle))
                plain = _plain(span, start)
            kit = unpack.unpack(span, folder, jobs, plain, check, task.advance)
        return kit, reports[-1]
    except unpack.Refused as error:
        lines = "\n".join(error.findings)
        what = f"damaged, {len(error.findings)} finding(s), nothing was left:\n{lines}"
        raise BundleDamaged(what, where=str(bundle), remedy="do not install it; copy or build it again") from error
    except FileExistsError as error:
        raise DiskError("is there already", where=str(error.filename), remedy="remove it, or name another folder") from error
    except FileNotFoundError as error:
        raise BundleUnreadable("no such file or folder", where=str(error.filename or bundle)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(error.filename or folder)) from error


def _plain(span: Span, start: bytes) -> Iterator[bytes]:
    """The tar within; what is wrong with the stream is a ValueError, as ``unpack`` expects it."""
    try:
        if start == zstd.MAGIC:
            zstd.check_frames(span)
        yield from (zstd.inflate if start == zstd.MAGIC else stream.inflate)(span.stream())
    except stream.Damaged as error:
        raise ValueError(str(error)) from error
