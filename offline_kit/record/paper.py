"""The transfer record on paper: A4 pages to print and sign, by reportlab.

Rules: Latin text in the fonts that every reader has, Chinese in one that the file carries, and a character that neither has as
its number: nothing shows as an empty box; what comes from outside is escaped; the same record gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence

from reportlab.lib import colors
from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    KeepTogether,
    LongTable,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

from offline_kit.record import labels
from offline_kit.record.form import KitFile, TransferRecord
from offline_kit.record.kit_listing import NOT_HERE
from offline_kit.record.page import NumberedPages
from offline_kit.record.scan_results import summarize
from offline_kit.record.type_face import CODE, HEADING, PLAIN, SMALL, TITLE, markup, shorten

FILES_AT_MOST = 2000  # on paper; all of them are in the table beside it
_PADDING = 12  # points, of a frame of reportlab
_WIDTH = A4[0] - 28 * mm - _PADDING
_GRID = TableStyle(
    [
        ("GRID", (0, 0), (-1, -1), 0.4, colors.grey),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        *((f"{side}PADDING", (0, 0), (-1, -1), 2.5) for side in ("LEFT", "RIGHT", "TOP", "BOTTOM")),
    ]
)
_HEADED = TableStyle([("BACKGROUND", (0, 0), (-1, 0), colors.whitesmoke)], parent=_GRID)
Beside = Sequence[tuple[str, str]]
Row = Sequence[str | Flowable]


def paper(record: TransferRecord, beside: Beside) -> bytes:
    """The PDF of ``record``; ``beside``: name and sha256 of the files that say the same as data."""
    out = io.BytesIO()
    document = SimpleDocTemplate(
        out,
        pagesize=A4,
        leftMargin=14 * mm,
        rightMargin=14 * mm,
        topMargin=14 * mm,
        bottomMargin=18 * mm,
        title=f"Transfer record {record.top}",
        author=record.made_by,
        creator="offline-kit",
        invariant=1,
        initialFontName="Helvetica",
    )
    pages: Callable[..., NumberedPages] = lambda *words, **named: NumberedPages(*words, left=_foot(record), **named)  # noqa: E731
    document.build(list(_story(record, beside)), canvasmaker=pages)
    return out.getvalue()


def _foot(record: TransferRecord) -> str:
    return f"{record.top}, {record.fingerprint}"


def _story(record: TransferRecord, beside: Beside) -> Iterator[Flowable]:
    licences = ", ".join(f"{name} ({count})" for name, count in record.licences.items())
    yield Paragraph(markup(labels.TITLE), TITLE)
    yield _facts(record, beside)
    yield from _section(labels.CARRIED, _carried(record))
    yield from _section(labels.FINDINGS, *(_text(line) for line in [*summarize(record.scan)] or [labels.NO_FINDINGS]))
    yield from _section(labels.SIGNATURES, _signatures(record))
    yield from _section(labels.BOXES, _boxes())
    yield from _section(labels.CONTENTS, _contents(record))
    yield from _section(labels.LICENCES, _text(licences or labels.NO_LICENCES))
    yield from _section(labels.EVERY_FILE, _every_file(record, beside))


def _section(title: str, *content: Flowable) -> Iterator[Flowable]:
    first, *rest = content
    yield CondPageBreak(40 * mm)  # a heading never stands alone at the foot
    yield Spacer(0, 2.5 * mm)
    heading = Paragraph(markup(title), HEADING)
    yield from (heading, first) if isinstance(first, LongTable) else (KeepTogether([heading, first]),)
    yield from rest


def _facts(record: TransferRecord, beside: Beside) -> Table:
    count = record.medium["count"] if record.medium else None
    rows: list[tuple[str, Flowable]] = [
        (labels.KIT, _text(record.kit)),
        (labels.VERSION, _text(record.version)),
        (labels.FINGERPRINT, Paragraph(markup(record.fingerprint), CODE)),
        (labels.BUNDLE, _text(f"{record.bundle.file}, {record.bundle.bytes:,} bytes, sha256 {record.bundle.sha256}")),
        (labels.SUMS, _text(f"sha256 {record.sha256sums}; {len(record.files):,} files")),
        (labels.LOCK, _text(record.lock)),
        (labels.PLATFORM, _text(f"{record.platform}; {record.made_by}")),
        (labels.MEDIUM, _text(str(record.medium["name"]) if record.medium else "")),
        (labels.MEDIA, _text(str(count) if count else "")),
        (labels.DATE, _text(record.date)),
        *((labels.BESIDE, _text(f"{name}, sha256 {sha}")) for name, sha in beside),
    ]
    if record.bundle.base:
        rows.insert(3, (labels.BASE, _text(record.bundle.base)))
    return Table([[_text(label), value] for label, value in rows], (42 * mm, _WIDTH - 42 * mm), style=_GRID)


def _carried(record: TransferRecord) -> LongTable:
    known = record.medium is not None and record.medium["count"]
    head = [labels.MEDIUM, labels.PART, labels.FILE, labels.BYTES, labels.SHA256]
    rows: list[Row] = [
        [
            str(file.medium) if file.medium else ("" if file.part or not known else labels.EACH),
            str(file.part or ""),
            file.file,
            f"{file.bytes:,}",
            _code(file.sha256),
        ]
        for file in record.carried
    ]
    return _table((17 * mm, 13 * mm, None, 22 * mm, 86 * mm), head, rows)


def _contents(record: TransferRecord) -> LongTable:
    head = [labels.WHAT, labels.SOURCE, labels.FILES, labels.BYTES, labels.LICENCE]
    rows: list[Row] = [
        [f"images.{line.image}", f"{line.source}\n{line.manifest}", "", f"{line.bytes:,}", line.licence]
        for line in record.images
    ]
    rows += [
        [f"models.{line.model}", f"{line.source}\n{line.commit}", f"{line.files:,}", f"{line.bytes:,}", line.licence]
        for line in record.models
    ]
    rows += [
        [file.path, file.source, "1", f"{file.bytes:,}", file.licence] for file in record.files if file.belongs_to == "files"
    ]
    return _table((34 * mm, None, 14 * mm, 26 * mm, 30 * mm), head, rows)


def _signatures(record: TransferRecord) -> Flowable:
    if not record.signatures:
        return _text(labels.NOT_SIGNED)
    rows = [[line.file, f"{line.key_id} {line.key}".strip() or labels.UNCHECKED] for line in record.signatures]
    return _table((95 * mm, None), [labels.FILE, labels.KEY], rows)


def _boxes() -> Table:
    head = [_text(text) for text in (labels.ROLE, labels.NAME, labels.DATE, labels.SIGNATURE)]
    rows = [[_text(role), "", "", ""] for role in labels.ROLES]
    widths = (32 * mm, 52 * mm, 32 * mm, _WIDTH - 116 * mm)
    return Table([head, *rows], widths, [None, *(13 * mm for _ in rows)], style=_HEADED)


def _every_file(record: TransferRecord, beside: Beside) -> Flowable:
    if len(record.files) > FILES_AT_MOST:
        return _text(labels.TOO_MANY.format(count=f"{len(record.files):,}", name=beside[0][0]))
    head = [labels.FILE, labels.WHAT, labels.BYTES, labels.SHA256]
    rows: list[Row] = [[_short(file.path), _where(file), f"{file.bytes:,}", _code(file.sha256)] for file in record.files]
    return _table((None, 26 * mm, 22 * mm, 86 * mm), head, rows)


def _where(file: KitFile) -> str:
    return f"{file.belongs_to}\n{file.source}" if file.source.startswith(NOT_HERE) else file.belongs_to


def _short(path: str) -> str:
    """A blob by the begin of its name, which is the digest that stands beside it."""
    head, mark, digest = path.partition("/sha256/")
    return f"{head}{mark}{digest[:8]}..." if mark else path


def _table(widths: Sequence[float | None], head: Sequence[str], rows: Sequence[Row]) -> LongTable:
    """A table over the whole width, its head again on each page; the column without a width gets what is left."""
    left = _WIDTH - sum(width or 0 for width in widths)
    cells = [[cell if isinstance(cell, Flowable) else _text(shorten(cell)) for cell in row] for row in (head, *rows)]
    return LongTable(cells, [width or left for width in widths], repeatRows=1, style=_HEADED)


def _text(text: str) -> Paragraph:
    return Paragraph(markup(text), PLAIN)


def _code(text: str) -> Paragraph:
    return Paragraph(text, SMALL)
