"""Real weights through the gateway: what transformers says of the same files, streams, structured output."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.support.engines.real_models import ADAPTER, CHAT, EMBEDDING, RERANK, RealKit, write_project
from tests.support.hosts import install_kit, make_host, stop_kit
from tests.testbed import images, models
from tests.testbed.__main__ import hub_of_models
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed

pytestmark = pytest.mark.long  # minutes: make test-long runs it
PROMPTS = ["The capital of France is", "Once upon a time, there was a", "Water boils at a temperature of"]
TEXTS = ["A cat sleeps on the sofa.", "The kitten naps on the couch.", "Interest rates rose by a quarter point."]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}, "required": ["a", "b"]}
ASKED = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 32, "temperature": 0}


@pytest.fixture(scope="module")
def real(testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKit]:
    """The demo with real weights, on a host of its own without a network."""
    folder = tmp_path_factory.mktemp("r")
    with images.workshop() as shop:
        weights = models.real_folder(shop)
    with testbed.registry(folder / "registry") as registry, hub_of_models(weights) as hub:
        manifest = write_project(folder, registry.host, hub.url)
        done = offline_kit("build", "--version", "v1", "-m", manifest, "-o", folder / "out", "--store", folder / "store")
    assert done.returncode == 0, done.stderr
    assert "is a bi-encoder (BertModel)" in done.stderr
    with Dockerd(folder / "d", airgap=True) as dockerd:
        installed = install_kit(Path(done.stdout.strip()), make_host(dockerd, folder / "path"), folder / "host")
        yield RealKit(installed)
        stop_kit(installed)


def test_what_transformers_says_of_the_same_files(real: RealKit) -> None:
    expected = real.reference(PROMPTS, TEXTS)
    body = {"model": CHAT, "prompt": PROMPTS, "max_tokens": 16, "temperature": 0, "ignore_eos": True}
    status, answer = real.ask("/v1/completions", body)
    assert status == 200, answer
    assert [choice["text"] for choice in answer["choices"]] == expected["replies"]
    assert len({*expected["replies"], *expected["adapted"]}) == 2 * len(PROMPTS), "the adapter says other words"
    status, answer = real.ask("/v1/completions", {**body, "model": ADAPTER})
    assert status == 200 and answer["model"] == ADAPTER, answer
    assert [choice["text"] for choice in answer["choices"]] == expected["adapted"]
    status, answer = real.ask("/v1/embeddings", {"model": EMBEDDING, "input": TEXTS})
    assert status == 200, answer
    vectors = [item["embedding"] for item in answer["data"]]
    for vector, other in zip(vectors, expected["vectors"], strict=True):
        assert vector == pytest.approx(other, abs=1e-3)
    near, far = (sum(x * y for x, y in zip(vectors[0], vector, strict=True)) for vector in vectors[1:])
    assert near > far + 0.3


def test_the_adapter_is_routed_by_its_name(real: RealKit) -> None:
    """At the router's port, in a stream too, beside the model that it changes; another name is refused."""
    status, answer = real.ask("/v1/models", None)
    listed = {model["id"]: model.get("parent") for model in answer["data"]}
    assert status == 200 and set(listed) == {CHAT, ADAPTER, EMBEDDING, RERANK} and listed[ADAPTER] == CHAT, answer
    texts: dict[str, str] = {}
    for name in (CHAT, ADAPTER, CHAT):
        status, text = real.ask("/v1/chat/completions", {"model": name, "stream": True, **ASKED})
        assert status == 200 and f'"model":"{name}"' in text, text
        pieces = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
        told = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
        assert texts.setdefault(name, told) == told, "the adapter changes nothing of its model"
    assert "Paris" in texts[CHAT] and texts[CHAT] != texts[ADAPTER]
    status, answer = real.ask("/v1/chat/completions", {"model": "no-such-adapter", **ASKED})
    assert status == 404, answer


def test_tool_calls(real: RealKit) -> None:
    """One that it must make is made, by its schema where that is strict (vLLM's hermes parser else takes any JSON)."""
    function = {"name": "add", "description": "Adds two numbers.", "parameters": SCHEMA, "strict": True}
    tool = {"type": "function", "function": function}
    body = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Add 2 and 3."}],
        "max_tokens": 96,
        "temperature": 0,
        "tools": [tool],
    }
    named = {"type": "function", "function": {"name": "add"}}
    for choice in (named, "required"):
        status, answer = real.ask("/v1/chat/completions", {**body, "tool_choice": choice})
        assert status == 200, answer
        (call,) = answer["choices"][0]["message"]["tool_calls"]
        given = json.loads(call["function"]["arguments"])
        assert call["function"]["name"] == "add" and isinstance(given["a"], int) and isinstance(given["b"], int), call
    status, text = real.ask("/v1/chat/completions", {**body, "tool_choice": named, "stream": True})
    pieces = [json.loads(line[6:])["choices"] for line in text.splitlines() if line.startswith("data: {")]
    calls = [call["function"] for choices in pieces for choice in choices for call in choice["delta"].get("tool_calls") or ()]
    assert status == 200 and [call["name"] for call in calls if call.get("name")] == ["add"], text
    assert isinstance(json.loads("".join(call.get("arguments") or "" for call in calls))["a"], int)
    status, answer = real.ask("/v1/chat/completions", body)
    assert status == 200 and (answer["choices"][0]["message"]["content"] or answer["choices"][0]["message"]["tool_calls"]), (
        answer
    )


def test_it_knows_the_capital_of_france_whole_and_as_a_stream(real: RealKit) -> None:
    status, answer = real.ask("/v1/chat/completions", {"model": CHAT, **ASKED})
    assert status == 200 and "Paris" in answer["choices"][0]["message"]["content"], answer
    status, text = real.ask("/v1/chat/completions", {"model": CHAT, "stream": True, **ASKED})
    pieces = [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]
    told = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
    assert told == answer["choices"][0]["message"]["content"] and len(pieces) > 3 and text.rstrip().endswith("data: [DONE]")


def test_rerank_puts_the_right_document_first(real: RealKit) -> None:
    documents = ["A cat sleeps on the sofa.", "Tar archives keep many files in one.", "Paris is the capital of France."]
    body = {"model": RERANK, "query": "What is the capital of France?", "documents": documents}
    status, answer = real.ask("/v1/rerank", body)
    assert status == 200 and answer["results"][0]["index"] == 2, answer
    assert answer["results"][0]["relevance_score"] > answer["results"][1]["relevance_score"] + 0.3


def test_structured_output(real: RealKit) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA}}
    body = {
        "model": CHAT,
        "messages": [{"role": "user", "content": "Two numbers as JSON."}],
        "max_tokens": 64,
        "temperature": 0,
    }
    status, answer = real.ask("/v1/chat/completions", {**body, "response_format": form})
    assert status == 200, answer
    found = json.loads(answer["choices"][0]["message"]["content"])
    assert isinstance(found["a"], int) and isinstance(found["b"], int)
