"""Writes every page anew: ``python -m reference``."""

from __future__ import annotations

from pathlib import Path

from reference.man_pages import man_pages
from reference.manifest_page import manifest_page

ROOT = Path(__file__).parent.parent
MANUAL, MANIFEST = ROOT / "man/man1", ROOT / "docs/manifest-reference.md"


def main() -> None:
    MANIFEST.write_text(manifest_page())
    MANUAL.mkdir(parents=True, exist_ok=True)
    pages = man_pages()
    for old in MANUAL.iterdir():
        if old.name not in pages:
            old.unlink()
    for name, text in pages.items():
        (MANUAL / name).write_text(text)


if __name__ == "__main__":
    main()
