"""Extract: a bundle in any form becomes a kit, proven on the way; the work is ``unpack``'s.

Rules: what ``unpack`` alone does not judge (the lock, the images, bundle.json) is judged on the finished folder, before it
gets its name; the bytes of large files are read once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from offline_kit.bundle import unpack
from offline_kit.bundle.compression import Compression, Damaged
from offline_kit.bundle.format import parts
from offline_kit.bundle.format.report import Report
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.open import compression_of
from offline_kit.bundle.verify.verify import verify
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.common.progress import Progress


def extract(bundle: Path, folder: Path, *, jobs: int | None = None, progress: Progress) -> tuple[Path, Report]:
    """Unpacks ``bundle`` (a file, its .parts.json or a part) into ``folder``; gives the kit's folder and what was found in it.

    Raises BundleUnreadable, BundleDamaged with every finding, and DiskError (no space, or the kit is there already).
    """
    reports: list[Report] = []

    def check(kit: Path) -> list[str]:
        reports.append(verify(kit, jobs=jobs, quick=True, progress=progress))
        return [str(finding) for finding in reports[-1].findings]

    try:
        found = parts.locate(bundle)
        if found.findings:
            raise unpack.Refused([str(finding) for finding in found.findings])
        with MultiFile(found.files) as span, progress.task("unpack", span.size) as task:
            compression = compression_of(span)
            plain = None if compression is None else _plain(span, compression)
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


def _plain(span: MultiFile, compression: Compression) -> Iterator[bytes]:
    """The tar within; what is wrong with the stream is a ValueError, as ``unpack`` expects it."""
    try:
        compression.codec.check_end(span)
        yield from compression.codec.inflate(span.stream())
    except Damaged as error:
        raise ValueError(str(error)) from error
