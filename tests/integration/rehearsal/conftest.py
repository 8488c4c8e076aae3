"""The shipped demo's project, on servers of the testbed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, registry: Registry, shared_hub: Hub) -> Path:
    return project(tmp_path_factory.mktemp("demo"), registry.host, shared_hub.url)
