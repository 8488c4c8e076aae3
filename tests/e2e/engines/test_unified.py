"""The unified image, built by scripts/build.sh and run alone by ``docker run``, where there is no way out.

Rules: real Docker with its classic builder, real vLLM on the CPU; the host has a loopback and nothing else; what is asked is
asked by curl on the published ports, as a guide has it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import project
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.registry import Registry, clone

pytestmark = pytest.mark.long
KEY = "a-key-of-32-characters-for-tests"
IMAGE = "offline-kit/vllm-unified"
BY_PATH: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"model": "tiny-chat", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}),
    "embedding": ("/v1/embeddings", {"model": "tiny-embed", "input": ["one", "two"]}),
    "rerank": ("/v1/rerank", {"model": "tiny-rerank", "query": "capital of France", "documents": ["Paris", "A cat"]}),
}
PORTS = {"chat": 8001, "embedding": 8002, "rerank": 8003}


@pytest.fixture(scope="module")
def built(testbed: Testbed, airgap: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The image with models (tag ``with``) and without (``without``); gives the folder of these models."""
    work = tmp_path_factory.mktemp("unified")
    with testbed.registry(work / "outside") as registry, testbed.hub() as hub:
        port = int(registry.host.rpartition(":")[2])
        inside = Registry(clone(testbed.storage, work / "storage"), work / "inside", port=port, prefix=airgap.nsenter)
        with inside:  # the same for the daemon, which is in a network of its own
            manifest = project(work, registry.host, hub.url)
            for tag, more in (("with", ["--build-arg", "DOWNLOAD_MODELS=true"]), ("without", ["--unified", "--skip-models"])):
                command = [str(REPOSITORY / "scripts/build.sh"), "--tag", tag, "--manifest", str(manifest), *more]
                around = {**os.environ, **airgap.env, "DOCKER_BUILDKIT": "0"}
                done = subprocess.run(
                    [*command, "--store", str(work / "store")],
                    env=around,
                    cwd=work,
                    capture_output=True,
                    text=True,
                    check=False,
                )
                assert done.returncode == 0 and done.stdout == f"{IMAGE}:{tag}\n", done.stderr
    assert not list(work.glob(".build-context*"))
    for key, name in (("chat", "tiny-chat"), ("embedding", "tiny-embed"), ("rerank", "tiny-rerank")):
        shutil.copytree(testbed.models / name, work / "models" / key)
    yield work / "models"
    airgap.docker("rmi", "--force", f"{IMAGE}:with", f"{IMAGE}:without")


@pytest.mark.parametrize("tag", ["with", "without"])
def test_it_serves_alone_and_brings_back_what_dies(airgap: Dockerd, built: Path, tag: str) -> None:
    label = airgap.docker("image", "inspect", "--format", '{{index .Config.Labels "io.offline-kit.models"}}', f"{IMAGE}:{tag}")
    assert label == {"with": "carried", "without": "none"}[tag]
    mount = ["--volume", f"{built}:/app/models:ro"] if tag == "without" else []
    strict = ["--read-only", "--tmpfs", "/tmp:exec", "--cap-drop", "ALL"] if tag == "without" else []
    # the guide's network_mode: host, and the usual
    ports = ["--network", "host"] if tag == "without" else ["--publish", "8000-8003:8000-8003"]
    more = [*ports, "--env", f"VLLM_API_KEY={KEY}", *mount, *strict]
    airgap.docker("run", "--detach", "--pull", "never", "--name", "unified", *more, f"{IMAGE}:{tag}")
    try:
        _until(lambda: _health(airgap) == "healthy", 300, airgap)
        _answers(airgap)
        if tag == "without":
            assert _open_ports(airgap) == {8000, 8001, 8002, 8003}, "no engine has one"
        if tag == "with":
            _comes_back(airgap)
        airgap.docker("stop", "unified")
        assert airgap.docker("inspect", "--format", "{{.State.ExitCode}}", "unified") == "0"
        assert airgap.docker("logs", "unified").endswith("[supervisor] ended")
    finally:
        airgap.docker("rm", "--force", "unified")


def test_without_models_it_says_so(airgap: Dockerd, built: Path) -> None:
    assert built
    done = airgap.run(["docker", "run", "--rm", "--pull", "never", f"{IMAGE}:without"])
    assert done.returncode == 3 and "there is no model in it -> docker run -v" in done.stdout


def _answers(airgap: Dockerd) -> None:
    for key, (path, question) in BY_PATH.items():
        for port in (8000, PORTS[key]):
            status, answer = _ask(airgap, port, path, question)
            assert status == 200, answer
            assert answer.get("choices") or len(answer.get("data") or answer["results"]) == 2
            assert _ask(airgap, port, path, question, key="")[0] == 401
            assert _ask(airgap, port, path, question, key=KEY[:-1])[0] == 401
        assert _ask(airgap, 8001 if key != "chat" else 8002, path, question)[0] == 404
    assert _ask(airgap, 8000, BY_PATH["chat"][0], {**BY_PATH["chat"][1], "model": "other"})[0] == 404
    stream = [
        *_curl(8000, BY_PATH["chat"][0], KEY),
        "--no-buffer",
        "--data",
        json.dumps({**BY_PATH["chat"][1], "stream": True}),
    ]
    assert airgap.run(stream).stdout.count("data: ") >= 3
    with_names = _ask(airgap, 8000, "/v1/models", None)[1]
    assert [entry["id"] for entry in with_names["data"]] == ["tiny-chat", "tiny-embed", "tiny-rerank"]


def _comes_back(airgap: Dockerd) -> None:
    """One engine is killed: the others go on, health tells of it, and it comes back."""
    assert _kill_embedding(airgap) == 1
    _until(lambda: _ask(airgap, 8000, "/health", None)[0] == 503, 30, airgap)
    assert _ask(airgap, 8002, *BY_PATH["embedding"])[0] == 503
    assert _ask(airgap, 8001, *BY_PATH["chat"])[0] == 200
    # three checks of Docker's, 5 seconds apart: it may be back before
    _until(lambda: _health(airgap) == "unhealthy" or _kill_embedding(airgap) > 1, 60, airgap)
    _until(lambda: _health(airgap) == "healthy", 300, airgap)
    assert _ask(airgap, 8002, *BY_PATH["embedding"])[0] == 200
    log = airgap.docker("logs", "unified")
    assert "[supervisor] embedding ended with signal SIGKILL: again in 1 s" in log
    assert log.count("[supervisor] embedding is ready") == 2 and log.count("[supervisor] chat is ready") == 1
    assert "[embedding] serving embedding: vllm serve /models/embedding" in log and KEY not in log
    assert {line.partition("]")[0] for line in log.splitlines()} == {"[supervisor", "[router", "[chat", "[embedding", "[rerank"}


def _open_ports(airgap: Dockerd) -> set[int]:
    """The ports on which anybody listens on another address than the loopback's."""
    rows = [line.split() for line in airgap.run(["cat", "/proc/net/tcp", "/proc/net/tcp6"]).stdout.splitlines()]
    places = [row[1].split(":") for row in rows if len(row) > 3 and row[3] == "0A"]
    inside = re.compile("0100007F|00000000000000000000000001000000|0000000000000000FFFF00000100007F")
    return {int(port, 16) for address, port in places if not inside.fullmatch(address)}


def _kill_embedding(airgap: Dockerd) -> int:
    """How many engines of it there were: none while it waits for its turn."""
    listed = airgap.docker("top", "unified", "-eo", "pid,args").splitlines()
    pids = [int(line.split()[0]) for line in listed if "vllm serve /models/embedding" in line]  # ps may cut lines at 80
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return len(pids)


def _health(airgap: Dockerd) -> str:
    return airgap.docker("inspect", "--format", "{{.State.Health.Status}}", "unified")


def _curl(port: int, path: str, key: str) -> list[str]:
    typed = ["--header", "Content-Type: application/json", *(["--header", f"Authorization: Bearer {key}"] if key else [])]
    return ["curl", "-sS", "--max-time", "60", f"http://127.0.0.1:{port}{path}", *typed]


def _ask(airgap: Dockerd, port: int, path: str, question: dict[str, Any] | None, key: str = KEY) -> tuple[int, Any]:
    data = ["--data", json.dumps(question)] if question else []
    said = airgap.run([*_curl(port, path, key), *data, "--write-out", "\n%{http_code}"]).stdout
    body, _, status = said.rpartition("\n")
    return int(status or 0), json.loads(body or "{}")


def _until(done: Callable[[], bool], seconds: float, airgap: Dockerd) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise AssertionError(airgap.run(["docker", "logs", "--tail", "200", "unified"]).stdout)
        time.sleep(0.5)
