"""The whole way, once a session: build from registry and hub, take both down, install where there is no network.

Rules: every step is the command that a user types; the host (tests/support/hosts.py) has a cable to a world that would answer
anything, and everything that passes in its network is captured: test_airgap.py judges it, and so does the session's end.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.support.hosts import Host, Installed, install_kit, make_host, stop_kit
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.capture import Capture
from tests.testbed.servers.faults import Access
from tests.testbed.servers.world import World

__all__ = ["Built", "Host", "Installed", "project"]


@pytest.fixture(scope="session")
def docker_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """The target machine's Docker; it logs what its name server is asked."""
    with Dockerd(tmp_path_factory.mktemp("target"), airgap=True, settings={"debug": True}) as running:
        yield running


@pytest.fixture(scope="session")
def capture(docker_host: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Capture]:
    """Every packet in the target machine's network, from before the first command on it to the end of the session."""
    folder = tmp_path_factory.mktemp("capture")
    assert docker_host.namespace
    with World(docker_host.namespace, folder / "world.log"), Capture(docker_host, folder / "packets") as running:
        yield running
        assert running.trespasses() == []


@pytest.fixture(scope="session")
def host(docker_host: Dockerd, capture: Capture, tmp_path_factory: pytest.TempPathFactory) -> Host:
    """The target machine."""
    assert capture
    return make_host(docker_host, tmp_path_factory.mktemp("path"))


@dataclass(frozen=True)
class Built:
    """A finished bundle and the project that it was made from."""

    bundle: Path
    manifest: Path
    store: Path
    fetched: tuple[Access, ...]


def project(folder: Path, registry: str, hub: str) -> Path:
    """The shipped demo manifest and its configuration in ``folder``, with these servers; returns the manifest's path."""
    shutil.copytree(REPOSITORY / "config/demo", folder / "config/demo")
    (folder / "manifests").mkdir()
    text = (REPOSITORY / "manifests/demo.yaml").read_text()
    assert "127.0.0.1:5055" in text
    assert "http://127.0.0.1:5056" in text
    manifest = folder / "manifests/demo.yaml"
    manifest.write_text(text.replace("127.0.0.1:5055", registry).replace("http://127.0.0.1:5056", hub))
    return manifest


@pytest.fixture(scope="session")
def chat_bundle(testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with the chat model alone: what installs quickest of the real kits."""
    work = tmp_path_factory.mktemp("chat")
    with testbed.registry(work / "registry") as registry, testbed.hub() as hub:
        manifest = project(work, registry.host, hub.url)
        lines = manifest.read_text().splitlines(keepends=True)
        manifest.write_text("".join(line for line in lines if "tiny-embed" not in line and "tiny-rerank" not in line))
        services = work / "config/demo/models.json"
        chosen = {key: model for key, model in json.loads(services.read_text())["models"].items() if key == "chat"}
        services.write_text(json.dumps({"models": chosen}))
        done = offline_kit("build", "--version", "v1.0.0", "-m", manifest, "-o", work / "out", "--store", work / "store")
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def built(testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """``offline-kit build`` against a real registry and a hub, both of which are gone when this returns."""
    work = tmp_path_factory.mktemp("build")
    with testbed.registry(work / "registry") as registry, testbed.hub() as hub:
        manifest = project(work, registry.host, hub.url)
        done = offline_kit(
            "build",
            "--version",
            "v1.0.0",
            "--manifest",
            manifest,
            "--output",
            work / "out",
            "--store",
            work / "store",
            cwd=work,
        )
        fetched = tuple(hub.log)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(work / "out/demo-v1.0.0.tar.gz")
    return Built(Path(done.stdout.strip()), manifest, work / "store", fetched)


@pytest.fixture(scope="session")
def installed(built: Built, host: Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    """The whole demo kit, up and healthy."""
    done = install_kit(built.bundle, host, tmp_path_factory.mktemp("host"))
    yield done
    stop_kit(done)
