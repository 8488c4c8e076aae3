"""Which paths an engine of each type answers, and which models answer a path of the router.

Rules: a path that is not here does not exist for clients; where several models answer one path, the request's ``model``
decides, and the first in models.json answers a request that names none. Pure.
"""

from __future__ import annotations

from typing import Dict, Tuple

from .model import Model, Settings

# Every engine has a tokenizer: vLLM serves these whatever its task.
_ALL = ("/tokenize", "/detokenize")
# What each type of engine answers, all by POST.
PATHS: Dict[str, Tuple[str, ...]] = {
    "chat": (
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        *_ALL,
    ),
    "embedding": ("/v1/embeddings", "/pooling", *_ALL),
    "rerank": ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score", "/classify", "/pooling", *_ALL),
}


def routes(settings: Settings) -> Dict[str, Model]:
    """Path on the router -> the model that answers it unless a request names another: the first of its type."""
    return {path: models_on_path(settings, path)[0] for model in settings.models for path in PATHS[model.type]}


def models_on_path(settings: Settings, path: str) -> Tuple[Model, ...]:
    """The models that answer ``path``, in the order of models.json."""
    return tuple(model for model in settings.models if path in PATHS[model.type])


def needs_router(settings: Settings) -> bool:
    """Whether two models are of one type, so that a path of that type has more than one."""
    # Not for the tokenizers alone: without the router, port 8000 asks the first model's, and each model's own port its own.
    return len({model.type for model in settings.models}) < len(settings.models)
