"""What a model's card says: licence, base models, datasets, task; the YAML at the head of its README.md.

Rules: read within limits and believed as far as its publisher is; what cannot be read, or does not show as it is, is absent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from offline_kit.intake.models.model_needs import Read
from offline_kit.runtime.settings.yaml_text import YamlError, parse_yaml
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelCard
from offline_kit.spec.names import plain_text

_AT_MOST, _ENTRIES, _LONGEST = 64 << 10, 100, 300
_HEAD = re.compile(r"\A\ufeff?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)


def read_card(files: Sequence[LockedFile], read: Read) -> ModelCard | None:
    """The card among the files of a model; None where there is none. Raises KitError (the file cannot be read)."""
    file = next((file for file in files if file.path == "README.md"), None)
    if file is None:
        return None
    match = _HEAD.match(read(file, 0, min(file.size, _AT_MOST)).decode("utf-8", "replace"))
    content = _mapping(match[1]) if match else {}
    return ModelCard(
        licence=", ".join(_texts(content.get("license"))),
        licence_name=", ".join(_texts(content.get("license_name"))),
        licence_link=", ".join(_texts(content.get("license_link"))),
        base_models=_texts(content.get("base_model")),
        datasets=_texts(content.get("datasets")),
        task=", ".join(_texts(content.get("pipeline_tag"))),
    )


def _mapping(text: str) -> dict[str, Any]:
    try:
        content = parse_yaml(text).value
    except YamlError:
        return {}
    return content if isinstance(content, dict) else {}


def _texts(value: object) -> tuple[str, ...]:
    found = []
    for item in (value if isinstance(value, list) else [value])[:_ENTRIES]:
        text = str(item).strip() if isinstance(item, str) else ""
        try:
            found.append(plain_text(text[:_LONGEST]))
        except ValueError:
            continue
    return tuple(text for text in found if text)
