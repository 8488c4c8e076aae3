"""Fonts and styles of the paper, and text from outside made fit for them.

Rules: see ``paper``; the Chinese font is a file beside this one (its README.md says whose); a PDF carries what it uses of it.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from xml.sax.saxutils import escape

from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont

from offline_kit.common.redact import shown

CHINESE = "DroidSansFallback"
_FILE = Path(__file__).parent / "fonts" / "DroidSansFallback-GB2312.ttf"

# wordWrap CJK breaks anywhere: names and digests have no spaces.
_CELL = 500  # letters: a page has room for them in the narrowest column
PLAIN = ParagraphStyle("plain", fontName="Helvetica", fontSize=7.5, leading=9.2, wordWrap="CJK")
SMALL = ParagraphStyle("small", parent=PLAIN, fontName="Courier", fontSize=6.1)
CODE = ParagraphStyle("code", parent=PLAIN, fontName="Courier-Bold", fontSize=13, leading=15)
HEADING = ParagraphStyle("heading", parent=PLAIN, fontName="Helvetica-Bold", fontSize=9.5, leading=12, spaceAfter=2)
TITLE = ParagraphStyle("title", parent=HEADING, fontSize=16, leading=20, spaceAfter=6)


@functools.cache
def chinese() -> TTFont:
    """The Chinese font, known to reportlab from the first call on."""
    font = TTFont(CHINESE, str(_FILE))
    pdfmetrics.registerFont(font)
    return font


def markup(text: str) -> str:
    """``text`` as a paragraph of reportlab takes it: escaped, each character in a font that has it."""
    runs = itertools.groupby(_printable(shown(text)), key=_is_latin)
    parts = (escape("".join(run)) if latin else f'<font name="{CHINESE}">{escape("".join(run))}</font>' for latin, run in runs)
    return "".join(parts).replace("\n", "<br/>")


def shorten(text: str) -> str:
    """``text`` as a cell takes it, which no page breaks: a few lines, and of a long one its begin and its end."""
    first, *rest = _printable(shown(text)).split("\n", 2)
    kept = "\n".join((first, *(line.replace("\n", " ") for line in rest)))
    return kept if len(kept) <= _CELL else f"{kept[: _CELL - 100]} ... {kept[-100:]}"


def _printable(text: str) -> str:
    known = chinese().face.charToGlyph
    return "".join(
        char if _is_latin(char) or ord(char) in known else char.encode("unicode_escape").decode("ascii") for char in text
    )


def _is_latin(char: str) -> bool:
    """Whether Helvetica and Courier have it."""
    return char == "\n" or (char.isprintable() and len(char.encode("cp1252", "ignore")) == 1)
