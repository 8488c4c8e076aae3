"""A hook of MkDocs: pages that lie beside ``docs/`` become pages of the site, and links between the two lead there.

Rules: nothing is written into ``docs/``; a link to a file of the repository that is no page becomes its name as code, since the
site has no repository beside it; whatever is left over is a dead link, which fails the strict build.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

WEBSITE = Path(__file__).resolve().parent
ROOT = WEBSITE.parent
OUTSIDE = {
    "README.md": "start.md",
    "README.zh-CN.md": "start.zh.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
}
_LINK = re.compile(r"\[(?P<text>[^\]\n]*(?:\n[^\]\n]*)?)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages from outside, the style and the scripts."""
    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    for name in ("site.css", "site.js", "iframe-worker.js"):
        files.append(File.generated(config, f"assets/{name}", content=(WEBSITE / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The text of a page with its links as the site has them."""
    place = page.file.src_uri
    origin = next((name for name, generated in OUTSIDE.items() if generated == place), f"docs/{place}")
    return _LINK.sub(lambda match: _link(match, origin, place), markdown)


def _link(match: re.Match[str], origin: str, place: str) -> str:
    target = match["target"]
    if "://" in target or target.startswith("mailto:"):
        return match[0]
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    page = OUTSIDE.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if page is None:
        return f"`{path}`" if (ROOT / path).exists() else match[0]
    return f"[{match['text']}]({posixpath.relpath(page, posixpath.dirname(place) or '.')}{match['anchor'] or ''})"
