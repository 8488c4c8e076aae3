"""pytest fixtures over the testbed; tests/conftest.py imports them: `from tests.testbed.fixtures import *`.

Rules: (1) a missing real part is an error, never a skip; (2) what is expensive lives for the session and is shared,
so a test names its own images, containers and repositories and removes them; (3) faults of the shared hub are
cleared after each test that uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.__main__ import hub_of_models, prepare
from tests.testbed.dockerd import Dockerd
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry, clone

__all__ = ["airgap", "dockerd", "hub", "registry", "shared_hub", "testbed"]


@dataclasses.dataclass(frozen=True)
class Testbed:
    """The prepared cache: `storage` is a registry's storage with all images, `models` has the three tiny models."""

    __test__ = False
    cache: Path
    storage: Path
    models: Path
    compose: Path

    def registry(self, work: Path, *, port: int = 0, user: tuple[str, str] | None = None) -> Registry:
        """A registry of one's own, not started, on a clone of the storage under `work`."""
        return Registry(clone(self.storage, work / "storage"), work, port=port, user=user)

    def hub(self, port: int = 0) -> Hub:
        """A hub of one's own, not started, that has the tiny models as `offline-kit/NAME`."""
        return hub_of_models(self.models, port=port)


@pytest.fixture(scope="session")
def testbed() -> Testbed:
    """Everything that takes minutes, made when the cache lacks it."""
    return Testbed(**{name: Path(path) for name, path in prepare().items()})


@pytest.fixture(scope="session")
def registry(testbed: Testbed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A running registry with the images of tests.testbed.images; may be pushed to."""
    with testbed.registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="session")
def shared_hub(testbed: Testbed) -> Iterator[Hub]:
    with testbed.hub() as running:
        yield running


@pytest.fixture
def hub(shared_hub: Hub) -> Iterator[Hub]:
    """A running hub with the tiny models, without faults and with an empty log."""
    shared_hub.log.clear()
    yield shared_hub
    shared_hub.faults.clear()


@pytest.fixture(scope="session")
def dockerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """A running dockerd in the machine's own network namespace, without bridge or firewall rules."""
    with Dockerd(tmp_path_factory.mktemp("dockerd")) as running:
        yield running


@pytest.fixture(scope="session")
def airgap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dockerd]:
    """A running dockerd in a network namespace that has only a loopback: the target host."""
    with Dockerd(tmp_path_factory.mktemp("airgap"), airgap=True) as running:
        yield running
