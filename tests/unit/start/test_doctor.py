"""``offline-kit doctor``: each thing that a build would fail of is named with a remedy and the exit code of that build."""

from __future__ import annotations

import email.utils
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner

from offline_kit.cli.main import cli
from tests.unit.start.model_folders import ENCODER, make_model_folder


class Server(BaseHTTPRequestHandler):
    """A registry and a hub that say 401, by a clock of their own."""

    status: ClassVar[int] = 401
    offset: ClassVar[float] = 0.0
    date: ClassVar[str] = ""

    def do_GET(self) -> None:
        self.send_response_only(self.status)
        self.send_header("Date", self.date or email.utils.formatdate(time.time() + self.offset, usegmt=True))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing is logged."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def project(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose images are at ``address``, and its working directory."""
    folder = make_model_folder(tmp_path / "mini-embed", ENCODER, 1 << 20)
    images = [f"--{role}={address}/{role}:v1" for role in ("engine", "gateway")]
    arguments = ["init", tmp_path / "site", "--embedding", folder, "--gpus", "cpu", *images, "--store", tmp_path / "store"]
    assert CliRunner().invoke(cli, list(map(str, arguments))).exit_code == 0
    monkeypatch.chdir(tmp_path / "site")
    return tmp_path / "site"


def doctor(*arguments: object) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by its name."""
    done = CliRunner().invoke(cli, ["doctor", "--json", *map(str, arguments)])
    return done.exit_code, {check["name"]: check for check in json.loads(done.stdout)}


def test_a_builder_that_has_all(project: Path, address: str, tmp_path: Path) -> None:
    code, found = doctor("--store", tmp_path / "store")
    assert (code, found[f"registry {address}"]["state"], found["clock"]["state"]) == (0, "ok", "ok")
    assert found["manifest"]["what"] == "manifests/site.yaml: 1 models, not locked yet"
    assert all(check["remedy"] for check in found.values() if check["state"] != "ok")
    text = CliRunner().invoke(cli, ["doctor", "--store", str(tmp_path / "store")]).stdout
    assert f"ok    registry {address}: http://{address}/v2/ answers (401" in text


def test_what_does_not_answer_or_refuses(project: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project / "manifests/site.yaml"
    whole = path.read_text()
    path.write_text(whole.replace(f"{address}/gateway", "127.0.0.1:9/gateway"))
    code, found = doctor("--store", tmp_path / "store")
    assert (code, found["registry 127.0.0.1:9"]["state"]) == (7, "failed")
    assert "refused" in found["registry 127.0.0.1:9"]["what"]
    assert doctor("--offline", "--store", tmp_path / "store")[0] == 0
    path.write_text(whole)
    monkeypatch.setattr(Server, "status", 403)
    assert doctor("--store", tmp_path / "store")[0] == 6


def test_a_clock_that_is_off(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Server, "offset", 4000.0)
    code, found = doctor("--store", tmp_path / "store")
    assert (code, found["clock"]["state"]) == (0, "warning")
    assert "s behind that of the servers" in found["clock"]["what"]


@pytest.mark.parametrize("date", ["Mon, 01 Jan 99999999999999 00:00:00 GMT", "Mon, 01 Jan 2020 00:00:00 +99999999999999", "-"])
def test_a_date_that_no_clock_has(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, date: str) -> None:
    monkeypatch.setattr(Server, "date", date)
    code, found = doctor("--store", tmp_path / "store")
    assert code == 0 and "clock" not in found


@pytest.mark.parametrize("text", ['{"auths": [1]}', "[" * 100_000, "null", '{"auths": "ab"}', "9" * 5000, "\udcff", None])
def test_logins_that_are_no_logins(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    path = tmp_path / "docker/config.json"
    path.parent.mkdir()
    path.write_bytes(text.encode("utf-8", "surrogateescape")) if text is not None else path.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(path.parent))
    code, found = doctor("--store", tmp_path / "store")
    assert code == 0 and found["registry logins"]["state"] in ("ok", "warning")


def test_what_of_this_machine_a_build_would_fail_of(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, found = doctor("--offline", "--store", tmp_path / "store", "--output", "/proc/none")
    assert (code, found["output"]["state"]) == (9, "failed")
    assert "name another with --output" in found["output"]["remedy"]
    monkeypatch.setenv("HTTPS_PROXY", "ftp://proxy.example")
    code, found = doctor("--offline", "--store", tmp_path / "store")
    assert (code, found["proxies"]["state"]) == (7, "failed")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("https_proxy", "http://other.example:3128")
    assert doctor("--offline", "--store", tmp_path / "store")[1]["proxies"]["state"] == "warning"
    (project / "manifests/site.yaml").write_text("name: x\n")
    code, found = doctor("--store", tmp_path / "store")
    assert (code, found["manifest"]["state"]) == (3, "failed")


def test_folders_that_may_not_be_looked_into(project: Path, tmp_path: Path) -> None:
    """Each is told by its name, with the code of a disk, by doctor and by who would write there."""
    closed = tmp_path / "closed"
    (closed / "in").mkdir(parents=True)
    closed.chmod(0)
    below = str(closed / "in")
    commands = [["doctor", "--offline", option, below] for option in ("--output", "--store")]
    commands += [["context", below, "--store", str(tmp_path / "store")], ["init", below, "--example"]]
    try:
        for command in commands:
            done = _as_owner_only(*command)
            assert done.returncode == 9 and str(closed) in done.stdout + done.stderr, done
            assert "Permission denied" in done.stdout + done.stderr
        (project / "manifests").chmod(0)
        for command in (["doctor", "--offline"], ["plan"]):
            done = _as_owner_only(*command)
            assert done.returncode == 9 and "manifests: Permission denied" in done.stdout + done.stderr, done
    finally:
        closed.chmod(0o755)
        (project / "manifests").chmod(0o755)


def _as_owner_only(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command without root's right to look into any folder."""
    without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    program = Path(sys.executable).with_name("offline-kit")
    return subprocess.run([*without, str(program), *arguments], capture_output=True, text=True, check=False)


def test_where_there_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    found = doctor("--offline", "--store", tmp_path / "store")[1]
    assert (found["manifest"]["state"], found["manifest"]["remedy"]) == ("warning", "'offline-kit init' writes one")


def test_a_folder_of_a_user_who_is_not_there(project: Path) -> None:
    code, found = doctor("--offline", "--store", "~nobody-at-all/x")
    assert code == 0 and found["store"]["what"].startswith(str(project))


def test_docker_is_demanded_where_an_image_comes_from_it(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert doctor("--offline", "--store", tmp_path / "store")[1]["docker"]["state"] == "warning"
    path = project / "manifests/site.yaml"
    path.write_text(path.read_text().replace('engine: {source: "docker:', 'engine: {source: "docker-daemon:'))
    code, found = doctor("--offline", "--store", tmp_path / "store")
    assert (code, found["docker"]["state"]) == (10, "failed")


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"])
@pytest.mark.parametrize(
    "url",
    [
        "http://bob:CANARYPROXY@127.0.0.1:9",
        "http://bob:CANARYPROXY%40h:1",
        "bob:CANARY/PROXY@h:1",
        "a.example,bob:CANARYPROXY@h",
    ],
)
def test_passwords_of_proxies_are_not_shown(tmp_path: Path, variable: str, url: str) -> None:
    """By the command itself: what it knows as secret it learns at its start."""
    program = Path(sys.executable).with_name("offline-kit")
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DOCKER_HOST": "tcp://127.0.0.1:9", variable: url}
    command: list[str | Path] = [program, "doctor", "--offline", "--store", tmp_path / "store"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 7) and "proxies: " in done.stdout and "CANARY" not in done.stdout + done.stderr
