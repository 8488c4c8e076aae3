"""The transfer record as a table: CSV that every spreadsheet opens.

Rules: RFC 4180 (CRLF, quotes doubled) in UTF-8 with a byte order mark, by which spreadsheets know it; a cell that a spreadsheet
would take for a formula gets an apostrophe before it, for names and licences come from outside.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from offline_kit.common.redact import shown
from offline_kit.record.form import TransferRecord

HEAD = ("place", "file", "bytes", "sha256", "belongs_to", "source", "licence", "scan", "part", "medium")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
_BOM = "\ufeff"

Cell = str | int | None


def table_text(record: TransferRecord) -> str:
    """The CSV text: first what lies on the medium, then what is in the kit."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(HEAD)
    for row in _rows(record):
        writer.writerow([defuse(cell) for cell in row])
    return _BOM + out.getvalue()


def defuse(cell: Cell) -> Cell:
    """``cell`` as no spreadsheet computes it."""
    if not isinstance(cell, str):
        return cell
    text = shown(cell)
    return f"'{text}" if text.lstrip(" ").startswith(_FORMULA) else text


def _rows(record: TransferRecord) -> Iterator[tuple[Cell, ...]]:
    for carried in record.carried:
        owner = "bundle" if carried.part else ""
        yield "medium", carried.file, carried.bytes, carried.sha256, owner, "", "", "", carried.part, carried.medium
    for file in record.files:
        yield "kit", file.path, file.bytes, file.sha256, file.belongs_to, file.source, file.licence, file.scan, None, None
