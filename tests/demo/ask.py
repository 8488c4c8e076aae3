"""A client as a user would write it: one question to one service of a kit, with the OpenAI client library.

usage: ask.py chat|stream|embeddings|similar|rerank|status [--base URL] [--key KEY] [--model NAME] [--expect TEXT] [--json]
       [--path PATH] [--method GET|POST]
Prints a readable line, or with --json the answer's facts; exit code 1 also where ``--expect`` is not in that line. ``status``
only asks which HTTP status a path answers with.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from openai import OpenAI

DOCUMENTS = ["Paris is the capital of France.", "An offline bundle holds models.", "The quick brown fox jumps."]
QUESTION = "What is the capital of France?"
RELATED, UNRELATED = ("A cat sleeps on the sofa.", "The kitten naps on the couch."), "Interest rates rose by a quarter point."


def chat(options: argparse.Namespace) -> dict[str, Any]:
    """One answer, whole."""
    answer = _client(options).chat.completions.create(
        model=options.model or "tiny-chat",
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=16,
        temperature=0,
    )
    used = answer.usage
    return {"text": answer.choices[0].message.content, "tokens": used.completion_tokens if used else None}


def stream(options: argparse.Namespace) -> dict[str, Any]:
    """One answer, token by token."""
    pieces = _client(options).chat.completions.create(
        model=options.model or "tiny-chat",
        messages=[{"role": "user", "content": QUESTION}],
        max_tokens=16,
        temperature=0,
        stream=True,
    )
    texts = [piece.choices[0].delta.content or "" for piece in pieces if piece.choices]
    return {"pieces": len(texts), "text": "".join(texts)}


def embeddings(options: argparse.Namespace) -> dict[str, Any]:
    """Two vectors."""
    answer = _client(options).embeddings.create(
        model=options.model or "tiny-embed", input=DOCUMENTS[:2], encoding_format="float"
    )
    vectors = [item.embedding for item in answer.data]
    return {"vectors": len(vectors), "width": len(vectors[0]), "norm": sum(x * x for x in vectors[0]) ** 0.5}


def similar(options: argparse.Namespace) -> dict[str, Any]:
    """How near two related sentences are, and an unrelated one: cosines."""
    answer = _client(options).embeddings.create(
        model=options.model or "tiny-embed", input=[*RELATED, UNRELATED], encoding_format="float"
    )
    one, other, third = (item.embedding for item in answer.data)
    near, far = (sum(x * y for x, y in zip(one, vector, strict=True)) for vector in (other, third))
    return {"related": round(near, 3), "unrelated": round(far, 3), "nearer": "the related one" if near > far else "the other"}


def rerank(options: argparse.Namespace) -> dict[str, Any]:
    """Three documents, the best first."""
    question = {"model": options.model or "tiny-rerank", "query": QUESTION, "documents": DOCUMENTS}
    request = urllib.request.Request(
        f"{options.base}/v1/rerank",
        data=json.dumps(question).encode(),
        headers={"Authorization": f"Bearer {options.key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        results = json.load(answer)["results"]
    return {"order": [item["index"] for item in results], "scores": [item["relevance_score"] for item in results]}


def status(options: argparse.Namespace) -> dict[str, Any]:
    """The status and type of an answer; status 0 when nothing listens. The path goes over the wire as it is written."""
    where = urlsplit(options.base)
    key = f"Authorization: Bearer {options.key}\r\n" if options.key else ""
    body = "{}" if options.method == "POST" else ""
    text = (
        f"{options.method} {options.path} HTTP/1.1\r\nHost: {where.netloc}\r\n{key}Connection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    )
    try:
        with socket.create_connection((where.hostname, where.port or 80), timeout=15) as line:
            line.sendall(text.encode())
            answer = b"".join(iter(lambda: line.recv(65536), b"")).decode(errors="replace")
    except OSError as error:
        return {"status": 0, "error": str(error)}
    head, _, rest = answer.partition("\r\n\r\n")
    return {"status": int(head.split(" ", 2)[1]), "head": head, "body": rest}


def _client(options: argparse.Namespace) -> OpenAI:
    from openai import OpenAI  # takes a second to import, and half of the verbs need it not

    return OpenAI(base_url=f"{options.base}/v1", api_key=options.key or "none", max_retries=0, timeout=120)


VERBS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "chat": chat, "stream": stream, "embeddings": embeddings, "similar": similar, "rerank": rerank, "status": status
}  # fmt: skip


def main() -> int:
    """Asks; exit code 0, or 1 when there was no answer of the expected shape."""
    parser = argparse.ArgumentParser(description="One question to one service of a kit.")
    parser.add_argument("what", choices=VERBS)
    parser.add_argument("--base", default="http://127.0.0.1:8000")
    parser.add_argument("--key", default="")
    parser.add_argument("--model", default="")
    parser.add_argument("--expect", default="")
    parser.add_argument("--path", default="/health")
    parser.add_argument("--method", default="GET")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        answer = VERBS[options.what](options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        print(f"ask {options.what}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    line = ", ".join(f"{name} {value!r}" for name, value in answer.items())
    print(json.dumps(answer) if options.json else f"{options.what:11} {line}")
    if options.expect not in line:
        print(f"ask {options.what}: there is no {options.expect!r} in the answer", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
