"""The text of ``sbom.cdx.json``, written part by part.

Rules: it follows from the lock, from what the layers hold and from the kit's own files: no time and no random number, so that
the same lock gives the same bytes; one component a line, so that two can be compared; a test holds it to CycloneDX's schema.
"""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Mapping
from typing import Any

from offline_kit import __version__
from offline_kit.common.digest import Digest
from offline_kit.host.sbom.components import components
from offline_kit.spec.image_contents import ImageContents
from offline_kit.spec.lock import Lock

_SCHEMA = "http://cyclonedx.org/schema/bom-1.7.schema.json"


def sbom(lock: Lock, version: str, contents: Mapping[str, ImageContents], texts: Mapping[str, bytes]) -> bytes:
    """The bill of materials of a bundle. ``contents``: of each image by its key, ``texts``: the small files by path."""
    out = io.BytesIO()
    references: list[str] = []
    out.write(f'{{"$schema":{_text(_SCHEMA)},"bomFormat":"CycloneDX","components":[\n'.encode())
    for number, (component, parts) in enumerate(components(lock, contents, texts)):
        references.append(component["bom-ref"])
        out.write(b",\n" if number else b"")
        # What a component has besides its parts, up to the closing brace; then the parts, a line each.
        out.write(_text({name: value for name, value in component.items() if value})[:-1].encode())
        first = True
        for part in parts:
            out.write((',"components":[\n' if first else ",\n").encode() + _text(part).encode())
            first = False
        out.write(b"}" if first else b"]}")
    out.write(b"\n]," + _text(_frame(lock, version, sorted(references)))[1:].encode() + b"\n")
    return out.getvalue()


def _frame(lock: Lock, version: str, references: list[str]) -> dict[str, Any]:
    """What stands behind the components."""
    bundle = {"bom-ref": "bundle", "name": lock.name, "type": "platform", "version": version}
    tool = {"name": "offline-kit", "type": "application", "version": __version__}
    serial = uuid.uuid5(uuid.NAMESPACE_OID, f"offline-kit {version} {Digest.of(lock.text().encode())}")
    return {
        "dependencies": [{"dependsOn": references, "ref": "bundle"}, *({"ref": reference} for reference in references)],
        "metadata": {"component": bundle, "tools": {"components": [tool]}},
        "serialNumber": f"urn:uuid:{serial}",
        "specVersion": "1.7",
        "version": 1,
    }


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
