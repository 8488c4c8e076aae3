"""Which container is this file, and its tar as plain bytes: the one place that decides it.

Rules: the first bytes decide; a file of ours with a damaged header is still ours, never somebody else's gzip.
"""

from __future__ import annotations

from collections.abc import Iterator

from offline_kit.bundle.compression import COMPRESSIONS, Compression, of_start
from offline_kit.bundle.read import members
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.common.errors import BundleUnreadable

_LONGEST_MAGIC = max(len(item.magic) for item in COMPRESSIONS)


def compression_of(span: MultiFile) -> Compression | None:
    """How the bundle's tar is compressed; None: in members of ours. Raises BundleUnreadable (no bundle) and OSError."""
    start = span.pread(_LONGEST_MAGIC, 0)
    if members.is_ours(start):
        return None
    if found := of_start(start):
        return found
    known = " nor a ".join(item.name for item in COMPRESSIONS)
    name = str(span.files[0])
    meant = name.endswith((".json", ".yaml", ".yml"))
    remedy = "name NAME-VERSION.tar.gz or a kit's folder; 'offline-kit plan' also takes a manifest (NAME.yaml)" if meant else ""
    raise BundleUnreadable(f"not a bundle: neither a {known} file", where=name, remedy=remedy)


def inflate(span: MultiFile) -> Iterator[bytes]:
    """The plain tar, in pieces, as any tool gives it. Raises Damaged, BundleUnreadable and OSError."""
    found = compression_of(span) or COMPRESSIONS[0]  # members of ours are gzip, too
    return found.codec.inflate(span.stream())
