"""README.md and README.zh.md of a bundle: the manual for whoever holds this very file, from its lock and configuration.

Rules: one table of facts, one template a language; the words are the templates', so that whole sentences are
translated; a fact that a template names and nobody gives is an error, never an empty place.
"""

from __future__ import annotations

import jinja2

from offline_kit.host import assets
from offline_kit.host.manual.facts import facts
from offline_kit.host.validate import Services
from offline_kit.spec.lock import Lock

MANUALS = ("README.md", "README.zh.md")


def manuals(lock: Lock, version: str, services: Services, *, scanned: bool = False) -> dict[str, str]:
    """Name of each manual -> its text; ``scanned``: the kit has a record of scanners. Raises DiskError."""
    # What is rendered is Markdown, which is read as text: nothing is escaped as HTML.
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True, autoescape=False
    )
    values = facts(lock, version, services) | {"scanned": scanned}
    return {name: environment.from_string(assets.template(name)).render(values) for name in MANUALS}
