"""Which networks there are: one for the engines of each model, one for what belongs to the kit, one that leads outside.

Rules: engines of different models share no network, so that none reaches another; the gateway and Prometheus are on all of
them; replicas of one model share theirs, so that a change of their number does not make a new gateway; Docker has some thirty
address ranges: with more models than ``MOST`` the engines share one network. Pure.
"""

from __future__ import annotations

from typing import List

from ..settings.model import Model, Settings

INTERNAL, EDGE = "internal", "edge"
MOST = 20


def of_model(model: Model, settings: Settings) -> str:
    """The network of the engines of ``model``."""
    return f"model-{model.key}" if len(settings.models) <= MOST else "engines"


def of_engines(settings: Settings) -> List[str]:
    """The networks of all engines, each once."""
    return list(dict.fromkeys(of_model(model, settings) for model in settings.models))
