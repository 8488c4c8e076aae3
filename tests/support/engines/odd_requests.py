"""Requests that a client with a key may send: each feature of the API, and odd values of each parameter.

Rules: a request is (path, body as the text that goes over the wire), so that a body need not be JSON; each is small, for an
engine on two cores answers thousands of them; what an engine must do with one is not said here, only that it lives on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Request = tuple[str, str]
CHAT, TEXT, EMBED, RERANK, SCORE = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/rerank", "/v1/score"
MESSAGES = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "adds", "parameters": SCHEMA}}]
NAMED = {"type": "function", "function": {"name": "add"}}
ODD: list[Any] = [
    *(None, -1, 0, 1, 2**31, 2**63, 2**70, -(2**70), 1e308, -1e308, 1.5, True),
    *("", "x", "nan", "\u0000", "\ud800", "x" * 5000, [], [None], [[]], [-1], [2**70], {}, {"": None}, {"a": {"b": [1]}}),
]
NUMBERS = [float("nan"), float("inf"), float("-inf")]  # no JSON, and yet read by many


def nested(depth: int, opening: str = "[", closing: str = "]") -> str:
    return opening * depth + closing * depth


def _base(model: str, path: str) -> dict[str, Any]:
    body: dict[str, Any] = {"model": model}
    if path == CHAT:
        return {**body, "messages": MESSAGES, "max_tokens": 2}
    if path == TEXT:
        return {**body, "prompt": "hi", "max_tokens": 2}
    if path == EMBED:
        return {**body, "input": "hi"}
    return (
        {**body, "query": "hi", "documents": ["a", "b"]} if path == RERANK else {**body, "text_1": "hi", "text_2": ["a", "b"]}
    )


_SAMPLING = (
    *("max_tokens", "min_tokens", "n", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids", "bad_words"),
    *(
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "length_penalty",
        "logit_bias",
        "logprobs",
        "prompt_logprobs",
    ),
    *("use_beam_search", "ignore_eos", "skip_special_tokens", "truncate_prompt_tokens", "stream", "stream_options", "priority"),
    *(
        "structured_outputs",
        "response_format",
        "allowed_token_ids",
        "cache_salt",
        "vllm_xargs",
        "request_id",
        "add_special_tokens",
    ),
    *("kv_transfer_params", "return_token_ids", "logits_processors", "user", "echo", "min_tokens"),
)
PARAMETERS: dict[str, tuple[str, ...]] = {
    CHAT: (
        *_SAMPLING,
        "messages",
        "model",
        "top_logprobs",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning_effort",
        "chat_template",
        "chat_template_kwargs",
        "add_generation_prompt",
        "continue_final_message",
        "documents",
        "max_completion_tokens",
        "mm_processor_kwargs",
        "media_io_kwargs",
    ),
    TEXT: (*_SAMPLING, "prompt", "model", "suffix", "best_of", "prompt_embeds"),
    EMBED: (
        "input",
        "model",
        "encoding_format",
        "dimensions",
        "truncate_prompt_tokens",
        "user",
        "priority",
        "messages",
        "embed_dtype",
    ),
    RERANK: ("query", "documents", "model", "top_n", "truncate_prompt_tokens", "priority", "activation"),
    SCORE: ("text_1", "text_2", "model", "truncate_prompt_tokens", "queries", "documents"),
}


def features(model: str) -> Iterator[Request]:
    """What a chat engine is asked for in earnest."""
    schema = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}
    ways: list[dict[str, Any]] = [
        {"logprobs": True, "top_logprobs": 3},
        {"n": 3, "temperature": 1},
        {"seed": 7, "temperature": 1, "top_p": 0.5, "top_k": 5},
        {"presence_penalty": 1, "frequency_penalty": 1, "repetition_penalty": 1.2},
        {"logit_bias": {"20": 50}},
        {"min_p": 0.1},
        {"use_beam_search": True, "n": 2, "temperature": 0},
        {"response_format": {"type": "json_object"}},
        {"stop": ["a", "e"]},
        {"response_format": schema},
        {"structured_outputs": {"regex": "[0-9]{2}"}},
        {"structured_outputs": {"choice": ["a", "b"]}},
        {"structured_outputs": {"grammar": 'root ::= "a" | "b"'}},
        {"structured_outputs": {"json": SCHEMA}},
        {"stream": True},
        {"tools": TOOLS},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "none"},
        {"tools": TOOLS, "tool_choice": NAMED},
    ]
    for more in ways:
        yield CHAT, json.dumps({**_base(model, CHAT), **more})
    for more in ({"echo": True, "logprobs": 2}, {"prompt": ["a", "b"]}, {"prompt": [20, 21]}, {"prompt": [[20], [21, 22]]}):
        yield TEXT, json.dumps({**_base(model, TEXT), **more})


def odd_values(model: str, paths: tuple[str, ...]) -> Iterator[Request]:
    """Each parameter of each path with each odd value."""
    for path in paths:
        for name in dict.fromkeys(PARAMETERS[path]):
            for value in (*ODD, *NUMBERS):
                yield path, json.dumps({**_base(model, path), name: value})


def odd_structures(model: str) -> Iterator[Request]:
    """Schemas, expressions and grammars that are wrong, endless or huge; tools and messages of odd forms."""
    deep: dict[str, Any] = {"type": "integer"}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    itself = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    wide = {"type": "object", "properties": {f"p{n}": {"enum": [f"v{m}" for m in range(20)]} for n in range(200)}}
    schemas = [
        *({}, {"type": "nonsense"}, {"$ref": "#/nowhere"}, {"$ref": "http://example.com/schema"}, {"type": []}, {"enum": []}),
        *(
            {"pattern": "("},
            {"type": "string", "pattern": "(a+)+$"},
            {"type": "integer", "minimum": 5, "maximum": 1},
            deep,
            itself,
            wide,
        ),
        *({"type": "array", "minItems": 10**9, "items": {"type": "integer"}}, {"patternProperties": {"^a": {}}}, {"not": {}}),
        *({"type": "string", "minLength": 10**9}, {"type": "string", "format": "date-time"}, {"anyOf": []}, {"const": None}),
    ]
    constraints: list[dict[str, Any]] = [{"json": schema} for schema in schemas]
    constraints += [
        {"regex": text} for text in ("", "(", "(a+)+b", "a{1000000}", "[", "\\", "(?=a)b", "\\b", "(?P<n>a)(?P=n)", "." * 2000)
    ]
    constraints += [{"choice": items} for items in ([], [""], ["a"] * 2000, [1], ["\u0000"], [None])]
    constraints += [
        {"grammar": text}
        for text in ("", "x", "root ::= root", 'root ::= "a', "root ::= undefined", 'start: "a"', "root ::= " * 500)
    ]
    constraints += [{"structural_tag": text} for text in ("", "{", "{}", '{"structures": [], "triggers": []}')]
    constraints += [
        {"json": "{"},
        {"json": nested(5000, '{"a":', "}")},
        {"regex": "a", "choice": ["a"]},
        {"_backend": "x", "regex": "a"},
    ]
    constraints += [{"json_object": False}, {"disable_any_whitespace": 5, "json": {}}, {"whitespace_pattern": "(", "json": {}}]
    for constraint in constraints:
        yield CHAT, json.dumps({**_base(model, CHAT), "max_tokens": 4, "structured_outputs": constraint})
    for schema in schemas:
        wrapped = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        yield CHAT, json.dumps({**_base(model, CHAT), "response_format": wrapped})
        tools = [{"type": "function", "function": {"name": "a", "parameters": schema}}]
        yield CHAT, json.dumps({**_base(model, CHAT), "tools": tools, "tool_choice": "required"})
    for messages in (
        [{"role": "nobody", "content": "x"}],
        [{"role": "user"}],
        [{"content": "x"}],
        [{"role": "user", "content": 5}],
        [5],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://example.com/x.png"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}]}],
        [{"role": "user", "content": [{"type": "text", "text": "x"}] * 300}],
        [{"role": "assistant", "tool_calls": [{"id": 1}]}],
        [{"role": "tool", "content": "x", "tool_call_id": 5}],
        [{"role": "user", "content": "word " * 20000}],
        MESSAGES * 500,
    ):
        yield CHAT, json.dumps({**_base(model, CHAT), "messages": messages})


def odd_bodies(model: str, path: str) -> Iterator[Request]:
    """Bodies that are no JSON, or JSON of another form."""
    whole = json.dumps(_base(model, path))
    texts = ("", "{", "null", "5", '"x"', "[]", "\x00", whole[:-1], whole + whole, whole[:-1] + ',"x":' + "9" * 5000 + "}")
    yield from ((path, text) for text in texts)
    for depth in (100, 5000, 200_000):
        yield path, whole[:-1] + f',"x":{nested(depth)}' + "}"
        deep = nested(depth, '{"a":', "}").replace(":}", ":1}", 1)
        yield path, whole[:-1] + f',"chat_template_kwargs":{deep}' + "}"
    yield path, json.dumps({**_base(model, path), **{f"unknown_{n}": n for n in range(500)}})
    yield path, json.dumps({**_base(model, path), "model": model, "x" * 10000: 1})
