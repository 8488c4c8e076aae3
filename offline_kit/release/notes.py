"""Release notes, as Markdown and as one HTML page: what is in it, what changed, how to take it over.

Rules: the facts are those of the kit's own manual, and the differences those of ``offline-kit diff``; the page needs nothing
from elsewhere, and whatever it shows is escaped.
"""

from __future__ import annotations

from typing import Any

import jinja2

from offline_kit.host import assets

SUFFIXES = (".notes.md", ".notes.html")


def notes(facts: dict[str, Any]) -> dict[str, bytes]:
    """Suffix -> content. ``facts``: the kit's (``host.manual.facts``) with ``release`` and ``target``. Raises DiskError."""
    return {suffix: _render(suffix, facts).encode() for suffix in SUFFIXES}


def _render(suffix: str, facts: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=suffix.endswith("html")
    )
    return environment.from_string(assets.template(f"release{suffix}")).render(facts)
