"""Services that are started, on disks that fail, and with a clock that went back.

Rules: one kit is installed and every test leaves it serving; its engine is a stand-in that answers, Docker is real.
"""

from __future__ import annotations

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
