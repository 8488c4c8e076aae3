"""An operator with a guide in hand: every command that asks the services answers as it is written there.

Rules: curl, typed as the text has it, with the host's address in place of HOST and the key in place of KEY; ports are those
that the kit's own .env names; the manual that the bundle carries is a guide, too, in both of its languages.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Installed
from tests.support.kit_fixtures import settings
from tests.testbed.servers.world import HOST

TYPED = "-H 'Content-Type: application/json' -H 'Authorization: Bearer KEY'"
GUIDE = {
    "health": "curl http://HOST:ROUTER/health",
    "chat": f'curl http://HOST:CHAT/v1/chat/completions {TYPED} -d \'{{"model": "tiny-chat", '
    '"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}\'',
    "embedding": f'curl http://HOST:EMBEDDING/v1/embeddings {TYPED} -d \'{{"model": "tiny-embed", "input": ["one", "two"]}}\'',
    "rerank": f'curl http://HOST:RERANK/v1/rerank {TYPED} -d \'{{"model": "tiny-rerank", "query": "capital of France", '
    '"documents": ["Paris", "A cat sleeps.", "It rains."]}\'',
}


def test_the_ports_are_those_that_the_guide_names(installed: Installed) -> None:
    assert _ports(installed) == {"ROUTER": "8000", "CHAT": "8001", "EMBEDDING": "8002", "RERANK": "8003"}


@pytest.mark.parametrize("what", GUIDE)
def test_the_guides_examples_answer(installed: Installed, what: str) -> None:
    command = GUIDE[what].replace("HOST", HOST).replace("KEY", installed.key)
    for name, port in _ports(installed).items():
        command = command.replace(f":{name}/", f":{port}/")
    status, body = _typed(installed, command)
    assert status == 200 and _holds(what, body), body


@pytest.mark.parametrize("what", [what for what in GUIDE if what != "health"])
def test_without_the_key_or_with_another_they_are_refused(installed: Installed, what: str) -> None:
    command = GUIDE[what].replace("HOST", HOST)
    for name, port in _ports(installed).items():
        command = command.replace(f":{name}/", f":{port}/")
    for refused in (command, command.replace(" -H 'Authorization: Bearer KEY'", "")):
        status, body = _typed(installed, refused)
        assert (status, json.loads(body)["error"]["code"]) == (401, 401)


@pytest.mark.parametrize("manual", ["README.md", "README.zh.md"])
def test_the_manuals_examples_answer(installed: Installed, manual: str) -> None:
    commands = _commands(installed.kit / manual)
    key = next(command for command in commands if command.startswith("KEY="))
    asked = [command for command in commands if command.startswith("curl ")]
    found = {part for command in asked for part in ("chat", "embedding", "rerank") if part in command}
    assert found == {"chat", "embedding", "rerank"} and len(asked) >= 8
    for command in asked:
        status, body = _typed(installed, f"{key}\n{command}")
        assert status == 200, f"{command}\n{body}"


def _ports(kit: Installed) -> dict[str, str]:
    found = settings(kit.kit / ".env")
    return {name: found[f"VLLM_{name}_PORT"] for name in ("ROUTER", "CHAT", "EMBEDDING", "RERANK")}


def _commands(manual: Path) -> list[str]:
    """The commands of a manual's code blocks, each with the lines that go on with it."""
    lines = [line for line in manual.read_text().splitlines() if line.startswith("    ")]
    return re.sub(r"\\\n\s*", "", "\n".join(line.removeprefix("    ") for line in lines)).splitlines()


def _typed(kit: Installed, command: str) -> tuple[int, str]:
    """The status and body that a command line with one curl in it gets, typed in the kit's folder."""
    shell = f"curl() {{ command curl -sS --max-time 60 -w '\\n%{{http_code}}' \"$@\"; }}\n{command}"
    argv = kit.host.argv("/bin/bash", "-euc", shell)
    done = subprocess.run(argv, cwd=kit.kit, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def _holds(what: str, body: str) -> bool:
    if what == "health":
        return bool(json.loads(body) == {"status": "ok"})
    answer: dict[str, Any] = json.loads(body)
    if what == "chat":
        return bool(answer["choices"][0]["message"]["content"])
    if what == "embedding":
        return [len(item["embedding"]) > 1 for item in answer["data"]] == [True, True]
    return sorted(item["index"] for item in answer["results"]) == [0, 1, 2]
