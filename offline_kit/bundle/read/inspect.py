"""Inspect: what is in this bundle or kit, from the first of its files alone.

Rules: reads the head of the file and no more; answers what the bundle says of itself: only ``verify`` proves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from offline_kit.bundle.compression import Damaged
from offline_kit.bundle.format import parts, paths
from offline_kit.bundle.format.bundle_json import Contents, parse_contents
from offline_kit.bundle.format.member import parse
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.open import inflate
from offline_kit.bundle.read.tar_stream import TarReader
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.common.files import read_plain_file
from offline_kit.spec import rehearsal, scan
from offline_kit.spec.lock import Lock, parse_lock
from offline_kit.spec.rehearsal import RehearsalRecord
from offline_kit.spec.scan import ScanRecord

__all__ = ["Contents", "Head", "inspect", "read_head", "read_rehearsal_record", "read_scan_record", "read_texts"]

Record = TypeVar("Record")
_HEAD = 128 << 20  # bytes: what may lie before the last of the texts that are looked for


@dataclass(frozen=True)
class Head:
    """What a bundle, a kit or a lock file says it is.

    ``digest``: of the lock's bytes; ``sums``: path -> digest, None with ``contents`` for a lock file.
    """

    lock: Lock
    digest: Digest
    contents: Contents | None
    sums: dict[str, Digest] | None

    @property
    def version(self) -> str | None:
        return self.contents.version if self.contents else None

    @property
    def title(self) -> str:
        return self.contents.top if self.contents else f"{self.lock.name} (a lock)"


@dataclass(frozen=True)
class Overview:
    """What a bundle or kit says it holds, its records, and the digest of its SHA256SUMS."""

    contents: Contents
    scan: ScanRecord | None
    rehearsal: RehearsalRecord | None
    sums: Digest


def inspect(path: Path) -> Overview:
    """The short answer about the bundle or kit folder at ``path``, in one reading of its head.

    Raises BundleUnreadable, BundleDamaged and DiskError.
    """
    texts = read_texts(path, (paths.SUMS, paths.BUNDLE), if_listed=(scan.RECORD, rehearsal.RECORD))
    return Overview(
        parse_contents(texts[paths.BUNDLE], f"{path}: {paths.BUNDLE}"),
        _record(texts, path, scan.RECORD, scan.parse_record),
        _record(texts, path, rehearsal.RECORD, rehearsal.parse_record),
        Digest.of(texts[paths.SUMS]),
    )


def read_head(path: Path) -> Head:
    """The lock in the bundle, kit or lock file at ``path``, and what lies before it. Raises as ``inspect``, and SpecError."""
    try:
        if path.is_file() and path.name.endswith(".json") and not path.name.endswith(".parts.json"):
            text = read_plain_file(path, SMALL_DOCUMENT, follow=True)
            return Head(parse_lock(text.decode(errors="replace"), str(path)), Digest.of(text), None, None)
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error
    texts = _head(path, paths.LOCK)
    contents = parse_contents(texts[paths.BUNDLE], f"{path}: {paths.BUNDLE}")
    lock = parse_lock(texts[paths.LOCK].decode(errors="replace"), f"{path}: {paths.LOCK}")
    sums = {}
    for line in texts[paths.SUMS].decode(errors="replace").splitlines():
        try:
            sums[line[66:]] = Digest(line[:64])
        except ValueError as error:
            raise BundleDamaged("is not a list of sums", where=f"{path}: {paths.SUMS}") from error
    return Head(lock, Digest.of(texts[paths.LOCK]), contents, sums)


def read_scan_record(path: Path) -> ScanRecord | None:
    """What scanners said of the bundle or kit at ``path``; None where it has no record. Raises as ``inspect``."""
    texts = read_texts(path, (paths.SUMS,), if_listed=(scan.RECORD,))
    return _record(texts, path, scan.RECORD, scan.parse_record)


def read_rehearsal_record(path: Path) -> RehearsalRecord | None:
    """What was tried out of the bundle or kit at ``path``; None where it has no record. Raises as ``inspect``."""
    texts = read_texts(path, (paths.SUMS,), if_listed=(rehearsal.RECORD,))
    return _record(texts, path, rehearsal.RECORD, rehearsal.parse_record)


def _record(texts: dict[str, bytes], path: Path, name: str, parse: Callable[[bytes], Record]) -> Record | None:
    try:
        return parse(texts[name]) if name in texts else None
    except ValueError as error:
        raise BundleDamaged(f"cannot be read: {error}", where=f"{path}: {name}") from error


def _head(path: Path, last: str) -> dict[str, bytes]:
    """The files at the head up to ``last``, by path."""
    return read_texts(path, paths.HEAD[: paths.HEAD.index(last) + 1])


def read_texts(path: Path, wanted: tuple[str, ...], *, if_listed: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Small files of a bundle or kit by path; they lie before the payload. Raises as ``inspect``.

    ``if_listed``: more of them, those that SHA256SUMS names, which is among ``wanted`` then.
    """
    try:
        if path.is_dir():
            texts = {name: _of_folder(path, name) for name in wanted}
            return texts | {name: _of_folder(path, name) for name in _listed(texts, if_listed)}
        files = parts.locate(path).files
        if not files:
            raise BundleUnreadable("none of its parts is there", where=str(path), remedy="copy them beside it")
        with MultiFile(files) as span:
            return _from_file(span, str(path), wanted, if_listed)
    except FileNotFoundError as error:
        raise BundleUnreadable(f"no such file, or a folder without {paths.BUNDLE}", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error


def _of_folder(folder: Path, name: str) -> bytes:
    try:
        return read_plain_file(folder / name, SMALL_DOCUMENT)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise BundleDamaged(f"is no plain file that can be read: {error.strerror}", where=str(folder / name)) from error


def _listed(texts: dict[str, bytes], names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that SHA256SUMS has."""
    listed = {line[66:] for line in texts[paths.SUMS].splitlines()} if names else set()
    return tuple(name for name in names if name.encode() in listed)


def _from_file(span: MultiFile, where: str, wanted: tuple[str, ...], if_listed: tuple[str, ...]) -> dict[str, bytes]:
    reader = TarReader(inflate(span))
    texts: dict[str, bytes] = {}
    passed = 0
    try:
        for tar in reader:
            header = parse(tar)
            passed += header.size
            if passed > _HEAD:
                break
            reader.expect(header.size)
            name = header.path.partition("/")[2]
            if name in wanted:
                if header.size > SMALL_DOCUMENT:
                    raise ValueError(f"{name} has {header.size} bytes, at most {SMALL_DOCUMENT} are read")
                texts[name] = b"".join(reader.content(header.size))
                if name == paths.SUMS:
                    wanted += _listed(texts, if_listed)
            if len(texts) == len(wanted):
                return texts
    except (Damaged, ValueError) as error:
        raise BundleDamaged(str(error), where=where) from error
    missing = next(name for name in reversed(wanted) if name not in texts)
    raise BundleUnreadable(f"not a bundle: no {missing} at its head", where=where)
