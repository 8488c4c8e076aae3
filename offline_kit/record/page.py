"""Pages that know how many they are: "Page 2 of 5" at the foot of each."""

from __future__ import annotations

from typing import Any

from reportlab.lib.pagesizes import A4
from reportlab.lib.units import mm
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Paragraph

from offline_kit.record import labels
from offline_kit.record.type_face import PLAIN, markup


class NumberedPages(Canvas):
    """A canvas that keeps its pages until the last, and then writes their feet; ``left``: what stands on the left."""

    def __init__(self, *words: Any, left: str, **named: Any) -> None:
        super().__init__(*words, **named)
        self._left, self._kept = left, list[dict[str, Any]]()

    def showPage(self) -> None:  # reportlab's name
        """Keeps the page."""
        self._kept.append(dict(self.__dict__))
        self._startPage()  # type: ignore[attr-defined]

    def save(self) -> None:
        """Writes all pages."""
        kept = self._kept
        for number, state in enumerate(kept, 1):
            self.__dict__.update(state)
            self._foot(number, len(kept))
            super().showPage()
        super().save()

    def _foot(self, number: int, count: int) -> None:
        for text, x in ((self._left, 14 * mm + 6), (labels.PAGE.format(number=number, count=count), A4[0] / 2 + 20 * mm)):
            line = Paragraph(markup(text), PLAIN)
            line.wrap(A4[0] / 2, 10 * mm)
            line.drawOn(self, x, 9 * mm)
