"""Writes a transfer record beside its bundle: NAME-VERSION.transfer.json, .csv and .pdf.

Rules: the paper names the sums of the other two, so that what is signed by hand vouches for them.
"""

from __future__ import annotations

from pathlib import Path

from offline_kit.common.digest import Digest
from offline_kit.common.files import replace_file
from offline_kit.record.form import TransferRecord
from offline_kit.record.paper import paper
from offline_kit.record.table import table_text


def write_record(record: TransferRecord, folder: Path) -> list[Path]:
    """Writes the three files of ``record`` into ``folder``; gives their paths, the paper first. Raises DiskError."""
    delta = ".delta" if record.bundle.base else ""
    stem = f"{record.top}{delta}.transfer"
    texts = {f"{stem}.csv": table_text(record).encode(), f"{stem}.json": record.text().encode()}
    sheets = paper(record, [(name, Digest.of(text).hex) for name, text in texts.items()])
    for name, text in {**texts, f"{stem}.pdf": sheets}.items():
        replace_file(folder / name, text)
    return [folder / f"{stem}.{form}" for form in ("pdf", "csv", "json")]
