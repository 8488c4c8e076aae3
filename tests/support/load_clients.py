"""Clients that never stop asking: a program for the inside of a host's network, and what it saw there.

Rules: (1) standard library alone, and an HTTP client of its own: an answer is whole only when it ended as it announced (its
length, or the last chunk) and holds what was asked for; (2) a refusal is whole when it is JSON in the shape of OpenAI's errors
with its own status in it; (3) everything else has a fault, in words; (4) a crowd asks again when it was answered, a beat asks
at fixed times, answered or not, unless very many are under way; (5) when the block ends, what was asked is waited for.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PATIENCE = 150.0  # seconds for one answer: with two cores and hundreds of clients it is the engines' queue that takes long
WAITING = 16  # questions of a beat that may be under way: more would measure the queue of a busy machine
TEXTS = ["Paris is the capital of France.", "An offline bundle holds models.", "The quick brown fox jumps."]
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "tiny-chat", "max_tokens": 8, "stream": True}),
    "short": ("/v1/chat/completions", {"model": "tiny-chat", "max_tokens": 1}),
    "embedding": ("/v1/embeddings", {"model": "tiny-embed", "input": TEXTS}),
    "rerank": ("/v1/rerank", {"model": "tiny-rerank", "query": "capital of France", "documents": TEXTS}),
}
for _kind in ("chat", "short"):
    QUESTIONS[_kind][1]["messages"] = [{"role": "user", "content": "What is the capital of France?"}]
# of a hundred clients; `stranger` has no key or a wrong one, `large` announces more than the gateway takes
SHARES = {"chat": 50, "embedding": 24, "rerank": 20, "stranger": 5, "large": 1}
EXPECTED = {"stranger": 401, "large": 413}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What became of one question; status 0: nothing was answered. `fault` is empty when the answer or refusal is whole."""

    kind: str
    began: float
    ended: float
    status: int
    fault: str

    @property
    def good(self) -> bool:
        """The question was answered, or refused as this kind of question has to be."""
        return not self.fault and self.status == EXPECTED.get(self.kind, 200)


class Crowd:
    """Clients of a kit that ask while the block runs; `answers` are there when it has ended.

    `enter` is what runs a program inside the host's network, `ports` are the router's and each type's own. With `beat`
    (seconds) one short question to the router is asked every so often; without, `clients` ask all kinds of questions.
    """

    def __init__(
        self, enter: Sequence[str], folder: Path, key: str, ports: Mapping[str, int], *, clients: int = 0, beat: float = 0
    ) -> None:
        self._argv = [*enter, sys.executable, str(Path(__file__).resolve())]
        self._plan = {"key": key, "ports": dict(ports), "clients": clients, "beat": beat}
        self._out = folder / f"answers-{time.monotonic_ns()}"
        self.answers: list[Answer] = []

    def __enter__(self) -> Crowd:
        with self._out.open("wb") as out:
            self._process = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=out, text=True)
        assert self._process.stdin
        self._process.stdin.write(json.dumps(self._plan) + "\n")
        self._process.stdin.flush()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            code = self._process.wait(PATIENCE + 60)
        finally:
            self._process.kill()
        self.answers = [Answer(**json.loads(line)) for line in self._out.read_text().splitlines()]
        assert code == 0


def table(answers: Sequence[Answer]) -> str:
    """Figures for people: each kind's number of answers, by status, and how long the good ones took."""
    rows = [f"{'kind':<10} {'asked':>6} {'p50 s':>7} {'p99 s':>7}  by status"]
    for kind in sorted({answer.kind for answer in answers}):
        mine = [answer for answer in answers if answer.kind == kind]
        took = sorted(answer.ended - answer.began for answer in mine if answer.good) or [0.0]
        middle, late = took[len(took) // 2], took[min(len(took) - 1, len(took) * 99 // 100)]
        counts = collections.Counter(f"{answer.status} {answer.fault}".strip() for answer in mine)
        statuses = ", ".join(f"{status}: {count}" for status, count in sorted(counts.items()))
        rows.append(f"{kind:<10} {len(mine):>6} {middle:>7.2f} {late:>7.2f}  {statuses}")
    return "\n".join(rows)


def longest_gap(answers: Sequence[Answer], since: float = 0, until: float = float("inf")) -> float:
    """The longest time between two good answers, from the last one before `since` to the first one after `until`."""
    moments = sorted(answer.ended for answer in answers if answer.good)
    before, after = [moment for moment in moments if moment < since], [moment for moment in moments if moment > until]
    assert before or not since, "no good answer before that"
    assert after or until == float("inf"), "no good answer after that"
    between = [*before[-1:], *(moment for moment in moments if since <= moment <= until), *after[:1]]
    return max(late - early for early, late in itertools.pairwise(between))


# ---- inside


async def _exchange(port: int, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer. Raises EOFError when it ends early."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"POST {path} HTTP/1.1", "Host: kit", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status, answered = int(head[0].split(" ")[1]), dict(_header(line) for line in head[1:] if line)
        if answered.get("transfer-encoding") != "chunked":
            return status, answered, await reader.readexactly(int(answered["content-length"]))
        pieces = []
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            pieces.append((await reader.readexactly(size + 2))[:-2])
        await reader.readexactly(2)
        return status, answered, b"".join(pieces)
    finally:
        writer.close()


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.lower(), value.strip()


def _stream(body: bytes) -> bool:
    events = [event.removeprefix(b"data: ") for event in body.split(b"\n\n") if event]
    pieces = [json.loads(event) for event in events[:-1]]
    reasons = [choice["finish_reason"] for piece in pieces for choice in piece["choices"]]
    return events[-1] == b"[DONE]" and bool(reasons) and reasons[-1] in ("length", "stop")


HOLDS: dict[str, Callable[[bytes], bool]] = {
    "chat": _stream,
    "short": lambda body: json.loads(body)["choices"][0]["finish_reason"] in ("length", "stop"),
    "embedding": lambda body: [len(item["embedding"]) > 1 for item in json.loads(body)["data"]] == [True] * len(TEXTS),
    "rerank": lambda body: sorted(item["index"] for item in json.loads(body)["results"]) == list(range(len(TEXTS))),
}


def _fault(kind: str, status: int, headers: Mapping[str, str], body: bytes) -> str:
    try:
        if status == 200:
            if kind in EXPECTED:
                return "answered, and should not have been"
            return "" if HOLDS[kind](body) else f"not what was asked for: {body[-200:]!r}"
        error = json.loads(body)["error"]
        whole = error["code"] == status and error["message"] and headers["content-type"].startswith("application/json")
    except (ValueError, LookupError, TypeError) as error:
        return f"{type(error).__name__} {error} in {body[-200:]!r}"
    return "" if whole else f"not a refusal: {body[-200:]!r}"


async def _ask(kind: str, plan: Mapping[str, Any], dice: random.Random) -> Answer:
    about = kind if kind in QUESTIONS else dice.choice(("chat", "embedding", "rerank"))
    path, question = QUESTIONS[about]
    body = json.dumps(question).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    if kind != "stranger":
        headers["Authorization"] = f"Bearer {plan['key']}"
    elif dice.random() < 0.5:
        headers["Authorization"] = f"Bearer {plan['key'][:-1]}"
    if kind == "large":
        headers["Content-Length"], body = str(65 << 20), b""
    port = plan["ports"]["router" if kind == "short" else dice.choice(("router", about))]
    began, status, fault = time.time(), 0, ""
    try:
        status, answered, content = await asyncio.wait_for(_exchange(port, path, headers, body), PATIENCE)
        fault = _fault(kind, status, answered, content)
    except (OSError, EOFError, LookupError, ValueError, asyncio.TimeoutError) as error:
        fault = f"lost: {type(error).__name__}"
    answer = Answer(kind, began, time.time(), status, fault)
    print(json.dumps(dataclasses.asdict(answer)), flush=True)
    return answer


async def _client(number: int, plan: Mapping[str, Any], stop: asyncio.Event) -> None:
    dice = random.Random(number)
    # from all kinds in turn, so that few clients are a mixture, too
    kinds = [kind for kind, share in SHARES.items() for _ in range(share)]
    random.Random(0).shuffle(kinds)
    while not stop.is_set():
        answer = await _ask(kinds[number % len(kinds)], plan, dice)
        # one that was refused comes back later, as Retry-After asks
        await asyncio.sleep(dice.uniform(0, 0.1) if answer.status == 200 else dice.uniform(0.5, 1.5))


async def _beat(plan: Mapping[str, Any], stop: asyncio.Event) -> None:
    dice, asked, turn = random.Random(0), set[asyncio.Task[Answer]](), time.monotonic()
    while not stop.is_set():
        asked = {task for task in asked if not task.done()}
        if len(asked) < WAITING:
            asked.add(asyncio.create_task(_ask("short", plan, dice)))
        turn += plan["beat"]
        await asyncio.sleep(max(0.0, turn - time.monotonic()))
    await asyncio.gather(*asked)


async def _main() -> None:
    plan, stop, loop = json.loads(sys.stdin.readline()), asyncio.Event(), asyncio.get_running_loop()

    def listen() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=listen, daemon=True).start()
    if plan["beat"]:
        await _beat(plan, stop)
    else:
        await asyncio.gather(*(_client(number, plan, stop) for number in range(plan["clients"])))


if __name__ == "__main__":
    asyncio.run(_main())
