"""What an engine image answers in a rehearsal, honest or not."""

from __future__ import annotations

import json

import pytest

from offline_kit.common.errors import RehearsalFailed
from offline_kit.rehearsal.answers import Answer, Captured, read_lines, read_receipt
from offline_kit.rehearsal.attempts import Attempt, places, tell

NOTED = {"pid": 7, "target": "hub.example", "step": "tokenizer", "place": "x.py:3"}
HONEST = {"model": "chat", "pid": 7, "done": {"arguments": "accepted"}, "failed": None, "asked": [NOTED]}


def test_what_an_honest_image_says() -> None:
    said = f"a line of talk\n{json.dumps(HONEST)}\n" + json.dumps({"start": [], "pid": 1})
    first, last = read_lines(said, Answer)
    assert (first.model, first.done, last.model) == ("chat", {"arguments": "accepted"}, "")
    seen = {"asked": "name", "target": "hub.example", "pid": 7, "command": "python3", "parents": [1]}
    records = read_lines("\n".join(map(json.dumps, ({"ready": True}, seen, {"ended": True, "lost": 0}))), Captured)
    attempts = [Attempt.of(record) for record in records if record.asked]
    (line,) = tell(attempts, places([first, last]), {7: "chat"}, "engine")
    assert line.startswith(
        "chat: tokenizer: asked for the address of hub.example (container engine, process 7, python3, at x.py:3)"
    )
    assert records[-1].ended


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{" * 100_000,
        '{"pid": ' + "9" * 5000 + "}",
        '{"model": "chat"}',
        json.dumps({**HONEST, "pid": "7"}),
        json.dumps({**HONEST, "model": ["chat"]}),
        json.dumps({**HONEST, "done": ["arguments"]}),
        json.dumps({**HONEST, "done": {"arguments": None}}),
        json.dumps({**HONEST, "failed": "yes"}),
        json.dumps({**HONEST, "asked": [{"pid": 7}]}),
        '{"model": "\\ud800", "pid": 7}',
    ],
)
def test_what_a_bad_image_says_is_its_fault(line: str) -> None:
    with pytest.raises(RehearsalFailed, match="the engine image answers what this kit never writes"):
        read_lines(f"talk\n{line}\n", Answer)


def test_what_is_told_of_it_is_one_printable_line() -> None:
    said = json.dumps({**HONEST, "done": {"arguments": "a\n\x1b[31m\u202e" + "b" * 9000}})
    assert read_lines(said, Answer)[0].done == {"arguments": "a??[31m?" + "b" * 392}


@pytest.mark.parametrize("smoke", ['"yes"', '{"checks": {"a": 1}}', '{"checks": [{"name": "a"}]}', "[", '{"checks": [5]}'])
def test_a_receipt_with_another_smoke_test(smoke: str) -> None:
    assert read_receipt(
        b'{"result": "installed", "smoke": {"ok": true, "checks": [{"name": "a", "ok": true, "able": true}]}}'
    ) == {"a"}
    with pytest.raises(RehearsalFailed):
        read_receipt(f'{{"smoke": {smoke}}}'.encode())
