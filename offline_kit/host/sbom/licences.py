"""Names of licences as packages and models give them, as CycloneDX wants them: an SPDX id, an expression, or a name.

Rules: nothing is guessed: Debian's and Python's own short names have one meaning each, whatever else is kept as a name.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from cyclonedx import spdx

_GNU = ("GPL", "LGPL", "AGPL")
_ALIASES = {
    "expat": "MIT",
    "mit license": "MIT",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license, version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd-3-clauses": "BSD-3-Clause",
    "bsd license": "",  # of which there are several
    "isc license (iscl)": "ISC",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
    "gfdl-1.3+": "GFDL-1.3-or-later",
    "gfdl-1.2+": "GFDL-1.2-or-later",
    "artistic": "Artistic-1.0-Perl",
    "gemma": "",  # a hub's id, and no SPDX id
}


def entries(names: Iterable[str]) -> list[dict[str, Any]]:
    """The ``licenses`` of a component, each once, sorted."""
    found = {kind + value: {kind: value} for kind, value in map(_entry, names) if value}
    return [
        {"expression": item["expression"]} if "expression" in item else {"license": item} for _, item in sorted(found.items())
    ]


@functools.lru_cache(maxsize=4096)
def _entry(name: str) -> tuple[str, str]:
    """``id``, ``expression`` or ``name``, and its value."""
    text = " ".join(name.split())
    plain = _ALIASES.get(text.lower()) or _gnu(text)
    if known := spdx.fixup_id(plain or text):
        return "id", known
    if any(f" {word} " in text for word in ("AND", "OR", "WITH")) and spdx.is_expression(text):
        return "expression", text
    return "name", text[:200]


def _gnu(text: str) -> str:
    """Debian's GPL-2+ and GPL-2 as SPDX writes them; "" for what is none of these."""
    family, mark, number = text.partition("-")
    if family.upper() not in _GNU or not mark or not number.rstrip("+").replace(".", "").isdigit():
        return ""
    version = number.rstrip("+")
    full = version if "." in version else f"{version}.0"
    return f"{family.upper()}-{full}-{'or-later' if number.endswith('+') else 'only'}"
