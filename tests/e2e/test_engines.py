"""Engines newer than the oldest that is promised, from Debian's archive: the kit installs, runs, and installs again in vain.

Rules: one installation an engine, of the chat model alone; each image store's own form of an image ID is expected and seen.
The oldest engine (20.10) carries all other end-to-end tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import Host, Installed
from tests.support.hosts import install_kit, make_host, stop_kit
from tests.testbed import engines
from tests.testbed.servers.capture import Capture
from tests.testbed.servers.world import ADDRESS, HOST, World

pytestmark = pytest.mark.long  # minutes: make test-long runs it


@dataclass(frozen=True)
class OnEngine:
    """The kit, up and healthy on one engine, and the capture of that host's network."""

    engine: engines.Engine
    installed: Installed
    capture: Capture

    @property
    def host(self) -> Host:
        return self.installed.host

    def address(self, container: str) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        return self.host.docker.docker("inspect", "--format", form, container).split()[0]


@pytest.fixture(scope="module", params=engines.NEWER, ids=lambda engine: str(engine.name))
def kit(request: pytest.FixtureRequest, chat_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnEngine]:
    engine: engines.Engine = request.param
    folder = tmp_path_factory.mktemp("e")
    with engine.dockerd(folder / "d") as dockerd:
        assert dockerd.namespace
        with World(dockerd.namespace, folder / "world.log"), Capture(dockerd, folder / "packets") as capture:
            installed = install_kit(chat_bundle, make_host(dockerd, folder / "path"), folder / "host")
            yield OnEngine(engine, installed, capture)
            stop_kit(installed)


def test_the_engine_is_the_one_that_is_meant(kit: OnEngine) -> None:
    docker = kit.host.docker.docker
    server = docker("version", "--format", "{{.Server.Version}}")
    store = "io.containerd.snapshotter.v1" in docker("info", "--format", "{{.DriverStatus}}")
    print(f"Docker {server}, Compose {docker('compose', 'version', '--short')}, containerd's store: {store}")
    print(kit.installed.said)
    if kit.engine.suite == "trixie":
        assert server.startswith("26.")
    else:
        assert int(server.split(".")[0]) >= 28
    assert store is kit.engine.containerd_store


def test_images_are_there_with_the_digests_and_layers_of_the_lock(kit: OnEngine) -> None:
    lock = json.loads((kit.installed.kit / "lock.json").read_text())
    for key, image in lock["images"].items():
        expect = (kit.installed.kit / f"deploy/images/{key}/expect").read_text().splitlines()
        tag = next(line[4:] for line in expect if line.startswith("TAG="))
        (found,) = json.loads(kit.host.docker.docker("image", "inspect", tag))
        # containerd's store names an image by its manifest, the classic one by its configuration
        assert found["Id"] == image["manifest" if kit.engine.containerd_store else "config"]["digest"]
        assert found["RootFS"]["Layers"] == [layer["diff_id"] for layer in image["layers"]]


def test_chat_answers_through_the_gateway(kit: OnEngine) -> None:
    for base in ("http://127.0.0.1:8000", "http://127.0.0.1:8001"):
        assert kit.host.ask("chat", "--key", kit.installed.key, "--base", base)["text"]
    assert kit.host.ask("status", "--path", "/v1/models")["status"] == 401


def test_the_engine_is_reachable_through_the_gateway_only(kit: OnEngine) -> None:
    docker = kit.host.docker.docker
    assert docker("port", "demo-engine-chat-1") == ""
    with kit.capture.excused():  # the host has no way there, so that this client's question leaves it
        assert kit.host.ask("status", "--base", f"http://{kit.address('demo-engine-chat-1')}:8000")["status"] == 0


def test_the_engine_has_no_way_out(kit: OnEngine) -> None:
    """It reaches neither the world, which has a cable to this host, nor a service of the host itself."""
    reach = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"
    inside = ("exec", "demo-engine-chat-1", "python3", "-c", reach)
    with kit.capture.excused():
        for address in (ADDRESS, HOST):
            refused = kit.host.run("docker", *inside, address, "80", cwd=kit.installed.kit)
            assert refused.returncode != 0
    assert kit.host.run("docker", *inside, "127.0.0.1", "8000", cwd=kit.installed.kit).returncode == 0


def test_a_second_install_changes_nothing(kit: OnEngine) -> None:
    before = kit.installed.state()
    done = kit.host.run("./install.sh", "--yes", cwd=kit.installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert kit.installed.state() == before
    assert done.stderr.count("already there") == 2


def test_nothing_but_the_host_itself_was_asked(kit: OnEngine) -> None:
    assert kit.capture.trespasses() == []
