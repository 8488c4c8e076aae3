"""A host that boots: a kit installed on a systemd machine without any network is back after a restart, with nobody's help.

Rules: the host has nothing but a loopback, Debian's own Docker as a service and Compose; after a restart no command is
given on it, only asked whether it answers; the restart comes in two kinds, in order and as a power cut.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import ASK, api_key
from tests.testbed.dockerd import Dockerd
from tests.testbed.systemd_host import SystemdHost

pytestmark = pytest.mark.long  # minutes: make test-long runs it

KIT = "/srv/demo-v1.0.0"
BACK_WITHIN = 300.0  # seconds: about 35 when the machine is quiet, minutes when others keep its cores busy


@dataclass(frozen=True)
class Machine:
    """The booted host with the kit on it."""

    host: SystemdHost
    key: str

    def ask(self, what: str, *arguments: str) -> dict[str, Any]:
        """Asks from the host's own loopback; empty when there was no answer."""
        command = [*self.host.nsenter, sys.executable, str(ASK), what, "--json", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        return dict(json.loads(done.stdout)) if done.returncode == 0 else {}

    def comes_back(self) -> None:
        """Waits for an answer of the chat model, as a client would, by asking again, and then for a status without fault."""
        began = time.monotonic()
        while not self.ask("chat", "--key", self.key).get("text"):
            assert time.monotonic() - began < BACK_WITHIN, self.host.run("docker", "ps", "--all").stdout
            time.sleep(1)
        print(f"answers again {time.monotonic() - began:.0f} s after Docker does")
        while (
            status := self.host.run("./scripts/deploy.sh", "status", cwd=KIT)
        ).returncode:  # Docker asks for health now and then
            assert time.monotonic() - began < BACK_WITHIN, status.stdout + status.stderr
            time.sleep(1)


@pytest.fixture(scope="module")
def machine(chat_bundle: Path, dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("systemd")
    with SystemdHost(dockerd, "systemd-host", folder / "disk", folder / "srv") as host:
        subprocess.run(["tar", "-xzf", chat_bundle, "-C", folder / "srv"], check=True)
        done = host.run("./install.sh", "--yes", cwd=KIT)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        yield Machine(host, api_key(folder / "srv/demo-v1.0.0"))


def test_it_is_a_systemd_machine_without_a_network(machine: Machine) -> None:
    assert machine.host.run("cat", "/proc/1/comm").stdout.strip() == "systemd"
    assert machine.host.run("systemctl", "is-active", "docker.service").stdout.strip() == "active"
    outside = [link for link in machine.host.links() if not link.startswith(("lo", "docker0", "br-", "veth"))]
    assert outside == []
    for absent in ("python3", "curl", "jq", "zstd"):
        assert machine.host.run("bash", "-c", f"type -P {absent}").returncode == 1


def test_the_kit_answers(machine: Machine) -> None:
    assert machine.ask("chat", "--key", machine.key)["text"]
    assert machine.host.run("./scripts/deploy.sh", "status", cwd=KIT).returncode == 0


@pytest.mark.parametrize("how", ["reboot", "power_cut"])
def test_after_a_restart_the_services_are_back(machine: Machine, how: str) -> None:
    before = machine.host.run("docker", "ps", "--all", "--quiet", "--no-trunc").stdout
    getattr(machine.host, how)()
    assert machine.ask("chat", "--key", machine.key) == {}  # it was down, indeed
    machine.comes_back()
    assert machine.host.run("docker", "ps", "--all", "--quiet", "--no-trunc").stdout == before
    assert machine.ask("status", "--path", "/v1/models")["status"] == 401


def test_an_installation_after_that_changes_nothing(machine: Machine) -> None:
    before = machine.host.run("docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").stdout
    done = machine.host.run("./install.sh", "--yes", cwd=KIT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.host.run("docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}").stdout == before


def test_power_fails_in_the_middle_of_a_start(machine: Machine) -> None:
    """Cut off while the engine starts: the next boot brings it up all the same."""
    machine.host.power_cut()
    time.sleep(5)
    machine.host.power_cut()
    machine.comes_back()
