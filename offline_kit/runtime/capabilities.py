"""What each engine can do of the API, asked as a client would: ``smoke --full``.

Rules: a question is one request with the least that shows its feature; an answer counts by its content; a refusal of the engine
(4xx) with a reason is something that it cannot do, and is said; no answer, a fault (5xx) or nonsense is a fault of the service.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Tuple

from .settings.model import Model

CHAT, TEXT, EMBED, RERANK = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank"
POOL, CLASSIFY = "/pooling", "/classify"
_SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
_TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds two numbers.", "parameters": _SCHEMA}}]
_NAMED = {"type": "function", "function": {"name": "add"}}
_SAY: Dict[str, Any] = {"messages": [{"role": "user", "content": "Count to three."}], "max_tokens": 16, "temperature": 0}
_WRITE: Dict[str, Any] = {"prompt": "One, two,", "max_tokens": 4, "temperature": 0}
_PAIR = {"query": "capital of France", "documents": ["A cat sleeps.", "Paris is the capital of France."]}


class Question(NamedTuple):
    """``right``: whether the decoded answer (of a stream: its text) shows the feature; of another shape, it may fail."""

    feature: str
    path: str
    body: Dict[str, Any]
    right: Callable[[Any], bool]


def questions(model: Model) -> Iterator[Question]:
    """What the engine of ``model`` is asked."""
    for feature, path, body, right in {"chat": _CHAT, "embedding": _EMBEDDING, "rerank": _RERANK}[model.type]:
        yield Question(feature, path, {"model": model.name, **body}, right)


def _text(answer: Any) -> str:
    choice = answer["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


def _some(answer: Any) -> bool:
    return all("text" in choice or choice["message"] for choice in answer["choices"])


def _choices(count: int) -> Callable[[Any], bool]:
    return lambda answer: len(answer["choices"]) == count and _some(answer)


def _object(answer: Any) -> bool:
    # A model that has nothing to say may not come to the end of an object; what there is of it must be one.
    ended = answer["choices"][0]["finish_reason"] == "stop"
    text = _text(answer).strip()
    return isinstance(json.loads(text), dict) if ended else text[:1] in ("{", "")


def _matches(expression: str) -> Callable[[Any], bool]:
    return lambda answer: re.fullmatch(expression, _text(answer)) is not None


def _called(answer: Any) -> bool:
    return bool(answer["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "add")


def _vectors(answer: Any) -> List[Any]:
    return [item["embedding"] for item in answer["data"]]


def _base64(answer: Any) -> bool:
    return len(base64.b64decode(_vectors(answer)[0], validate=True)) % 4 == 0


def _numbers(items: Any) -> bool:
    return len(items) > 0 and all(isinstance(item, float) for item in items)


def _scores(answer: Any) -> bool:
    return all(isinstance(item["relevance_score"], float) for item in answer["results"])


def _constrained(constraint: Dict[str, Any]) -> Dict[str, Any]:
    return {**_SAY, "structured_outputs": constraint}


_Rows = List[Tuple[str, str, Dict[str, Any], Callable[[Any], bool]]]
_CHAT: _Rows = [
    ("stream", CHAT, {**_SAY, "stream": True}, lambda text: "data: [DONE]" in text),
    ("several answers (n)", CHAT, {**_SAY, "n": 2, "temperature": 1}, _choices(2)),
    (
        "log probabilities",
        CHAT,
        {**_SAY, "logprobs": True, "top_logprobs": 2},
        lambda a: len(a["choices"][0]["logprobs"]["content"]) > 0,
    ),
    ("penalties", CHAT, {**_SAY, "presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1}, _some),
    ("sampling, seed", CHAT, {**_SAY, "temperature": 0.8, "top_p": 0.9, "top_k": 20, "min_p": 0.01, "seed": 1}, _some),
    ("bias, stop", CHAT, {**_SAY, "logit_bias": {"1": -1}, "stop": ["three"]}, _some),
    ("beam search", TEXT, {**_WRITE, "use_beam_search": True, "n": 2}, _choices(2)),
    ("echo of the prompt", TEXT, {**_WRITE, "echo": True, "logprobs": 1}, lambda a: _text(a).startswith("One, two,")),
    ("several prompts", TEXT, {**_WRITE, "prompt": ["One, two,", "Three,"]}, _choices(2)),
    ("prompt of tokens", TEXT, {**_WRITE, "prompt": [20, 21, 22]}, _some),
    ("JSON object", CHAT, {**_SAY, "response_format": {"type": "json_object"}}, _object),
    (
        "JSON by schema",
        CHAT,
        {**_SAY, "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}}},
        _object,
    ),
    ("regular expression", CHAT, _constrained({"regex": "[0-9]{3}"}), _matches("[0-9]{3}")),
    ("choice", CHAT, _constrained({"choice": ["red", "green"]}), _matches("red|green")),
    ("grammar", CHAT, _constrained({"grammar": 'root ::= "yes" | "no"'}), _matches("yes|no")),
    ("tools, as it likes", CHAT, {**_SAY, "tools": _TOOLS}, _some),
    ("tools, one it must", CHAT, {**_SAY, "max_tokens": 64, "tools": _TOOLS, "tool_choice": _NAMED}, _called),
    (
        "/v1/responses",
        "/v1/responses",
        {"input": "Count to three.", "max_output_tokens": 16, "store": False},
        lambda a: bool(a["output"]),
    ),
    ("/v1/messages", "/v1/messages", {"messages": _SAY["messages"], "max_tokens": 16}, lambda a: bool(a["content"])),
    ("/tokenize", "/tokenize", {"prompt": "One, two"}, lambda a: len(a["tokens"]) == a["count"] > 0),
]
_EMBEDDING: _Rows = [
    ("several texts", EMBED, {"input": ["one", "two", "three"]}, lambda a: len(_vectors(a)) == 3),
    ("as base64", EMBED, {"input": "one", "encoding_format": "base64"}, _base64),
    ("of tokens", EMBED, {"input": [20, 21, 22]}, lambda a: len(_vectors(a)) == 1),
    ("of several lists of tokens", EMBED, {"input": [[20, 21], [22]]}, lambda a: len(_vectors(a)) == 2),
    ("shorter vectors (dimensions)", EMBED, {"input": "one", "dimensions": 16}, lambda a: len(_vectors(a)[0]) == 16),
    ("/pooling", POOL, {"input": "one", "task": "embed"}, lambda a: _numbers(a["data"][0]["data"])),
    ("/pooling, of each token", POOL, {"input": "one two", "task": "token_embed"}, lambda a: len(a["data"][0]["data"]) > 1),
    ("cut to the limit", EMBED, {"input": "one " * 9999, "truncate_prompt_tokens": -1}, lambda a: len(_vectors(a)) == 1),
]
_RERANK: _Rows = [
    ("the best alone (top_n)", RERANK, {**_PAIR, "top_n": 1}, lambda a: len(a["results"]) == 1 and _scores(a)),
    ("/v2/rerank", "/v2/rerank", _PAIR, lambda a: len(a["results"]) == 2 and _scores(a)),
    ("/v1/score", "/v1/score", {"text_1": "capital", "text_2": ["Paris", "a cat"]}, lambda a: len(a["data"]) == 2),
    (
        "/classify",
        CLASSIFY,
        {"input": ["one", "two"]},
        lambda a: [_numbers(item["probs"]) for item in a["data"]] == [True, True],
    ),
    ("/pooling", POOL, {"input": "one", "task": "classify"}, lambda a: _numbers(a["data"][0]["data"])),
    ("cut to the limit", RERANK, {"query": "cat", "documents": ["cat " * 9999], "truncate_prompt_tokens": -1}, _scores),
]
