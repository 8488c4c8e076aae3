"""Red Hat's package database: the headers in ``rpmdb.sqlite`` (rpm 4.16 and later) or ``Packages.db`` (ndb, SUSE).

Rules: pure but for a temporary file that SQLite reads; whatever is not as rpm writes it gives nothing. The Berkeley DB of older
systems (``Packages``) is not read: who asks is told that the packages are not known.
"""

from __future__ import annotations

import contextlib
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

from offline_kit.spec.image_contents import Package

# Tags of a header and the types of their values (rpm's lib/rpmtag.h).
_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCH, _SOURCE = 1000, 1001, 1002, 1003, 1014, 1022, 1044
_INT32, _STRING, _I18N = 4, 6, 9
_INDEX_AT_MOST, _DATA_AT_MOST = 1 << 16, 256 << 20
_NDB_SLOT, _NDB_BLOB = 0x746F6C53, 0x53626C42  # "Slot", "BlbS"


def read_sqlite(data: bytes) -> list[Package]:
    """``rpmdb.sqlite``. Nothing where it cannot be read."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        try:
            with contextlib.closing(sqlite3.connect(f"file:{file.name}?immutable=1", uri=True)) as database:
                blobs = [bytes(row[0]) for row in database.execute("SELECT blob FROM Packages ORDER BY hnum")]
        except (sqlite3.Error, TypeError, ValueError):
            return []
    return [package for blob in blobs if (package := read_header(blob)) is not None]


def read_ndb(data: bytes) -> list[Package]:
    """``Packages.db``. Nothing where it cannot be read."""
    if data[:4] != b"RpmP" or len(data) < 32:
        return []
    pages = struct.unpack_from("<I", data, 12)[0]
    found = []
    for at in range(32, min(pages * 4096, len(data) - 15), 16):
        magic, number, block, _ = struct.unpack_from("<IIII", data, at)
        if magic != _NDB_SLOT or not number:
            continue
        with contextlib.suppress(struct.error):
            head, _, _, length = struct.unpack_from("<IIII", data, block * 16)
            start = block * 16 + 16
            if head == _NDB_BLOB and (package := read_header(data[start : start + length])) is not None:
                found.append(package)
    return found


def read_header(blob: bytes) -> Package | None:
    """The package that a header describes; None for a public key or what is no header."""
    try:
        count, size = struct.unpack_from(">II", blob)
        if count > _INDEX_AT_MOST or size > _DATA_AT_MOST:
            return None
        values = dict(_values(blob, count))
    except (struct.error, ValueError):
        return None
    name, version, release = (values.get(tag) for tag in (_NAME, _VERSION, _RELEASE))
    if not isinstance(name, str) or not isinstance(version, str) or name == "gpg-pubkey":
        return None
    epoch = f"{values[_EPOCH]}:" if values.get(_EPOCH) else ""
    package = Package(kind="rpm", name=name, version=f"{epoch}{version}-{release}", architecture=str(values.get(_ARCH, "")))
    package["licences"] = [str(values[_LICENSE])] if values.get(_LICENSE) else []
    if _SOURCE in values:
        package["source"] = str(values[_SOURCE]).removesuffix(".src.rpm")
    return package


def _values(blob: bytes, count: int) -> Iterator[tuple[int, str | int]]:
    store = 8 + 16 * count
    for index in range(count):
        tag, kind, offset, number = struct.unpack_from(">iIiI", blob, 8 + 16 * index)
        if tag not in (_NAME, _VERSION, _RELEASE, _EPOCH, _LICENSE, _ARCH, _SOURCE) or not number or offset < 0:
            continue
        if kind == _INT32:
            yield tag, struct.unpack_from(">i", blob, store + offset)[0]
        elif kind in (_STRING, _I18N):
            end = blob.index(b"\0", store + offset)
            yield tag, blob[store + offset : end].decode("utf-8", "replace")
