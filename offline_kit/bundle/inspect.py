"""Inspect: what is in this bundle or kit, from the first of its files alone.

Rules: reads the head of the file and no more; answers what the bundle says of itself: only ``verify`` proves it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle import paths, volumes, zstd
from offline_kit.bundle.contents import Contents, parse_contents
from offline_kit.bundle.member import parse
from offline_kit.bundle.span import Span
from offline_kit.bundle.stream import Damaged, TarReader, inflate
from offline_kit.digest import Digest
from offline_kit.errors import BundleDamaged, BundleUnreadable, DiskError
from offline_kit.spec.lock import Lock, parse_lock

__all__ = ["Contents", "Head", "inspect", "read_head", "read_texts"]

_LONGEST = 128 << 20


@dataclass(frozen=True)
class Head:
    """What a bundle, a kit or a lock file says it is. ``digest``: of the lock's bytes; ``sums``: path -> digest, None with
    ``contents`` for a lock file."""

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


def inspect(path: Path) -> Contents:
    """What the bundle or kit folder at ``path`` says it holds. Raises BundleUnreadable, BundleDamaged and DiskError."""
    return parse_contents(_head(path, paths.BUNDLE)[paths.BUNDLE], f"{path}: {paths.BUNDLE}")


def read_head(path: Path) -> Head:
    """The lock in the bundle, kit or lock file at ``path``, and what lies before it. Raises as ``inspect``, and SpecError."""
    try:
        if path.is_file() and path.name.endswith(".json") and not path.name.endswith(".parts.json"):
            text = path.read_bytes()
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


def _head(path: Path, last: str) -> dict[str, bytes]:
    """The files at the head up to ``last``, by path."""
    return read_texts(path, paths.HEAD[: paths.HEAD.index(last) + 1])


def read_texts(path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Small files of a bundle or kit by path; they lie before the payload. Raises as ``inspect``."""
    try:
        if path.is_dir():
            return {name: (path / name).read_bytes() for name in wanted}
        with Span(volumes.locate(path).files) as span:
            return _from_file(span, str(path), wanted)
    except FileNotFoundError as error:
        raise BundleUnreadable(f"no such file, or a folder without {paths.BUNDLE}", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error


def _from_file(span: Span, where: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
    start = span.pread(4, 0)
    if start[:2] != b"\x1f\x8b" and start != zstd.MAGIC:
        raise BundleUnreadable("not a bundle: neither a gzip nor a zstd file", where=where)
    reader = TarReader((zstd.inflate if start == zstd.MAGIC else inflate)(span.stream()))
    texts: dict[str, bytes] = {}
    passed = 0
    try:
        for tar in reader:
            header = parse(tar)
            passed += header.size
            if passed > _LONGEST:
                break
            reader.expect(header.size)
            name = header.path.partition("/")[2]
            if name in wanted:
                texts[name] = b"".join(reader.content(header.size))
            if len(texts) == len(wanted):
                return texts
    except (Damaged, ValueError) as error:
        raise BundleDamaged(str(error), where=where) from error
    missing = next(name for name in reversed(wanted) if name not in texts)
    raise BundleUnreadable(f"not a bundle: no {missing} at its head", where=where)
