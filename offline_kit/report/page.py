"""The report as one HTML page.

Rules: everything that comes from a bundle is escaped, and control characters are written as numbers; the page runs the one
style and the one script that are named by digest in its policy, and nothing else; it asks for nothing from anywhere; what is
long is cut, with a line that says so, so that a bundle of 50,000 files gives a page of the same size as one of 500.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from markupsafe import Markup

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import image_bytes
from offline_kit.common.digest import Digest
from offline_kit.common.files import disk_errors
from offline_kit.common.redact import shown
from offline_kit.common.units import size
from offline_kit.report.checks import checks, not_clean
from offline_kit.report.gather import Report
from offline_kit.report.treemap import Item, tiles
from offline_kit.spec.engine_summary import summary

PACKAGES, FILES, WORDS, CHANGES, USERS = 5000, 200, 200, 500, 8  # rows that are shown
_TEMPLATES = Path(__file__).parent / "templates"
Row = TypeVar("Row")


def page(report: Report) -> str:
    """The page's text. Raises DiskError."""
    style, script = _part("report.css"), _part("report.js")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True, finalize=_plain
    )
    environment.filters.update(size=size, percent=_percent)
    items = payload(report)
    values: dict[str, Any] = {
        "style": Markup(style),  # our own files
        "script": Markup(script),
        "policy": f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        "report": report,
        "contents": report.contents,
        "lock": report.lock,
        "engine": summary(report.lock.images.get("engine")),
        "checks": list(checks(report)),
        "items": items,
        "tiles": tiles(items),
        "total": sum(item.bytes for item in items),
        "packages": _cut(report.packages, PACKAGES),
        "files": _cut(_largest(items), FILES),
        "words": _cut(not_clean(report), WORDS),
        "changes": _cut(report.difference.changes if report.difference else (), CHANGES),
        "users": USERS,
        "image_bytes": image_bytes,
    }
    return environment.from_string(_part("report.html")).render(values)


def payload(report: Report) -> list[Item]:
    """Images with their layers, models and further files with theirs, each byte once: a shared layer is its first image's."""
    found, seen = [], set[Digest]()
    for key, image in report.lock.images.items():
        blobs = {blob.digest: blob.size for blob in image.blobs() if blob.digest not in seen}
        seen |= blobs.keys()
        layers = tuple(Item(paths.blob(digest), count) for digest, count in blobs.items())
        found.append(Item(f"image {key}", sum(blobs.values()), layers))
    for key, model in report.lock.models.items():
        found.append(
            Item(f"model {key}", model.size, tuple(Item(paths.model_file(key, file.path), file.size) for file in model.files))
        )
    if report.lock.files:
        extra = tuple(Item(paths.extra_file(path), file.size) for path, file in report.lock.files.items())
        found.append(Item("further files", sum(item.bytes for item in extra), extra))
    return found


def _largest(items: Sequence[Item]) -> list[tuple[str, str, int]]:
    """(path, whose, bytes) of every file of the payload, the largest first."""
    rows = [(part.name, item.name, part.bytes) for item in items for part in item.parts]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


def _cut(rows: Sequence[Row], at_most: int) -> tuple[Sequence[Row], int]:
    """The first of the rows, and how many there are more."""
    return rows[:at_most], max(len(rows) - at_most, 0)


def _part(name: str) -> str:
    with disk_errors(_TEMPLATES / name):
        return (_TEMPLATES / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    """What a policy names an inline style or script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _percent(share: float) -> str:
    return f"{share * 100:.3f}%"


def _plain(value: Any) -> Any:
    """Text as it may be shown; what is markup already was written here."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
