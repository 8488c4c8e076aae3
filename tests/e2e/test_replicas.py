"""Two engines of one model, one of which goes: within a second the other answers, and later both do again.

Rules: (1) a question every 50 ms, answered or not, so that a gap between two answers is the gateway's and not the client's;
(2) the second is a promise of the product: it holds from the last answer before an engine went to those well after; (3) both
ways to go: `docker kill`, which to Docker is a stop by hand and ends with `deploy.sh start`, and a crash, after which Docker
starts the engine by itself.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Installed, api_key, make_host, stop_kit, unpack
from tests.support.load_clients import Answer, Crowd, longest_gap, table
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # minutes: make test-long runs it

ENGINES = ("engine-chat", "engine-chat-2")
BEAT, GAP = 0.05, 1.0  # seconds
AFTERWARDS = 10.0  # seconds after an engine went that are looked at: what rests for two seconds is tried again several times
BACK_WITHIN = 300.0


@pytest.fixture(scope="module")
def kit(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The kit of the chat model, of which its operator wants two engines."""
    folder = tmp_path_factory.mktemp("replicas")
    with Dockerd(folder / "d", airgap=True) as dockerd:
        host = make_host(dockerd, folder / "path")
        unpacked = unpack(chat_bundle, host, folder / "host")
        done = host.run("./install.sh", "--yes", "--no-start", cwd=unpacked)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        services = unpacked / "config/models.json"
        data = json.loads(services.read_text())
        data["models"]["chat"]["replicas"] = 2
        services.write_text(json.dumps(data, indent=2))
        started = host.run("./scripts/deploy.sh", "start", cwd=unpacked)
        assert started.returncode == 0, started.stderr
        installed = Installed(unpacked, host, api_key(unpacked), started.stderr)
        yield installed
        stop_kit(installed)


def test_both_engines_answer(kit: Installed, tmp_path: Path) -> None:
    assert set(kit.host.containers()) == {f"/demo-{name}-1" for name in (*ENGINES, "gateway")}
    since = f"{time.time():.3f}"
    with _beat(kit, tmp_path) as crowd:
        time.sleep(3)
    assert len(crowd.answers) > 20 and all(answer.good for answer in crowd.answers), table(crowd.answers)
    assert _who_answered(kit, since) == set(ENGINES)


@pytest.mark.parametrize("gone", ENGINES)
def test_killed_by_hand_the_other_answers_within_a_second(kit: Installed, tmp_path: Path, gone: str) -> None:
    other = next(name for name in ENGINES if name != gone)
    answers, moment = _while_beaten(kit, tmp_path, lambda: kit.host.docker.docker("kill", _container(gone)))
    _one_answers_at_once(answers, moment, f"docker kill of {gone}")
    assert _who_answered(kit, f"{moment[1] + 0.5:.3f}") == {other}
    assert kit.host.run("./scripts/deploy.sh", "status", cwd=kit.kit).returncode == 6
    with _beat(kit, tmp_path) as crowd:
        started = kit.host.run("./scripts/deploy.sh", "start", cwd=kit.kit)
    assert started.returncode == 0, started.stderr
    assert [answer for answer in crowd.answers if not answer.good] == []
    print(f"while it starts: longest gap {longest_gap(crowd.answers):.2f} s")
    _both_again(kit, tmp_path)


def test_crashed_the_other_answers_within_a_second_and_it_comes_back_by_itself(kit: Installed, tmp_path: Path) -> None:
    gone, docker = ENGINES[1], kit.host.docker.docker
    pid = int(docker("inspect", "--format", "{{.State.Pid}}", _container(gone)))
    answers, moment = _while_beaten(kit, tmp_path, lambda: os.kill(pid, signal.SIGKILL))
    _one_answers_at_once(answers, moment, f"crash of {gone}")
    deadline, seen = time.monotonic() + BACK_WITHIN, ""
    while seen != "false healthy":
        assert time.monotonic() < deadline, seen
        time.sleep(1)
        seen = docker("inspect", "--format", "{{.State.Restarting}} {{.State.Health.Status}}", _container(gone))
    _both_again(kit, tmp_path)


def _while_beaten(kit: Installed, folder: Path, go: Callable[[], object]) -> tuple[list[Answer], tuple[float, float]]:
    """Answers around the moment at which an engine is made to go, and that moment: from before it to after it."""
    with _beat(kit, folder) as crowd:
        time.sleep(3)
        before = time.time()
        go()
        after = time.time()
        time.sleep(AFTERWARDS)
    return crowd.answers, (before, after)


def _one_answers_at_once(answers: list[Answer], moment: tuple[float, float], what: str) -> None:
    gap = longest_gap(answers, moment[0], moment[1] + AFTERWARDS - 1)
    slowest = max(answer.ended - answer.began for answer in answers if answer.good and answer.began > moment[0])
    bad = [answer for answer in answers if not answer.good]
    print(f"\n{what}: longest gap between two answers {gap:.2f} s, slowest answer {slowest:.2f} s, refused or cut {len(bad)}")
    print(table(answers))
    # a question that an engine had when it went is told so; no other one fails
    assert [answer for answer in bad if answer.fault or answer.status != 502] == []
    assert [answer for answer in bad if answer.began > moment[1]] == []
    assert gap <= GAP


def _both_again(kit: Installed, folder: Path) -> None:
    """Within a few seconds both engines have questions again."""
    deadline, since = time.monotonic() + 30, f"{time.time():.3f}"
    while _who_answered(kit, since) != set(ENGINES):
        assert time.monotonic() < deadline, _who_answered(kit, since)
        with _beat(kit, folder) as crowd:
            time.sleep(2)
        assert [answer for answer in crowd.answers if not answer.good] == [], table(crowd.answers)
    assert kit.host.run("./scripts/deploy.sh", "status", cwd=kit.kit).returncode == 0


def _beat(kit: Installed, folder: Path) -> Crowd:
    return Crowd(kit.host.argv(), folder, kit.key, {"router": 8000}, beat=BEAT)


def _container(service: str) -> str:
    return f"demo-{service}-1"


def _who_answered(kit: Installed, since: str) -> set[str]:
    """The engines that the gateway's log names, since then."""
    log = kit.host.docker.docker("logs", "--since", since, _container("gateway"))
    entries = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return {entry["replica"] for entry in entries if entry["path"].startswith("/v1/") and entry["status"] == 200}
