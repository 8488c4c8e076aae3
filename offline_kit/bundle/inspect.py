"""Inspect: what is in this bundle or kit, from its bundle.json alone.

Rules: reads the head of the file and no more; answers what the bundle says of itself: only ``verify`` proves it.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.bundle import member, paths
from offline_kit.bundle.contents import Contents, parse_contents
from offline_kit.bundle.stream import Damaged, TarReader, inflate
from offline_kit.errors import BundleDamaged, BundleUnreadable, DiskError

__all__ = ["Contents", "inspect"]

_LONGEST = 16 << 20


def inspect(path: Path) -> Contents:
    """What the bundle file or kit folder at ``path`` says it holds. Raises BundleUnreadable, BundleDamaged and DiskError."""
    try:
        text = (path / paths.BUNDLE).read_bytes() if path.is_dir() else _from_file(path)
    except FileNotFoundError as error:
        raise BundleUnreadable(f"no such file, or a folder without {paths.BUNDLE}", where=str(path)) from error
    except OSError as error:
        raise DiskError(error.strerror or str(error), where=str(path)) from error
    return parse_contents(text, f"{path}: {paths.BUNDLE}")


def _from_file(path: Path) -> bytes:
    """bundle.json out of a bundle: it is among the first files."""
    with path.open("rb") as stream:
        if stream.read(2) != b"\x1f\x8b":
            raise BundleUnreadable("not a bundle: not a gzip file", where=str(path))
        stream.seek(0)
        reader = TarReader(inflate(stream))
        passed = 0
        try:
            for tar in reader:
                header = member.parse(tar)
                passed += header.size
                if passed > _LONGEST:
                    break
                reader.expect(header.size)
                if header.path.partition("/")[2] == paths.BUNDLE:
                    return b"".join(reader.content(header.size))
        except (Damaged, ValueError) as error:
            raise BundleDamaged(str(error), where=str(path)) from error
    raise BundleUnreadable(f"not a bundle: no {paths.BUNDLE} at its head", where=str(path))
