"""An animated SVG of a real run of the demo, without scripts.

    script -q -c "make demo" -O OUT -T TIMING;  python -m tests.demo.transcript_svg OUT TIMING [--hide PATH] >docs/img/demo.svg

Rules: what was said, line by line, from the second step on (the first prepares the machine); nothing is added; waits are cut to
a second, lines to the width, colours of the terminal become classes; one CSS animation moves the text up behind a window, in
steps, so that it needs no script, follows the reader's light or dark scheme, and stands still where motion is not wanted.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from html import escape
from pathlib import Path

COLUMNS, ROWS, LINE, LETTER = 100, 26, 18, 8.0  # the window: characters, lines; pixels of a line and of a character
_FIRST = "==> 2."
_SHORTEST, _LONGEST, _LAST = 0.15, 1.0, 6.0  # seconds that a line stays the last one; the last of all
_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07|\x1b[()][A-Z0-9]")
_STYLE = """\
svg { color-scheme: light dark; }
.window { fill: #f6f8fa; stroke: #d0d7de; }
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: #24292f; white-space: pre; }
.step { font-weight: bold; fill: #0550ae; }
.typed { font-weight: bold; }
.good { fill: #116329; }
.warning { fill: #7d4e00; }
@media (prefers-color-scheme: dark) {
  .window { fill: #0d1117; stroke: #30363d; }
  text { fill: #c9d1d9; }
  .step { fill: #79c0ff; }
  .good { fill: #7ee787; }
  .warning { fill: #e3b341; }
}
@media (prefers-reduced-motion: reduce) { .lines { animation: none; } }
"""
_CLASSES = (("==> ", "step"), ("$ ", "typed"), ("ok ", "good"), ("warning", "warning"), ("WARN", "warning"))


def lines_of(output: bytes, timing: str) -> list[tuple[float, str]]:
    """Second and text of each line that was ended, as it stood then; ``timing``: of script(1), seconds and bytes of a piece."""
    found, moment, at, line = [], 0.0, 0, b""
    start = output.index(b"\n") + 1 if output.startswith(b"Script started") else 0
    for row in timing.splitlines():
        seconds, size = row.split()[-2:]
        moment += float(seconds)
        line += output[start + at : start + at + int(size)]
        at += int(size)
        *ended, line = line.split(b"\n")
        found += [(moment, _plain(each)) for each in ended]
    return found


def _plain(line: bytes) -> str:
    """What of a line stays: after the last carriage return, without the terminal's codes."""
    text = line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2]
    return _CODES.sub("", text).expandtabs().rstrip()


def scenes(lines: list[tuple[float, str]], hide: str = "") -> Iterator[tuple[float, str]]:
    """Seconds that each line stays the last one, and the line."""
    first = next((number for number, (_, text) in enumerate(lines) if text.startswith(_FIRST)), 0)
    kept = lines[first:]
    for number, (moment, text) in enumerate(kept):
        wait = kept[number + 1][0] - moment if number + 1 < len(kept) else _LAST
        told = text.replace(hide, "~/offline-kit") if hide else text
        shown = told if len(told) <= COLUMNS else f"{told[: COLUMNS - 1]}…"
        yield (wait if number + 1 == len(kept) else min(max(wait, _SHORTEST), _LONGEST)), shown


def draw(shown: list[tuple[float, str]]) -> str:
    """The SVG."""
    width, height, total = int(COLUMNS * LETTER) + 32, ROWS * LINE + 32, sum(seconds for seconds, _ in shown)
    frames, past = [], 0.0
    for number, (seconds, _) in enumerate(shown, 1):
        frames.append(f"{100 * past / total:.3f}% {{ transform: translateY({(ROWS - number) * LINE}px); }}")
        past += seconds
    end = (ROWS - len(shown)) * LINE
    rows = [_row(number, text) for number, (_, text) in enumerate(shown) if text]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="title">',
            '<title id="title">offline-kit: build, verify, unpack, install and ask, on one machine</title>',
            f"<style>\n{_STYLE}.lines {{ animation: scroll {total:.1f}s step-end infinite; }}",
            "@keyframes scroll {",
            *frames,
            "}\n</style>",
            f'<clipPath id="inside"><rect x="0" y="16" width="{width}" height="{ROWS * LINE}"/></clipPath>',
            f'<rect class="window" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            f'<g clip-path="url(#inside)"><g class="lines" transform="translate(0 {end})">',
            *rows,
            "</g></g>\n</svg>\n",
        ]
    )


def _row(number: int, text: str) -> str:
    kind = next((name for start, name in _CLASSES if text.startswith(start)), "")
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="16" y="{16 + number * LINE + 13}">{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description="An animated SVG of a recorded run of the demo.")
    parser.add_argument("output", type=Path, help="what script -O wrote")
    parser.add_argument("timing", type=Path, help="what script -T wrote")
    parser.add_argument("--hide", default="", metavar="PATH", help="the checkout's folder, shown as ~/offline-kit")
    options = parser.parse_args()
    lines = lines_of(options.output.read_bytes(), options.timing.read_text("ascii"))
    sys.stdout.write(draw(list(scenes(lines, options.hide))))


if __name__ == "__main__":
    main()
