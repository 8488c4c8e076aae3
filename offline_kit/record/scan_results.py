"""What scanners said before the packing, as a record tells it: a line for each in all, a few words for each file.

Rules: pure; the form of ``evidence/scan.json`` is known to ``spec/scan.py`` alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from offline_kit.spec.scan import ScanRecord


def summarize(record: ScanRecord | None) -> Iterator[str]:
    """A line for each scanner: how many files have which verdict, and what scanned with which database."""
    if record is None:
        return
    for scanner, engine in sorted(record.scanners.items()):
        verdicts = ", ".join(f"{verdict} {count:,}" for verdict, count in sorted(record.counts(scanner).items()))
        yield f"{scanner}: {verdicts}" + (f" ({engine})" if engine else "")


def verdict_of(record: ScanRecord | None, path: str) -> str:
    """What each scanner said of the file ``path``; empty where none looked at it."""
    verdicts = record.files.get(path, {}) if record else {}
    return "; ".join(f"{scanner}: {verdict}" for scanner, verdict in sorted(verdicts.items()))
