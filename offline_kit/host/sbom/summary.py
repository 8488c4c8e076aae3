"""What a bill of materials says, for people: licences, and who has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SBOM = "sbom.cdx.json"
NONE_NAMED = "(no licence named)"


def text_of(entry: dict[str, Any]) -> str:
    """The name of a licence in a bill of materials."""
    licence = entry.get("license", entry)
    return str(licence.get("id") or licence.get("expression") or licence.get("name"))


def by_licence(bom: Mapping[str, Any]) -> dict[str, list[str]]:
    """Licence -> where and what, of every image, package and model in a bill of materials; NONE_NAMED last."""
    found: dict[str, list[str]] = {}
    for component in bom["components"]:
        for part in (component, *component.get("components", ())):
            if part["type"] in ("container", "library", "machine-learning-model"):
                names = [text_of(entry) for entry in part.get("licenses", ())] or [NONE_NAMED]
                kind = part["purl"].partition(":")[2].partition("/")[0] if part is not component else ""
                where = f"{component['bom-ref']} {kind}".rstrip()
                for name in names:
                    found.setdefault(name, []).append(f"{where} {part['name']} {part.get('version', '')}".rstrip())
    return dict(sorted(found.items(), key=lambda item: (item[0] == NONE_NAMED, item[0])))
