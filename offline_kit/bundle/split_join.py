"""Split and join: the same bundle in parts, or in one file.

Rules: the bytes stay as they are, so that every digest does; the result is verified in its stage and only then gets its name;
what it was made from is never deleted, and not changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from offline_kit.bundle.format import parts
from offline_kit.bundle.format.report import Report
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.open import compression_of
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.archive import BUFFERS, Piece, write
from offline_kit.bundle.write.copy_unpacker import carry_unpacker
from offline_kit.bundle.write.sink import open_sink
from offline_kit.bundle.write.staging import check_file_size, check_space, publish, stage
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.common.files import disk_errors
from offline_kit.common.progress import Progress

_CHUNK = 4 << 20


def split(bundle: Path, size: int, output: Path, *, jobs: int | None = None, progress: Progress) -> tuple[Path, Report]:
    """Writes ``bundle`` in parts of ``size`` bytes into ``output``; gives the path of their .parts.json and its report.

    Raises BundleUnreadable (not there, or in parts already), BundleDamaged (not whole), SpecError (the size), DiskError.
    """
    found = _locate(bundle)
    if found.in_parts:
        raise BundleUnreadable("is in parts already", where=str(bundle), remedy="'offline-kit join' it first")
    return _rewrite(found, output, size, jobs, progress)


def join(part: Path, output: Path, *, jobs: int | None = None, progress: Progress) -> tuple[Path, Report]:
    """Writes the bundle in one file into ``output``, from all its parts; ``part``: its .parts.json or any of them.

    Raises BundleUnreadable (nothing there, or not in parts), BundleDamaged (a part is missing or changed), DiskError.
    """
    found = _locate(part)
    if not found.in_parts:
        raise BundleUnreadable("is not in parts", where=str(part), remedy="name the .parts.json, or the first part")
    return _rewrite(found, output, None, jobs, progress)


def _locate(path: Path) -> parts.LocatedBundle:
    try:
        found = parts.locate(path)
        if not all(file.is_file() for file in found.files):
            raise BundleUnreadable("no such file", where=str(path))
        return found
    except FileNotFoundError as error:
        raise BundleUnreadable("no such file", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error


def _rewrite(
    found: parts.LocatedBundle, output: Path, size: int | None, jobs: int | None, progress: Progress
) -> tuple[Path, Report]:
    if found.findings:
        _refuse(found.name, [str(finding) for finding in found.findings])
    final = output / found.name
    with disk_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    with stage(final) as folder, disk_errors(final), MultiFile(found.files) as span:
        compression_of(span)  # what is no bundle is not copied first
        check_space(folder, span.size)
        check_file_size(folder, min(span.size, size or span.size))
        if found.volumes is not None:
            with progress.task("verify parts", span.size) as task:
                if findings := parts.check(found.volumes, *span.digests(task.advance)):
                    _refuse(found.name, [str(finding) for finding in findings])
        with open_sink(folder / found.name, size, span.size) as sink, progress.task(f"write {found.name}", span.size) as task:
            write(_pieces(span), sink, task.advance)
        written = folder / (found.name if size is None else parts.json_name(found.name))
        report = verify(written, jobs=jobs, progress=progress)
        if not report.whole:
            _refuse(found.name, [str(finding) for finding in report.findings])
        path = publish(folder, final)
        carry_unpacker(output, progress)
        return path, report


def _pieces(span: MultiFile) -> Iterator[Piece]:
    buffers = [memoryview(bytearray(_CHUNK)) for _ in range(BUFFERS)]
    for number, offset in enumerate(range(0, span.size, _CHUNK)):
        buffer = buffers[number % len(buffers)]
        yield [buffer[: span.fill(buffer, offset)]]


def _refuse(name: str, findings: list[str]) -> NoReturn:
    raise BundleDamaged(
        "\n".join([f"{len(findings)} finding(s), nothing was written:", *findings]), where=name, remedy="copy it again"
    )
