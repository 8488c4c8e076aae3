"""Hundreds of clients at once for a while, keys that come and go, an engine that crashes: nothing is lost that need not be.

Rules: (1) one run, which all tests judge: for OFFLINE_KIT_LOAD_SECONDS (120), OFFLINE_KIT_LOAD_CLIENTS (200) stream chats,
embed, rank, send too much, or have no key; (2) no test asks how fast it is: the figures are printed for people; (3) the
crash is what the kernel does to a process that takes too much memory; `docker kill`, to Docker a stop by hand, is tried in
test_replicas.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.conftest import Built
from tests.support.hosts import Installed, api_key, make_host, stop_kit, unpack
from tests.support.kit_fixtures import settings
from tests.support.load_clients import Answer, Crowd, table
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # minutes: make test-long runs it

SECONDS, CLIENTS = (
    int(os.environ.get(f"OFFLINE_KIT_LOAD_{name}", usual)) for name, usual in (("SECONDS", 120), ("CLIENTS", 200))
)
CRASHED = "embedding"
BACK_WITHIN = 600.0  # seconds, while hundreds of clients keep both cores busy; about 25 when it is quiet


@pytest.fixture(scope="module")
def kit(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The demo kit with ports 80 and 443 besides, on a Docker of its own."""
    folder = tmp_path_factory.mktemp("load")
    with Dockerd(folder / "d", airgap=True) as dockerd:
        host = make_host(dockerd, folder / "path")
        unpacked = unpack(built.bundle, host, folder / "host")
        done = host.run("./install.sh", "--yes", "--with", "nginx", cwd=unpacked)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        installed = Installed(unpacked, host, api_key(unpacked), done.stdout + done.stderr)
        yield installed
        stop_kit(installed)


@dataclass(frozen=True)
class Run:
    """What happened, and when (as time.time() has it)."""

    answers: list[Answer]
    keys: tuple[float, float]
    new_key: tuple[int, int]
    crash: tuple[float, float]

    def between(self, moments: tuple[float, float]) -> list[Answer]:
        """Answers to questions that were under way at any time between these moments."""
        return [answer for answer in self.answers if answer.ended >= moments[0] and answer.began <= moments[1]]


@pytest.fixture(scope="module")
def run(kit: Installed, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run: after a tenth of the time a key comes and goes, then an engine crashes."""
    folder, began = tmp_path_factory.mktemp("crowd"), time.time()
    with Crowd(kit.host.argv(), folder, kit.key, _ports(kit), clients=CLIENTS) as crowd:
        time.sleep(SECONDS / 10)
        begin = time.time()
        added = _deploy(kit, "keys", "add", "team-a")
        there = _status(kit, added.stdout.strip())
        revoked = _deploy(kit, "keys", "revoke", "team-a")
        assert (added.returncode, revoked.returncode) == (0, 0), added.stderr + revoked.stderr
        keys = (begin, time.time())
        gone = _status(kit, added.stdout.strip())
        time.sleep(SECONDS / 20)
        crash = (time.time(), _crash_and_wait(kit))
        time.sleep(max(5.0, began + SECONDS - time.time()))
    print(
        f"\n{CLIENTS} clients, {time.time() - began:.0f} s; keys add and revoke took {keys[1] - keys[0]:.1f} s under that load;"
    )
    print(f"engine-{CRASHED} was back {crash[1] - crash[0]:.0f} s after its crash")
    print(table(crowd.answers))
    return Run(crowd.answers, keys, (there, gone), crash)


def test_no_answer_is_lost(run: Run) -> None:
    """But for questions to the engine that crashed, everybody got a whole answer or a refusal in order."""
    others = [answer for answer in run.answers if answer not in _excused(run)]
    assert [answer for answer in others if answer.fault] == []
    assert {answer.status for answer in others} <= {200, 401, 413, 429, 503}
    assert {answer.kind for answer in others if answer.good} == {"chat", "embedding", "rerank", "stranger", "large"}
    assert sum(answer.good for answer in others) > CLIENTS


def test_nobody_is_answered_without_a_key(run: Run) -> None:
    strangers = [answer for answer in run.answers if answer.kind == "stranger"]
    assert strangers and {answer.status for answer in strangers} == {401}


def test_a_key_that_comes_and_goes_drops_nothing(run: Run) -> None:
    assert run.new_key == (200, 401)
    excused = _excused(run)  # some waited so long in the engine's queue that they met its crash
    meanwhile = [answer for answer in run.between(run.keys) if answer not in excused]
    assert meanwhile and [answer for answer in meanwhile if not answer.good] == []


def test_an_engine_that_crashed_comes_back_and_only_its_model_failed(kit: Installed, run: Run) -> None:
    failed = [answer for answer in run.answers if not answer.good]
    assert {answer.kind for answer in failed} == {CRASHED}
    assert [answer for answer in failed if answer not in _excused(run)] == []
    # whoever came while it was down was refused in order; whoever had asked before saw the connection end
    cut = [answer for answer in failed if answer.fault]
    assert [answer for answer in cut if answer.began > run.crash[0] + 1] == []
    assert {answer.status for answer in failed if not answer.fault} <= {502, 503}
    again = [answer for answer in run.answers if answer.kind == CRASHED and answer.began > run.crash[1]]
    assert again and all(answer.good for answer in again)
    assert _deploy(kit, "status").returncode == 0


def test_the_guides_examples_on_port_80(kit: Installed) -> None:
    """As an operator types them who was told that the kit has nginx."""
    key, question = f"Authorization: Bearer {kit.key}", '{"model": "tiny-embed", "input": "a text"}'
    post = ["http://127.0.0.1/v1/embeddings", "-H", "Content-Type: application/json", "-d", question]
    for arguments, status in ((["http://127.0.0.1/health"], "200"), (post, "401"), ([*post, "-H", key], "200")):
        command = kit.host.argv("/usr/bin/curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *arguments)
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout) == (0, status), done.stderr


def _excused(run: Run) -> list[Answer]:
    return [answer for answer in run.between(run.crash) if answer.kind == CRASHED]


def _ports(kit: Installed) -> dict[str, int]:
    found = settings(kit.kit / ".env")
    models = json.loads((kit.kit / "config/models.json").read_text())["models"]
    own = {key: int(found[f"VLLM_{key.upper()}_PORT"]) for key in models}
    return {"router": int(found["VLLM_ROUTER_PORT"]), **own}


def _deploy(kit: Installed, *arguments: str) -> subprocess.CompletedProcess[str]:
    return kit.host.run("./scripts/deploy.sh", *arguments, cwd=kit.kit)


def _status(kit: Installed, key: str) -> int:
    return int(kit.host.ask("status", "--path", "/v1/models", "--key", key)["status"])


def _crash_and_wait(kit: Installed) -> float:
    """Kills the engine's process from outside of its container, and returns when it is healthy again: when that was."""
    container, docker = f"demo-engine-{CRASHED}-1", kit.host.docker.docker
    os.kill(int(docker("inspect", "--format", "{{.State.Pid}}", container)), signal.SIGKILL)
    deadline, seen = time.monotonic() + BACK_WITHIN, ""
    while seen != "1 false healthy":
        assert time.monotonic() < deadline, seen
        time.sleep(1)
        seen = docker("inspect", "--format", "{{.RestartCount}} {{.State.Restarting}} {{.State.Health.Status}}", container)
    return time.time()
