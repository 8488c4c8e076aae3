"""Pack: the entries of a bundle become one file.

Rules: every blob is looked at, and the space counted, before the first byte is written; the caller gives a name in a stage,
proves the file and publishes it; whatever ends the packing early leaves no file behind.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from offline_kit.bundle.compression import of_name
from offline_kit.bundle.format import member
from offline_kit.bundle.format.entries import Entry
from offline_kit.bundle.write import archive
from offline_kit.bundle.write.archive import PathOf
from offline_kit.bundle.write.sink import open_sink
from offline_kit.bundle.write.staging import check_file_size, check_space
from offline_kit.common.errors import DigestMismatch, DiskError, SpecError
from offline_kit.common.files import disk_errors
from offline_kit.common.progress import Progress

# 1980-01-01: not zero, of which tar warns, and a date that every archive format can hold.
DEFAULT_TIME = 315532800


def packed_size(entries: Sequence[Entry], top: str) -> int:
    """The exact size of the bundle in bytes."""
    files = archive.headers(entries, top, DEFAULT_TIME)
    return sum(member.member_length(len(member.render(header)), header.size) for header, _ in files) + len(member.END)


def tar_size(entries: Sequence[Entry], top: str) -> int:
    """The exact size of the tar within."""
    files = archive.headers(entries, top, DEFAULT_TIME)
    sizes = (len(member.render(header)) + member.padded_size(header.size) for header, _ in files)
    return sum(sizes) + len(member.END_RECORDS)


def pack(
    entries: Sequence[Entry], top: str, path_of: PathOf, out: Path, *, split: int | None = None, progress: Progress
) -> None:
    """Writes the bundle to ``out``, replacing what an earlier run left there; on return it is on the disk.

    ``path_of`` gives the file of a blob. ``split``: in parts of so many bytes, ``out.001`` and so on, with their .parts.json. A
    name that ends as a compression does (.tar.zst) gets that instead of gzip members. Raises DigestMismatch (a blob is not as
    long as the lock says), DiskError (a blob is missing, no space, not writable), SpecError (parts too small or too many);
    nothing is then left under ``out``.
    """
    mtime = source_date()
    _check_blobs(entries, path_of)
    compression = of_name(out.name)
    size = packed_size(entries, top) if compression is None else tar_size(entries, top)
    with disk_errors(out, size):
        # What a compression makes of it is not known before; it is never much more than the tar.
        check_space(out.parent, size, freed=out.stat().st_blocks * 512 if out.exists() else 0)
        if compression is None:
            check_file_size(out.parent, min(size, split or size))
        with open_sink(out, split, size + (size >> 7)) as sink, progress.task(f"pack {top}", size) as task:
            if compression is None:
                archive.write(archive.member_pieces(entries, top, mtime, path_of), sink, task.advance)
            else:
                compressor = compression.encoder.compressor(sink, size, len(os.sched_getaffinity(0)))
                archive.write(archive.plain_pieces(entries, top, mtime, path_of), compressor, task.advance)
                compressor.finish()


def source_date() -> int:
    """The time that every file gets: SOURCE_DATE_EPOCH, or a constant."""
    text = os.environ.get("SOURCE_DATE_EPOCH", str(DEFAULT_TIME))
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 8**11:
        raise SpecError(f"not a number of seconds since 1970: {text!r}", where="SOURCE_DATE_EPOCH")
    return int(text)


def _check_blobs(entries: Sequence[Entry], path_of: PathOf) -> None:
    """Every missing blob, or else every blob of a wrong size, in one error."""
    missing, wrong = [], []
    for entry in entries:
        if entry.content is not None:
            continue
        try:
            size = path_of(entry.digest).stat().st_size
        except OSError as error:
            missing.append(f"{entry.path} ({entry.digest}): {error.strerror}")
            continue
        if size != entry.size:
            wrong.append(f"{entry.path} ({entry.digest}): has {size} bytes instead of {entry.size}")
    for kind, lines in ((DiskError, missing), (DigestMismatch, wrong)):
        if lines:
            raise kind("\n".join(["the store cannot give these files:", *lines]), remedy="fetch them again")
