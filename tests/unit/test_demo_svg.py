"""The README's picture of the demo: made from a recorded run, without scripts, and readable without motion."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from tests.demo.transcript_svg import COLUMNS, LINE, ROWS, draw, lines_of, scenes
from tests.testbed.cache import REPOSITORY

PIECES = [
    (0.5, b"==> 1. What it needs\r\nmaking\r\n"),
    (9.0, b"==> 2. Build\r\n$ offline-kit bu"),
    (0.1, b"ild\r\n fetch  1%\r fetch 50%\r\x1b[32mfetch done\x1b[0m\r\n"),
    (70.0, b"/srv/carrier/demo-out: <done> & " + b"x" * 200 + b"\r\n"),
]
SVG = "{http://www.w3.org/2000/svg}"


def recorded(header: bytes = b"") -> list[tuple[float, str]]:
    timing = "".join(f"{seconds} {len(data)}\n" for seconds, data in PIECES)
    return lines_of(header + b"".join(data for _, data in PIECES), timing)


def test_lines_are_as_they_stood_when_they_ended() -> None:
    expected = [(0.5, "==> 1. What it needs"), (0.5, "making"), (9.5, "==> 2. Build"), (9.6, "$ offline-kit build")]
    assert recorded()[:5] == [*expected, (9.6, "fetch done")]
    assert recorded(b'Script started on 2026-01-01 [COMMAND="make demo"]\n') == recorded()


def test_waits_are_cut_and_places_hidden() -> None:
    shown = list(scenes(recorded(), "/srv/carrier"))
    assert [text for _, text in shown[:3]] == ["==> 2. Build", "$ offline-kit build", "fetch done"]
    assert [seconds for seconds, _ in shown] == [0.15, 0.15, 1.0, 6.0]
    assert shown[3][1].startswith("~/offline-kit/demo-out: <done> & xx") and len(shown[3][1]) == COLUMNS


def test_the_last_line_is_at_the_bottom_of_the_window() -> None:
    shown = list(scenes(recorded()))
    root = ET.fromstring(draw(shown))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts == [text for _, text in shown] and "<done> &" in (texts[3] or "")
    style = root.find(f"{SVG}style")
    assert style is not None and style.text
    moved = [int(pixels) for pixels in re.findall(r"translateY\((-?\d+)px\)", style.text)]
    assert moved == [(ROWS - number) * LINE for number in (1, 2, 3, 4)]
    assert "prefers-color-scheme: dark" in style.text and "prefers-reduced-motion: reduce" in style.text


def test_the_picture_in_the_readme_is_such_a_one() -> None:
    text = (REPOSITORY / "docs/img/demo.svg").read_text()
    names = {element.tag.removeprefix(SVG) for element in ET.fromstring(text).iter()}
    assert names == {"svg", "title", "style", "clipPath", "rect", "g", "text"}, "no script, nothing from elsewhere"
    assert not re.search(r"(?:href|src)=|url\((?!#inside)|@import", text)
    assert "Paris" in text and "the related one" in text, "real answers"
    assert "docs/img/demo.svg" in (REPOSITORY / "README.md").read_text()
