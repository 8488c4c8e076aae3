"""Which container is this file, and its tar as plain bytes: the one place that decides it.

Rules: the first bytes decide; a file of ours with a damaged header is still ours, never somebody else's gzip; what else is
compressed and has no name of a kit in its beginning is somebody else's.
"""

from __future__ import annotations

from collections.abc import Iterator

from offline_kit.bundle.compression import COMPRESSIONS, Compression, Damaged, of_start
from offline_kit.bundle.format import paths
from offline_kit.bundle.read import members
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.common.errors import BundleUnreadable

_LONGEST_MAGIC = max(len(item.magic) for item in COMPRESSIONS)
_BEGIN = 1 << 20  # bytes of the tar in which a name of a kit is looked for, whoever packed it in whatever order
_KIT_FILES = tuple(f"/{name}\0".encode() for name in (*paths.HEAD, paths.INSTALLER))
_KIT_FOLDERS = tuple(f"/{name}/".encode() for name in paths.FOLDERS)


def compression_of(span: MultiFile) -> Compression | None:
    """How the bundle's tar is compressed; None: in members of ours. Raises BundleUnreadable (no bundle) and OSError."""
    start = span.pread(_LONGEST_MAGIC, 0)
    if members.is_ours(start):
        return None
    if found := of_start(start):
        if not _begins_as_bundle(found, span):
            remedy = "name NAME-VERSION.tar.gz or a kit's folder"
            raise BundleUnreadable("not made by offline-kit", where=str(span.files[0]), remedy=remedy)
        return found
    known = " nor a ".join(item.name for item in COMPRESSIONS)
    name = str(span.files[0])
    meant = name.endswith((".json", ".yaml", ".yml"))
    remedy = "name NAME-VERSION.tar.gz or a kit's folder; 'offline-kit plan' also takes a manifest (NAME.yaml)" if meant else ""
    raise BundleUnreadable(f"not a bundle: neither a {known} file", where=name, remedy=remedy)


def _begins_as_bundle(compression: Compression, span: MultiFile) -> bool:
    """Whether the tar within begins with names of a kit; also where it cannot be read so far, which readers will tell."""
    begin = bytearray()
    try:
        for piece in compression.codec.inflate(span.stream()):
            begin += piece[:_BEGIN]
            if len(begin) >= _BEGIN:
                break
    except Damaged:
        return True
    return not begin or any(name in begin for name in (*_KIT_FILES, *_KIT_FOLDERS))


def inflate(span: MultiFile) -> Iterator[bytes]:
    """The plain tar, in pieces, as any tool gives it. Raises Damaged, BundleUnreadable and OSError."""
    found = compression_of(span) or COMPRESSIONS[0]  # members of ours are gzip, too
    return found.codec.inflate(span.stream())
