"""How many tokens a model's positions reach: what config.json publishes, and how its rotary embedding is scaled.

Rules: as vLLM's ``config/model.py`` _get_and_verify_max_len: a factor multiplies what is published, but for scalings that
publish the scaled number already (``llama3``, ``longrope`` and, since 0.30, YaRN, whose factor counted from its
``original_max_position_embeddings`` before), and for Gemma 3. Where layers have embeddings of their own, the last that has a
factor counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterator, Mapping

from ..vllm_version import Vllm

KEYS = ("rope_scaling", "rope_parameters")  # of transformers 4 and 5
_SAID = ("rope_type", "type", "factor", "original_max_position_embeddings")
_PUBLISHED = ("su", "longrope", "llama3", "default", "mrope")
_MOST = 1 << 20


@dataclass(frozen=True)
class RopeScaling:
    """``original``: positions that a YaRN factor counts from, 0 for the published ones."""

    factor: float = 1.0
    yarn: bool = False
    original: int = 0

    def longest(self, published: int, vllm: Vllm) -> int:
        """The longest max_model_len that this version accepts; 0 where nothing is published."""
        if not self.yarn:
            return int(published * self.factor)
        return int((self.original or published) * self.factor) if vllm.extends_yarn else published


NO_SCALING = RopeScaling()


def subset(config: Mapping[str, Any]) -> Dict[str, Any]:
    """The part of a configuration that ``rope_scaling_of`` looks at."""
    found = ((key, _kept(config[key], deep=True)) for key in KEYS if isinstance(config.get(key), dict))
    return {key: kept for key, kept in found if kept}


def rope_scaling_of(text: Mapping[str, Any]) -> RopeScaling:
    """What the rotary embedding of this (text) configuration does with its positions."""
    found = NO_SCALING
    if "gemma3" in str(text.get("model_type", "")):
        return found
    for entry in _parameters(text):
        kind = str(entry.get("rope_type") or entry.get("type") or "default")
        factor, original = _number(entry.get("factor")), _number(entry.get("original_max_position_embeddings"))
        if factor and kind not in _PUBLISHED:
            found = RopeScaling(factor, kind.endswith("yarn"), int(original))
    return found


def _parameters(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key in KEYS:
        entry = text.get(key)
        if isinstance(entry, dict):
            yield from [entry, *(part for part in entry.values() if isinstance(part, dict))]


def _kept(entry: Mapping[str, Any], *, deep: bool) -> Dict[str, Any]:
    kept: Dict[str, Any] = {name: entry[name] for name in _SAID if isinstance(entry.get(name), (str, int, float))}
    parts = {name: _kept(part, deep=False) for name, part in entry.items() if deep and isinstance(part, dict)}
    return {**kept, **{name: part for name, part in parts.items() if part}}


def _number(value: Any) -> float:
    """``value``, 0 where it is no number that can be meant."""
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < _MOST
    return float(value) if fits else 0.0
