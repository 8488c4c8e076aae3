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

from tests.integration import scripts_kit
from tests.integration.test_scripts_sums import limited_path
from tests.testbed.dockerd import Dockerd

Findings = dict[str, tuple[str, str, str]]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"), small=True)


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    return scripts_kit.make_kit(shelf, tmp_path / "a kit")


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


def nvidia_smi(folder: Path, rows: str, *, code: int = 0, listed: str = "") -> str:
    """A PATH that has a program nvidia-smi first, which prints `rows` when it is queried and `listed` for -L."""
    folder.mkdir()
    (folder / "rows").write_text(rows)
    (folder / "listed").write_text(listed)
    (folder / "nvidia-smi").write_text(
        f"#!/bin/sh\n[ \"$1\" = -L ] && exec cat '{folder}/listed'\ncat '{folder}/rows'\nexit {code}\n"
    )
    (folder / "nvidia-smi").chmod(0o755)
    return str(folder)


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


@pytest.mark.parametrize("with_ss", [True, False])
def test_a_port_that_is_taken(kit: Path, dockerd: Dockerd, tmp_path: Path, with_ss: bool) -> None:
    env = dict(dockerd.env)
    if not with_ss:
        env["PATH"] = f"{limited_path(tmp_path / 'bin')}:{dockerd.folder / 'bin'}"
    with taken(scripts_kit.PORTS["chat"]):
        code, found = preflight(kit, env=env)
    assert (
        code == 4
        and found["ports"][0] == "FAIL"
        and f"{scripts_kit.PORTS['chat']} (VLLM_CHAT_PORT) is taken by " in found["ports"][1]
    )
    if with_ss:
        assert f"(pid {os.getpid()})" in found["ports"][1]
    assert preflight(kit, env=env)[0] == 0


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


A40 = "0, NVIDIA A40, 550.54.15, 46068, 4\n1, NVIDIA A40, 550.54.15, 46068, 4\n"


@pytest.mark.parametrize(
    "rows, code, visible, check, level, says",
    [
        (A40, 0, "0,1", "driver", "OK", "550.54.15"),
        (A40, 0, "0,1", "GPU 1", "OK", "NVIDIA A40: 46068 MiB"),
        (A40, 0, "0,1", "GPUs used", "OK", "0 1 of 2"),
        (A40, 0, "0,2", "GPUs used", "FAIL", "names 2; this host has 2 GPU(s), from 0 to 1"),
        (A40, 0, "GPU-9a", "GPUs used", "OK", "GPU-9a"),
        (A40, 0, "GPU-77", "GPUs used", "FAIL", "GPU-77"),
        (A40.replace(", 4\n", ", 30000\n"), 0, "0", "GPU 0", "WARN", "30000 MiB are in use"),
        (A40.replace("550.54.15", "470.223.02"), 0, "0", "driver", "FAIL", "470.223.02 is too old"),
        ("0, NVIDIA GB10, 580.95.05, [N/A], [N/A]\n", 0, "0", "GPU 0", "WARN", "does not report its memory ([N/A])"),
        ("0, Tesla K80, 550.1, [Not Supported], [Not Supported]\n", 0, "0", "GPU 0", "WARN", "([Not Supported])"),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n",
            9,
            "0",
            "driver",
            "FAIL",
            "nvidia-smi fails",
        ),
        ("No devices were found\n", 0, "0", "driver", "FAIL", "No devices were found"),
    ],
)
def test_what_nvidia_smi_says(
    kit: Path, dockerd: Dockerd, tmp_path: Path, rows: str, code: int, visible: str, check: str, level: str, says: str
) -> None:
    smi = nvidia_smi(tmp_path / "smi", rows, code=code, listed="GPU 0: NVIDIA A40 (UUID: GPU-9a)\n")
    settings = tmp_path / "env"
    settings.write_text(f"CUDA_VISIBLE_DEVICES={visible}\n")
    _, found = preflight(
        kit, "--device=nvidia", "--env-file", str(settings), env={**dockerd.env, "PATH": f"{smi}:{dockerd.env['PATH']}"}
    )
    assert found[check][0] == level and says in found[check][1]


def test_a_docker_with_the_runtime_nvidia(kit: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    smi = nvidia_smi(tmp_path / "smi", A40)
    runc = shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    assert runc
    with Dockerd(tmp_path_factory.mktemp("nv"), runtimes={"nvidia": Path(runc)}) as engine:
        code, found = preflight(kit, "--device", "nvidia", env={**engine.env, "PATH": f"{smi}:{engine.env['PATH']}"})
    assert code == 0 and found["container runtime"] == ("OK", "Docker has the runtime nvidia", "")


def test_several_reasons_come_at_once(shelf: scripts_kit.Shelf, tmp_path: Path) -> None:
    kit = scripts_kit.make_kit(shelf, tmp_path / "kit", platform="linux/s390x")
    (kit / "models/chat").chmod(0o700)
    with taken(scripts_kit.PORTS["router"]):
        done = scripts_kit.run(kit, "scripts/preflight.sh", "--device", "nvidia", env={"PATH": limited_path(tmp_path / "bin")})
    failed = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert failed == ["architecture", "docker", "file", "ports", "driver"]
    assert done.returncode == 4 and "5 reason(s) to fail" in done.stderr
