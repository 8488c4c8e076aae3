"""What a real vLLM and a real Docker say when something is broken, in one line of the kit's own.

Rules: (1) one thing is broken in an installed kit, by hand; `deploy.sh restart` must name it and end with its documented code;
(2) what was broken is put right again, and the kit then serves: the next test relies on that.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Installed, install_kit, make_host, stop_kit
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # minutes: make test-long runs it

LISTEN = (
    "import socket, sys, time; s = socket.create_server(('', int(sys.argv[1]))); print('there', flush=True); time.sleep(600)"
)


@pytest.fixture(scope="module")
def kit(chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    folder = tmp_path_factory.mktemp("reasons")
    with Dockerd(folder / "d", airgap=True) as dockerd:
        done = install_kit(chat_bundle, make_host(dockerd, folder / "path"), folder / "host")
        yield done
        stop_kit(done)


def deploy(kit: Installed, *words: str) -> subprocess.CompletedProcess[str]:
    return kit.host.run("./scripts/deploy.sh", *words, cwd=kit.kit)


@contextlib.contextmanager
def broken(kit: Installed, name: str, content: bytes | None) -> Iterator[None]:
    """A file of the kit with other content, or without it."""
    path = kit.kit / name
    aside = kit.kit.parent / "aside"
    path.rename(aside)
    if content is not None:
        path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        aside.rename(path)
        started = deploy(kit, "restart", "engine-chat")
        assert started.returncode == 0, started.stderr


def test_weights_that_are_not_there(kit: Installed) -> None:
    with broken(kit, "models/chat/model.safetensors", None):
        done = deploy(kit, "restart", "engine-chat")
    assert done.returncode == 6 and "has no weights that the engine can read: scripts/verify.sh shows" in done.stderr, (
        done.stderr
    )


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_weights_that_are_cut_off(kit: Installed, part: float) -> None:
    data = (kit.kit / "models/chat/model.safetensors").read_bytes()
    with broken(kit, "models/chat/model.safetensors", data[: int(len(data) * part)]):
        done = deploy(kit, "restart", "engine-chat")
    assert done.returncode == 6 and "a model file is truncated or damaged: scripts/verify.sh" in done.stderr, done.stderr


def test_a_configuration_that_is_cut_off(kit: Installed) -> None:
    data = (kit.kit / "models/chat/config.json").read_bytes()
    with broken(kit, "models/chat/config.json", data[:-10]):
        done = deploy(kit, "restart", "engine-chat")
    assert done.returncode in (3, 6) and "config.json" in done.stderr, done.stderr


def test_a_port_that_somebody_took(kit: Installed) -> None:
    assert deploy(kit, "stop").returncode == 0
    argv = kit.host.argv(sys.executable, "-c", LISTEN, "8001")
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as listener:
        assert listener.stdout and listener.stdout.readline() == b"there\n"
        done = deploy(kit, "start")
        listener.kill()
    started = deploy(kit, "start")
    assert started.returncode == 0, started.stderr
    assert done.returncode != 0 and "8001" in done.stderr and "taken" in done.stderr, done.stderr
