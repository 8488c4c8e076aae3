"""The shipped systemd service and timer on a machine that boots: the timer fires, and only a run that failed is a failed unit.

Rules: the units are those of config/schedule, as they are, in /etc/systemd/system; but for the hour (a drop-in) nothing is
changed; the program, its Python and the libraries that this needs are mounted, for the machine has none; the registry is on its
loopback, the models are folders.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import intake_samples as parts
from tests.support import scripts_kit
from tests.support.projects.demo import MODELS
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.servers.registry import Registry
from tests.testbed.systemd_host import SystemdHost

pytestmark = pytest.mark.long
SERVICE, TIMER = "offline-kit-release.service", "offline-kit-release.timer"
OFTEN = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/4\nRandomizedDelaySec=0\nAccuracySec=100ms\n"
INSTALLED = Path(sys.executable).with_name("offline-kit")
PROGRAM = f'#!/bin/sh\nLD_LIBRARY_PATH=/srv/libraries exec {INSTALLED} "$@"\n'


@dataclass(frozen=True)
class Machine:
    """The host, the folder of this machine that is its /srv, and the registry before it moved onto the host's loopback."""

    host: SystemdHost
    srv: Path
    outside: Registry

    def registry(self) -> Registry:
        """The same, on the loopback that the host has until it boots again."""
        work = self.srv.parent / "work"
        return Registry(self.outside.storage, work, port=self.outside.port, prefix=self.host.nsenter)

    @property
    def versions(self) -> list[str]:
        index = self.srv / "releases/releases.json"
        return [release["version"] for release in json.loads(index.read_text())["releases"]] if index.exists() else []

    def show(self) -> dict[str, str]:
        """How the last run of the service ended."""
        asked = "--property=ActiveState,Result,ExecMainStatus,NRestarts,ExecMainStartTimestampMonotonic"
        return dict(line.split("=", 1) for line in self.host.run("systemctl", "show", SERVICE, asked).stdout.splitlines())

    def wait(self, done: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Until a run has ended so."""
        deadline = time.monotonic() + 120
        while not done(shown := self.show()):
            assert time.monotonic() < deadline, (shown, self.log())
            time.sleep(0.2)
        return shown

    def log(self) -> str:
        return self.host.run("journalctl", "--no-pager", "--output=cat", "--unit", SERVICE).stdout


@pytest.fixture(scope="module")
def machine(dockerd: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("timer")
    srv = folder / "srv"
    (srv / "libraries").mkdir(parents=True)
    binaries = [Path(sys.executable).resolve(), *Path(sys.base_prefix, "lib").rglob("lib-dynload/*.so")]
    for library in map(Path, scripts_kit.libraries(binaries)):
        if not library.name.startswith(("libc.", "libm.", "libpthread.", "libdl.", "librt.", "libutil.")):  # as on any Debian
            shutil.copy(library, srv / "libraries")
    with Registry(folder / "storage", folder / "work") as registry:
        for key in ("engine", "gateway"):
            parts.push(registry.url, key, "v1", parts.image("gzip", content=key))
        _write_project(srv / "project", registry)
    mounts = [Path(sys.base_prefix), REPOSITORY]
    with SystemdHost(dockerd, "timer-host", folder / "disk", srv, programs=mounts) as host:
        yield Machine(host, srv, registry)


def _write_project(folder: Path, registry: Registry) -> None:
    shutil.copytree(REPOSITORY / "config/demo", folder / "config/demo")
    for key in MODELS:
        parts.write(folder / key, {"config.json": b"{}", "model.safetensors": parts.safetensors({key: b"x" * 100})})
    manifest = {
        "apiVersion": "offline-kit/v1",
        "name": "demo",
        "accelerator": "cpu",
        "images": {key: {"source": f"docker://{registry.host}/{key}:v1"} for key in ("engine", "gateway")},
        "models": {key: {"source": f"dir:///srv/project/{key}"} for key in MODELS},
        "services": "../config/demo/models.json",
        "engine_config": "../config/demo/vllm_config.yaml",
    }
    parts.write(folder, {"manifests/demo.yaml": json.dumps(manifest).encode()})


def _put(host: SystemdHost, path: str, text: str, mode: str = "644") -> None:
    done = host.run("sh", "-c", 'mkdir -p "${1%/*}" && printf %s "$2" >"$1" && chmod "$3" "$1"', "-", path, text, mode)
    assert done.returncode == 0, done.stderr


def test_the_timer_makes_releases_and_tells_what_needs_a_person(machine: Machine) -> None:
    host = machine.host
    for unit in (SERVICE, TIMER):
        _put(host, f"/etc/systemd/system/{unit}", (REPOSITORY / "config/schedule" / unit).read_text())
    _put(host, f"/etc/systemd/system/{TIMER}.d/often.conf", OFTEN)
    _put(host, "/usr/local/bin/offline-kit", PROGRAM, "755")
    example = (REPOSITORY / "config/schedule/release.env.example").read_text()
    for usual, here in (("/project/manifests/knowflow.yaml", "/project/manifests/demo.yaml"), ("/srv/offline-kit", "/srv")):
        assert usual in example
        example = example.replace(usual, here)
    _put(host, "/etc/offline-kit/release.env", example, "600")
    assert host.run("systemctl", "daemon-reload").returncode == 0
    with machine.registry():
        assert host.run("systemctl", "enable", "--now", TIMER).returncode == 0
        _takes_its_course(machine)
    host.power_cut()
    with machine.registry():
        began = machine.wait(lambda shown: shown["ExecMainStatus"] == "11" and shown["ActiveState"] == "inactive")
    assert began["Result"] == "success" and machine.versions == ["v1.0.0", "v1.0.1"], "the timer is there after a power cut"


def _takes_its_course(machine: Machine) -> None:
    machine.wait(lambda shown: machine.versions == ["v1.0.0"] and shown["ActiveState"] == "inactive")
    unchanged = machine.wait(lambda shown: shown["ExecMainStatus"] == "11" and shown["ActiveState"] == "inactive")
    assert unchanged["Result"] == "success", "nothing changed: no failure"
    _lines_are_json(machine.log())

    tokenizer = machine.srv / "project/embedding/tokenizer.json"
    tokenizer.write_text('{"n": 1}')
    machine.wait(lambda shown: machine.versions == ["v1.0.0", "v1.0.1"] and shown["ActiveState"] == "inactive")
    assert (machine.srv / "releases/demo-v1.0.1.delta.tar.gz").is_file()

    before = {path.name: path.read_bytes() for path in (machine.srv / "releases").iterdir() if path.is_file()}
    manifest = machine.srv / "project/manifests/demo.yaml"
    good = manifest.read_text()
    manifest.write_text(good.replace("/srv/project/chat", "/srv/project/none"))
    failed = machine.wait(lambda shown: shown["ActiveState"] == "failed")
    assert (failed["Result"], failed["ExecMainStatus"]) == ("exit-code", "5"), failed
    assert SERVICE in machine.host.run("systemctl", "list-units", "--failed", "--no-legend", "--plain").stdout
    assert {path.name: path.read_bytes() for path in (machine.srv / "releases").iterdir() if path.is_file()} == before

    manifest.write_text(good)
    machine.wait(lambda shown: shown["ExecMainStatus"] == "11" and shown["ActiveState"] == "inactive")


def _lines_are_json(log: str) -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    assert any(event.get("event") == "released" and event.get("version") == "v1.0.0" for event in events), log
