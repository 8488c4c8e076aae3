"""Names and labels of Kubernetes for what a kit names in its own way.

Rules: a name is a DNS label (RFC 1123) of at most 63 characters; the key of a model, which may hold ``_``, becomes one by ``-``
in its place, and two that become the same are refused. Pure, standard library only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from typing import Any, Dict, List

from ..settings.model import MODELS_JSON, ConfigError, Mistake, Settings

PREFIX = "offline-kit"  # of annotations
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def is_dns_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None


def dns_label(text: str) -> str:
    """``text`` (lower case) with what a DNS label cannot hold replaced."""
    return re.sub(r"[^a-z0-9-]", "-", text).strip("-")[:63].strip("-")


def renamed(settings: Settings) -> Settings:
    """The settings with keys of models that are names of Kubernetes. Raises ConfigError."""
    taken: Dict[str, str] = {}
    mistakes: List[Mistake] = []
    models = []
    for model in settings.models:
        key = dns_label(model.key)
        other = taken.setdefault(key, model.key)
        if other != model.key or not key:
            what = f"becomes '{key}' in Kubernetes, as '{other}' does"
            mistakes.append(Mistake(MODELS_JSON, f"models.{model.key}", what, "rename one of the two"))
        models.append(dataclasses.replace(model, key=key))
    if mistakes:
        raise ConfigError(mistakes)
    return dataclasses.replace(settings, models=tuple(models))


def suffix(content: Dict[str, Any]) -> str:
    """Ten digits that change when ``content`` does: part of the name of a ConfigMap, so that an undo finds the earlier one."""
    text = "\0".join(f"{key}\0{content[key]}" for key in sorted(content))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:10]
