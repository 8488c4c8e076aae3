"""preflight.sh on hosts with one thing or several things wrong: every finding in one run, nothing changed."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.scripts.test_sums import limited_path
from tests.support import scripts_kit
from tests.support.nvidia_stand_in import Card, nvidia_smi
from tests.testbed.dockerd import Dockerd

Findings = dict[str, tuple[str, str, str]]


def preflight(kit: Path, *arguments: str, env: Mapping[str, str]) -> tuple[int, Findings]:
    """Exit code, and check -> (level, found, remedy), of several findings the worst; asserts that nothing changed."""
    before = snapshot(kit)
    done = scripts_kit.run(kit, "scripts/preflight.sh", "--json", *arguments, env=env)
    assert snapshot(kit) == before
    answer = json.loads(done.stdout)
    levels = ["OK", "WARN", "FAIL"]
    found: Findings = {}
    for row in sorted(answer["findings"], key=lambda row: levels.index(row["level"])):
        assert row["level"] == "OK" or row["remedy"], row
        found[row["check"]] = (row["level"], row["found"], row["remedy"])
    assert answer["ok"] is (done.returncode == 0) is all(level != "FAIL" for level, _, _ in found.values())
    return done.returncode, found


def snapshot(kit: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in kit.rglob("*")}


@contextmanager
def taken(port: int) -> Iterator[None]:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen()
        yield


def test_a_good_host_is_good(kit: Path, dockerd: Dockerd) -> None:
    code, found = preflight(kit, env=dockerd.env)
    assert code == 0, found
    assert {
        "bash",
        "programs",
        "architecture",
        "docker",
        "compose",
        "memory",
        "disk of Docker",
        "disk of the kit",
        "ports",
    } <= found.keys()
    table = scripts_kit.run(kit, "scripts/preflight.sh", env=dockerd.env)
    assert table.returncode == 0 and table.stdout.startswith("OK    bash") and table.stderr == ""


def test_no_docker(kit: Path, tmp_path: Path) -> None:
    code, found = preflight(kit, env={"PATH": limited_path(tmp_path / "bin")})
    assert code == 4 and found["docker"][:2] == ("FAIL", "Docker is not installed (no docker in PATH)")
    assert found["ports"][0] == "OK" and "compose" not in found


def test_docker_that_does_not_answer(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    code, found = preflight(kit, env={**dockerd.env, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert (
        code == 4 and found["docker"][0] == "FAIL" and "does not answer" in found["docker"][1] and found["compose"][0] == "OK"
    )


def test_anothers_docker(kit: Path, dockerd: Dockerd) -> None:
    code, found = preflight(kit, env={**dockerd.env, "DOCKER_HOST": "tcp://127.0.0.1:2375"})
    assert code == 4 and "another machine's Docker" in found["docker"][1]


class OldDocker(http.server.BaseHTTPRequestHandler):
    """The wire of a Docker that is too old."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        data = json.dumps(
            {"Version": "19.03.15", "ApiVersion": "1.40", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
        ).encode()
        self.send_response(200)
        self.send_header("API-Version", "1.40")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


def test_docker_that_is_too_old(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    address = tmp_path / "old.sock"
    with socketserver.ThreadingUnixStreamServer(str(address), OldDocker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, found = preflight(kit, env={**dockerd.env, "DOCKER_HOST": f"unix://{address}"})
        server.shutdown()
    assert code == 4 and found["docker"][:2] == ("FAIL", "Docker 19.03.15 is too old")


def test_no_compose(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    env = {**dockerd.env, "DOCKER_CONFIG": str(tmp_path / "bare")}
    asked = subprocess.run(["docker", "compose", "version"], env={**os.environ, **env}, capture_output=True, check=False)
    if asked.returncode == 0:
        pytest.fail("this machine has a Compose plug-in for all users: the test cannot hide it")
    code, found = preflight(kit, env=env)
    assert code == 4 and found["compose"][:2] == ("FAIL", "the Compose plug-in of Docker is missing")


def test_compose_that_is_too_old(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    plugin = tmp_path / "config/cli-plugins/docker-compose"
    plugin.parent.mkdir(parents=True)
    metadata = json.dumps({"SchemaVersion": "0.1.0", "Vendor": "x", "Version": "v1.29.2"})
    plugin.write_text(f"#!/bin/sh\n[ \"$1\" = docker-cli-plugin-metadata ] && echo '{metadata}' || echo 1.29.2\n")
    plugin.chmod(0o755)
    code, found = preflight(kit, env={**dockerd.env, "DOCKER_CONFIG": str(tmp_path / "config")})
    assert code == 4 and found["compose"][:2] == ("FAIL", "Compose 1.29.2 is too old")


def test_a_missing_program(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    path = limited_path(tmp_path / "bin", "cmp")
    code, found = preflight(kit, env={**dockerd.env, "PATH": path})
    assert code == 4 and found["programs"][:2] == ("FAIL", "not found: cmp")


def test_another_architecture(shelf: scripts_kit.Shelf, tmp_path: Path, dockerd: Dockerd) -> None:
    other = "linux/arm64" if os.uname().machine == "x86_64" else "linux/amd64"
    code, found = preflight(scripts_kit.make_kit(shelf, tmp_path / "kit", platform=other), env=dockerd.env)
    assert code == 4 and found["architecture"][0] == "FAIL" and other in found["architecture"][1]


def test_a_port_that_is_taken(kit: Path, dockerd: Dockerd) -> None:
    with taken(scripts_kit.PORTS["chat"]):
        code, found = preflight(kit, env=dockerd.env)
    assert code == 4 and found["ports"][0] == "FAIL"
    assert f"{scripts_kit.PORTS['chat']} (VLLM_CHAT_PORT) is taken by " in found["ports"][1]
    assert f"(pid {os.getpid()})" in found["ports"][1]
    assert preflight(kit, env=dockerd.env)[0] == 0


@pytest.mark.parametrize("bind, clash", [("127.0.0.1", True), ("127.0.0.2", False), ("0.0.0.0", True)])
def test_a_port_is_taken_on_an_address(kit: Path, dockerd: Dockerd, tmp_path: Path, bind: str, clash: bool) -> None:
    settings = tmp_path / "settings.env"
    settings.write_text(f"OFFLINE_KIT_BIND={bind}\n")
    with taken(scripts_kit.PORTS["chat"]):
        code, _ = preflight(kit, f"--env-file={settings}", env=dockerd.env)
    assert code == (4 if clash else 0)


def test_ports_follow_the_operators_settings(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    settings = tmp_path / "settings.env"
    settings.write_text("# mine\nexport VLLM_CHAT_PORT='18799'\r\nVLLM_RERANK_PORT=18799 # twice\nVLLM_EMBEDDING_PORT=70000\n")
    done = scripts_kit.run(kit, "scripts/preflight.sh", f"--env-file={settings}", env=dockerd.env)
    assert done.returncode == 4
    assert (
        "18799 is both VLLM_RERANK_PORT and VLLM_CHAT_PORT" in done.stdout and "VLLM_EMBEDDING_PORT is '70000'" in done.stdout
    )


def test_files_that_the_services_could_not_read(kit: Path, dockerd: Dockerd) -> None:
    (kit / "models/chat/config.json").chmod(0o600)
    code, found = preflight(kit, env=dockerd.env)
    assert code == 4 and found["file modes"][:2] == ("FAIL", "not readable for the services' user: models/chat/config.json")
    assert "chmod -R o+rX" in found["file modes"][2]


def test_too_little_space(kit: Path, dockerd: Dockerd) -> None:
    for key in ("engine", "gateway"):
        expect = kit / f"deploy/images/{key}/expect"
        lines = [line if not line.startswith("SIZE=") else f"SIZE={1 << 50}" for line in expect.read_text().splitlines()]
        expect.write_text("\n".join(lines) + "\n")
    code, found = preflight(kit, env=dockerd.env)
    assert code == 4 and found["disk of Docker"][0] == "FAIL" and "three times" in found["disk of Docker"][1]
    assert found["disk of the kit"][0] == "FAIL", "both lie on one file system"


def test_nvidia_without_driver_and_toolkit(kit: Path, dockerd: Dockerd, tmp_path: Path) -> None:
    path = f"{limited_path(tmp_path / 'bin')}:{dockerd.folder / 'bin'}"
    code, found = preflight(kit, "--device", "nvidia", env={**dockerd.env, "PATH": path})
    assert code == 4 and found["driver"][0] == "FAIL" and "no NVIDIA driver" in found["driver"][1]
    assert found["container runtime"][0] == "FAIL" and "nvidia-ctk" in found["container runtime"][2]


def test_a_docker_with_the_runtime_nvidia(kit: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    smi = tmp_path / "smi"
    smi.mkdir()
    nvidia_smi(smi, [Card(0), Card(1)])
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    assert runc
    with Dockerd(tmp_path_factory.mktemp("nv"), runtimes={"nvidia": Path(runc)}) as engine:
        code, found = preflight(kit, "--device", "nvidia", env={**engine.env, "PATH": f"{smi}:{engine.env['PATH']}"})
    assert code == 0 and found["container runtime"] == ("OK", "Docker has the runtime nvidia", "")
