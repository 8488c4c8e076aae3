"""The proof that an installed kit needs no network: what passed in the host's network, and a control that does reach out.

Rules: the host has a cable to a world that answers every name and every page, so that whoever tries, succeeds, and is seen;
the capture runs from before the kit was unpacked; the control is held against the same verdict.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Host, Installed
from tests.testbed.process import TestbedError, run
from tests.testbed.servers.capture import Capture
from tests.testbed.servers.world import ADDRESS, PAGE

NAME = "control.example"  # of a domain that is nobody's (RFC 2606)


def names_passed_on(log: Path) -> list[str]:
    """What containers asked Docker's name server for that it did not know itself, as its debug log has it."""
    return re.findall(r".*\[resolver\].*forwarding.*", log.read_text(errors="replace"))


@pytest.fixture
def busybox(host: Host, tmp_path: Path) -> Iterator[str]:
    """An image with BusyBox alone, on the host."""
    (tmp_path / "bin").mkdir()
    shutil.copy("/bin/busybox", tmp_path / "bin/busybox")
    archive = tmp_path / "busybox.tar"
    run(["tar", "-C", str(tmp_path), "-cf", str(archive), "bin"])
    yield host.docker.docker("import", str(archive), "control:1")
    host.docker.docker("image", "rm", "--force", "control:1")


def test_install_serve_and_smoke_reach_out_to_nobody(installed: Installed, capture: Capture) -> None:
    smoke = installed.host.run("./scripts/deploy.sh", "smoke", cwd=installed.kit)
    assert smoke.returncode == 0, smoke.stdout + smoke.stderr
    for what in ("chat", "stream", "embeddings", "rerank"):
        assert installed.host.ask(what, "--key", installed.key)
    assert capture.trespasses() == []
    assert [line for line in names_passed_on(installed.host.docker.log) if NAME not in line] == []
    # it did see what there was: the client's connections to the gateway, the gateway's to the engines
    seen = {(packet.protocol, packet.port) for packet in capture.packets()}
    assert {("tcp", 8000), ("tcp", 8001)} <= seen


def test_the_control_reaches_out_and_is_seen(host: Host, capture: Capture, busybox: str) -> None:
    """A page by its address, a page by its name, a pull by the daemon: each leaves the host and fails the verdict."""
    docker = host.docker.docker
    with capture.excused() as seen:
        assert docker(*wget(busybox, "bridge", f"http://{ADDRESS}/")) == PAGE.decode().strip()
    assert ("tcp", ADDRESS, 80) in {(packet.protocol, packet.target, packet.port) for packet in seen}
    docker("network", "create", "control")
    with capture.excused() as seen:
        assert docker(*wget(busybox, "control", f"http://{NAME}/")) == PAGE.decode().strip()
    docker("network", "rm", "control")
    assert {("udp", 53), ("tcp", 80)} <= {(packet.protocol, packet.port) for packet in seen}
    assert any(NAME in line for line in names_passed_on(host.docker.log))
    with capture.excused() as seen:
        pull = host.run("docker", "pull", f"{NAME}/image:1", cwd=host.path)
    assert pull.returncode != 0
    assert ("udp", 53) in {(packet.protocol, packet.port) for packet in seen}
    assert capture.trespasses() == []


def test_what_an_engine_would_try_fails_and_is_seen(installed: Installed, capture: Capture, busybox: str) -> None:
    """The same from within the engines' network: no way out, and the attempt is in the capture or in the log of names."""
    with capture.excused() as seen, pytest.raises(TestbedError):
        installed.host.docker.docker(*wget(busybox, "demo_internal", f"http://{ADDRESS}/"))
    assert {packet.protocol for packet in seen} == {"arp"}  # it looked for the gateway of its network, where nobody is
    before = len(names_passed_on(installed.host.docker.log))
    with capture.excused(), pytest.raises(TestbedError):
        installed.host.docker.docker(*wget(busybox, "demo_internal", f"http://{NAME}/"))
    assert len(names_passed_on(installed.host.docker.log)) > before


def wget(image: str, network: str, page: str) -> list[str]:
    """The arguments of a docker that fetches a page from within a network."""
    # not wget's own -T: in Debian's static BusyBox it crashes
    program = ["/bin/busybox", image, "timeout", "3", "/bin/busybox", "wget", "-q", "-O", "-", page]
    return ["run", "--rm", "--pull", "never", "--network", network, "--entrypoint", *program]
