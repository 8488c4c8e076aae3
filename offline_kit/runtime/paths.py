"""Which paths an engine of each type answers, and which models answer a path of the router.

Rules: a path that is not here does not exist for clients; where several models answer one path, the request's ``model``
decides, and the first in models.json answers a request that names none. Pure.
"""

from __future__ import annotations

from typing import Dict, Tuple

from .records import Model, Settings

# What each type of engine answers, all by POST.
PATHS: Dict[str, Tuple[str, ...]] = {
    "chat": ("/v1/chat/completions", "/v1/completions"),
    "embedding": ("/v1/embeddings",),
    "rerank": ("/v1/rerank", "/rerank"),
}


def routes(settings: Settings) -> Dict[str, Model]:
    """Path on the router -> the model that answers it unless a request names another: the first of its type."""
    return {path: rivals(settings, path)[0] for model in settings.models for path in PATHS[model.type]}


def rivals(settings: Settings, path: str) -> Tuple[Model, ...]:
    """The models that answer ``path``, in the order of models.json."""
    return tuple(model for model in settings.models if path in PATHS[model.type])


def needs_router(settings: Settings) -> bool:
    """Whether some path has more than one model."""
    return any(len(rivals(settings, path)) > 1 for path in routes(settings))
