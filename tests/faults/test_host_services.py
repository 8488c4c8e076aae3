"""Services that are started, on disks that fail, with a clock that went back, by a Docker that dies; an upgrade likewise.

Rules: one kit is installed and every test leaves it serving; its engine is a stand-in that answers, Docker is real.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.clock import set_back
from tests.faults.disks import read_only, unreadable_file
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # services are started again and again


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A kit that serves."""
    shelf = scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))
    with Dockerd(tmp_path_factory.mktemp("e") / "d", airgap=True) as engine:
        made = kit_fixtures.make_version(shelf, tmp_path_factory.mktemp("kit") / "kit", engine, name="serving")
        done = made.run("install.sh", "--yes")
        assert done.returncode == 0, done.stderr
        yield made
        made.clean()


@pytest.fixture
def new(host: Host, tmp_path: Path) -> Host:
    """v1.1.0 of it, as it came."""
    shelf = scripts_kit.make_shelf(tmp_path / "shelf")
    made = kit_fixtures.make_version(shelf, tmp_path / "kit", host.dockerd, name="serving", version="v1.1.0")
    kit_fixtures.edit_models(made, "chat", gpu_memory_utilization=0.25)
    kit_fixtures.reseal(made, "config/models.json")
    return made


@pytest.mark.fault("install: start", "read-only", "exit 4, which says so; what serves goes on serving")
def test_read_only(host: Host) -> None:
    with read_only(host.kit):
        done = host.deploy("restart")
    assert done.returncode == 4 and "read-only" in done.stderr and host.serves("v1.0.0"), done.stderr


@pytest.mark.fault("install: start", "unreadable", "exit 1, which names the file; what serves goes on serving")
def test_settings_unreadable(host: Host, tmp_path: Path) -> None:
    """The disk fails below the operator's configuration, which is large enough to have a block of its own."""
    settings = host.kit / "config/vllm_config.yaml"
    before = settings.read_text()
    settings.write_text(before + "# a line that is here for its length\n" * 400)
    with unreadable_file(tmp_path, settings, 8192):
        done = host.deploy("restart")
    settings.write_text(before)
    assert done.returncode == 1 and "config/vllm_config.yaml: Input/output error" in done.stderr, done.stderr
    assert host.serves("v1.0.0")


@pytest.mark.fault("install: start", "clock set back", "what was stopped is started and healthy")
def test_clock_set_back(host: Host, tmp_path: Path) -> None:
    assert host.deploy("stop").returncode == 0
    env = {**host.env, **set_back(tmp_path)}
    done = scripts_kit.run(host.kit, "scripts/deploy.sh", "start", env=env, prefix=host.dockerd.nsenter)
    assert done.returncode == 0 and host.serves("v1.0.0"), done.stderr


@pytest.mark.fault("upgrade", "SIGINT, SIGTERM", "exit 130 in the middle of the switch, and the old version serves")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_upgrade_is_interrupted(host: Host, new: Host, number: signal.Signals) -> None:
    with host.begin("upgrade", str(new.kit)) as run:
        assert run.stderr
        for line in run.stderr:
            if line.startswith("==> Switch to"):
                threading.Timer(1.0, run.send_signal, [number]).start()
    assert run.returncode == 130 and host.serves("v1.0.0")


@pytest.mark.fault("upgrade", "clock set back", "it goes through, and back")
def test_an_upgrade_with_the_clock_set_back(host: Host, new: Host, tmp_path: Path) -> None:
    env = {**host.env, **set_back(tmp_path)}
    for kit, words, version in ((host.kit, ("upgrade", str(new.kit)), "v1.1.0"), (new.kit, ("rollback",), "v1.0.0")):
        done = scripts_kit.run(kit, "scripts/deploy.sh", *words, env=env, prefix=host.dockerd.nsenter)
        assert done.returncode == 0 and (new if version == "v1.1.0" else host).serves(version), done.stderr


def docker_dies(host: Host, *words: str, mark: str, shims: int = 0, seconds: float = 0) -> tuple[int, str]:
    """The verb, and Docker killed once the line with ``mark`` was said, ``shims`` more containers began, ``seconds`` passed.

    What the verb ended with and said; Docker is back then.
    """

    def kill() -> None:
        before, deadline = len(host.dockerd.shims()), time.monotonic() + 60
        while len(host.dockerd.shims()) < before + shims and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(seconds)
        host.dockerd.die()

    killer = threading.Thread(target=kill)
    talk: list[str] = []
    with host.begin(*words) as run:
        assert run.stderr
        for line in run.stderr:
            talk.append(line)
            if mark in line and not killer.ident:
                killer.start()
    assert killer.ident, talk
    killer.join()
    host.dockerd.start()
    return run.returncode, "".join(talk)


@pytest.mark.fault(
    "install: start", "dockerd dies", "exit 6, which says that Docker does not answer; when it is back, it starts"
)
@pytest.mark.parametrize(
    "verb, shims, seconds",
    [("start", 0, 0), ("start", 1, 0), ("restart", 0, 0.3), ("start", 3, 1)],
    ids=["asked", "starts one", "makes them", "waited for"],
)
def test_docker_dies(host: Host, verb: str, shims: int, seconds: float) -> None:
    """A container whose start it was about to note may be left, which it cannot start again."""
    if verb == "start":
        assert host.deploy("stop").returncode == 0
    code, talk = docker_dies(host, verb, mark="engine-rerank: starting", shims=shims, seconds=seconds)
    assert code == 6 and ("Docker does not answer" in talk or "Docker stopped answering" in talk), talk
    done = host.deploy("start")
    assert done.returncode == 0 and host.serves("v1.0.0"), done.stderr


@pytest.mark.fault(
    "upgrade",
    "dockerd dies",
    "exit 4, 5 or 6, which says that Docker does not answer; when it is back, it goes through "
    "(in the middle of the switch: after `start`, by which the old version serves)",
)
@pytest.mark.parametrize(
    "mark, shims, code",
    [("==> Files of", 0, 4), (": loading", 0, 5), ("==> Settings", 0, 5), ("engine-rerank: starting", 1, 6)],
    ids=["checks", "images", "settings", "switch"],
)
def test_docker_dies_in_an_upgrade(host: Host, new: Host, mark: str, shims: int, code: int) -> None:
    if mark == ": loading":  # it is the same image for both, and known already
        host.dockerd.docker("rmi", "--force", kit_fixtures.settings(new.kit / "deploy/kit.env")["KIT_IMAGE_engine"])
    ended, talk = docker_dies(host, "upgrade", str(new.kit), mark=mark, shims=shims)
    assert ended == code and ("Docker does not answer" in talk or "Docker stopped answering" in talk), talk
    if code == 6:
        done = host.deploy("start")
        assert done.returncode == 0 and host.serves("v1.0.0"), done.stderr
    for kit, words, version in ((host, ("upgrade", str(new.kit)), "v1.1.0"), (new, ("rollback",), "v1.0.0")):
        done = kit.deploy(*words)
        assert done.returncode == 0 and (new if version == "v1.1.0" else host).serves(version), done.stderr
