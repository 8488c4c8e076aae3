"""install.sh and deploy.sh on an air-gapped dockerd: real nginx, real runtime/, a stand-in for vllm; success and failures.

One file, for most tests share one installed kit and leave it healthy for the next: a second file would install it again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import scripts_kit
from tests.testbed.dockerd import Dockerd

PROJECT = "label=com.docker.compose.project=test-kit"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


class Host:
    """A kit on the air-gapped engine."""

    def __init__(self, kit: Path, dockerd: Dockerd) -> None:
        self.kit, self.dockerd = kit, dockerd

    def run(self, script: str, *arguments: str, timeout: str = "60") -> subprocess.CompletedProcess[str]:
        env = {**self.dockerd.env, "OFFLINE_KIT_START_TIMEOUT": timeout}
        return scripts_kit.run(self.kit, script, *arguments, env=env, prefix=self.dockerd.nsenter)

    def deploy(self, *arguments: str, timeout: str = "60") -> subprocess.CompletedProcess[str]:
        return self.run("scripts/deploy.sh", *arguments, timeout=timeout)

    def containers(self) -> list[str]:
        """ID and name of each container of the kit that is up."""
        return sorted(
            self.dockerd.docker("ps", "--no-trunc", "--filter", PROJECT, "--format", "{{.ID}} {{.Names}}").splitlines()
        )

    def by_name(self) -> dict[str, str]:
        """Name -> ID of each container of the kit that is up."""
        return {name: identifier for identifier, name in (row.split() for row in self.containers())}

    def fault(self, key: str, text: str) -> None:
        """Makes the stand-in of `key` misbehave from its next start on, or not any more."""
        file = self.kit / f"models/{key}/fault"
        file.unlink(missing_ok=True)
        if text:
            file.write_text(text)

    def clean(self) -> None:
        for identifier in self.dockerd.docker("ps", "--all", "--quiet", "--filter", PROJECT).split():
            self.dockerd.docker("rm", "--force", identifier)
        for network in self.dockerd.docker("network", "ls", "--quiet", "--filter", PROJECT).split():
            self.dockerd.docker("network", "rm", network)


@pytest.fixture(scope="module")
def installed(shelf: scripts_kit.Shelf, tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd) -> Iterator[Host]:
    """An installed kit in a path with spaces; tests leave it healthy."""
    host = Host(scripts_kit.make_kit(shelf, tmp_path_factory.mktemp("installed") / "a kit"), airgap)
    done = host.run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    (host.kit / ".state/first-run").write_text(done.stdout + done.stderr)
    yield host
    host.clean()


@pytest.fixture
def fresh(shelf: scripts_kit.Shelf, tmp_path: Path, airgap: Dockerd) -> Iterator[Host]:
    """A kit that is not installed, on ports of its own and under a name of its own."""
    host = Host(scripts_kit.make_kit(shelf, tmp_path / "a kit"), airgap)
    facts = (host.kit / "deploy/kit.env").read_text()
    scripts_kit.rewrite(host.kit, "deploy/kit.env", facts.replace("KIT_NAME=test-kit", "KIT_NAME=fresh.kit").encode())
    example = (host.kit / ".env.example").read_text()
    scripts_kit.rewrite(host.kit, ".env.example", example.replace("=187", "=189").encode())
    yield host
    for identifier in airgap.docker("ps", "--all", "--quiet", "--filter", "label=com.docker.compose.project=fresh-kit").split():
        airgap.docker("rm", "--force", identifier)
    for network in airgap.docker("network", "ls", "--quiet", "--filter", "label=com.docker.compose.project=fresh-kit").split():
        airgap.docker("network", "rm", network)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def settings(kit: Path) -> dict[str, str]:
    lines = (kit / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_an_installation_ends_healthy_and_says_so(installed: Host) -> None:
    said = (installed.kit / ".state/first-run").read_text()
    for step in ("Files", "Host", "Images", "Settings", "Services", "Smoke test"):
        assert f"==> {step}" in said
    assert "test-kit v1.0.0 is installed" in said and f":{scripts_kit.PORTS['chat']}   engine-chat" in said
    assert len(installed.containers()) == 4
    key = settings(installed.kit)["VLLM_API_KEY"]
    assert len(key) >= 32 and key not in said and mode(installed.kit / ".env") == 0o600
    original = (installed.kit / ".state/config.orig/models.json").read_bytes()
    assert original == scripts_kit.CONFIG["models.json"]
    users = installed.dockerd.docker(
        "inspect", "--format", "{{.Config.User}}", *[row.split()[0] for row in installed.containers()]
    )
    assert set(users.split()) == {"10001:10001"}
    assert (installed.kit / ".state/cache/chat").stat().st_uid == 10001


def test_the_receipt_is_evidence(installed: Host, shelf: scripts_kit.Shelf) -> None:
    text = (installed.kit / ".state/receipt.json").read_text()
    receipt = json.loads(text)
    assert receipt["kit"] == "test-kit" and receipt["version"] == "v1.0.0" and receipt["device"] == "cpu"
    assert receipt["files"]["result"] == "ok" and receipt["files"]["count"] == len(
        (installed.kit / "SHA256SUMS").read_text().splitlines()
    )
    assert {row["check"] for row in receipt["host_checks"]} >= {"docker", "compose", "ports"}
    assert [image["config"] for image in receipt["images"]] == [
        str(shelf.images[key].config.digest) for key in ("engine", "gateway")
    ]
    sums = hashlib.sha256((installed.kit / "SHA256SUMS").read_bytes()).hexdigest()
    assert receipt["files"]["sha256sums"] == sums and receipt["fingerprint"].replace(" ", "") == sums[:24]
    assert {model["model"]: model["files"] for model in receipt["models"]} == {
        path.name: sum(file.is_file() for file in path.rglob("*")) for path in (installed.kit / "models").iterdir()
    }
    assert [row["health"] for row in receipt["services"]] == ["healthy"] * 4
    assert receipt["smoke"]["ok"] is True and receipt["started"] <= receipt["finished"]
    assert settings(installed.kit)["VLLM_API_KEY"] not in text


def test_a_second_installation_changes_nothing_and_says_so(installed: Host) -> None:
    containers, env = installed.containers(), (installed.kit / ".env").read_bytes()
    done = installed.run("install.sh")
    assert done.returncode == 0, done.stderr
    assert "nothing was changed" in done.stdout and ": 0 read (0 B)" in done.stderr and done.stderr.count("already there") == 2
    assert installed.containers() == containers and (installed.kit / ".env").read_bytes() == env
    assert json.loads((installed.kit / ".state/receipt.json").read_text())["changed"] == []


def test_status_is_for_people_and_programs(installed: Host) -> None:
    table = installed.deploy("status")
    assert table.returncode == 0 and table.stdout.count("healthy") == 4
    answer = json.loads(installed.deploy("status", "--json").stdout)
    assert answer["healthy"] is True and [row["service"] for row in answer["services"]][-1] == "gateway"
    assert {row["port"] for row in answer["services"]} == set(scripts_kit.PORTS.values())


def test_stop_and_start_touch_what_they_name(installed: Host) -> None:
    before = installed.containers()
    assert installed.deploy("stop", "chat").returncode == 0
    stopped = installed.deploy("status", "--json")
    assert stopped.returncode == 6
    assert [row["state"] for row in json.loads(stopped.stdout)["services"] if row["service"] == "engine-chat"] == ["exited"]
    assert installed.deploy("start").returncode == 0
    assert installed.containers() == before, "nothing is made anew that can go on"
    assert installed.deploy("stop").returncode == 0 and installed.containers() == []
    assert installed.deploy("start").returncode == 0 and installed.containers() == before


def test_restart_makes_services_anew(installed: Host) -> None:
    before = installed.by_name()
    assert installed.deploy("restart", "engine-chat").returncode == 0
    after = installed.by_name()
    assert {name for name in after if after[name] != before[name]} == {"test-kit-engine-chat-1"}
    assert installed.deploy("smoke").returncode == 0


def test_logs_and_smoke(installed: Host) -> None:
    logs = installed.deploy("logs", "chat", "--tail", "5")
    assert logs.returncode == 0 and "loading weights" in installed.deploy("logs", "chat", "--since=1h").stdout
    assert installed.deploy("logs", "nobody").returncode == 2
    smoke = installed.deploy("smoke")
    assert smoke.returncode == 0 and "ok    engine-rerank" in smoke.stdout
    assert json.loads(installed.deploy("smoke", "--json").stdout)["ok"] is True


def test_a_wrong_answer_is_a_failed_smoke_test(installed: Host) -> None:
    installed.fault("chat", "silent")
    try:
        assert installed.deploy("restart", "chat").returncode == 0
        done = installed.deploy("smoke")
        assert done.returncode == 7 and "FAIL  engine-chat" in done.stdout
    finally:
        installed.fault("chat", "")
        assert installed.deploy("restart", "chat").returncode == 0


def test_a_wrong_edit_is_refused_before_anything_stops(installed: Host) -> None:
    containers = installed.containers()
    models = installed.kit / "config/models.json"
    whole = models.read_text()
    models.write_text(whole.replace('"type": "chat"', '"type": "chatter"'))
    try:
        for arguments in (("restart",), ("restart", "chat"), ("start",)):
            done = installed.deploy(*arguments)
            assert done.returncode == 3 and "chatter" in done.stderr and "not touched" in done.stderr
        assert installed.containers() == containers and installed.deploy("status").returncode == 0
    finally:
        models.write_text(whole)


def test_an_edited_port_moves_the_gateway(installed: Host) -> None:
    env = installed.kit / ".env"
    whole = env.read_text()
    before = installed.by_name()
    env.write_text(whole.replace("VLLM_ROUTER_PORT=18700", "VLLM_ROUTER_PORT=18710"))
    try:
        assert installed.deploy("start").returncode == 0
        after = installed.by_name()
        assert {name for name in after if after[name] != before[name]} == {"test-kit-gateway-1"}
        assert json.loads(installed.deploy("status", "--json").stdout)["services"][-1]["port"] == 18710
    finally:
        env.write_text(whole)
        assert installed.deploy("start").returncode == 0


@pytest.mark.parametrize(
    "fault, reason",
    [
        (
            "die:torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "memory of the GPU ran out while starting",
        ),
        ("die:something nobody has seen before", ""),
    ],
)
def test_an_engine_that_comes_down_is_named_with_its_reason(installed: Host, fault: str, reason: str) -> None:
    installed.fault("rerank", fault)
    try:
        done = installed.deploy("restart", "rerank")
        assert done.returncode == 6 and fault[4:40] in done.stderr, done.stderr
        assert "engine-rerank came down while starting" in done.stderr
        assert reason in done.stderr.splitlines()[-2]
    finally:
        installed.fault("rerank", "")
        assert installed.deploy("start").returncode == 0


def test_an_engine_that_never_answers_is_given_up(installed: Host) -> None:
    installed.fault("embedding", "hang")
    try:
        done = installed.deploy("restart", "embedding", timeout="4")
        assert done.returncode == 6 and "engine-embedding is not healthy after 4 s" in done.stderr
    finally:
        installed.fault("embedding", "")
        assert installed.deploy("start").returncode == 0


@pytest.mark.fault("install: start", "two at once", "the second ends with 1 and says that another script is at work")
def test_two_runs_at_once_are_one_too_many(installed: Host) -> None:
    with (installed.kit / ".state/lock").open("w") as handle:
        holder = subprocess.Popen(["flock", "--no-fork", str(installed.kit / ".state/lock"), "sleep", "30"])
        time.sleep(0.5)
        done = installed.deploy("start")
        holder.terminate()
        holder.wait()
        assert not handle.closed
    assert done.returncode == 1 and "another script is at work" in done.stderr


def test_a_dry_run_changes_nothing(fresh: Host) -> None:
    before = {path: path.stat().st_mtime_ns for path in fresh.kit.rglob("*")}
    done = fresh.run("install.sh", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would write" in done.stderr and "would start" in done.stderr and "nothing was changed" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in fresh.kit.rglob("*")} == before


def test_no_start_then_start(fresh: Host) -> None:
    done = fresh.run("install.sh", "--no-start", "--device", "cpu")
    assert done.returncode == 0 and "Nothing was started" in done.stdout
    assert (fresh.kit / ".state/compose.yaml").exists() and settings(fresh.kit)["OFFLINE_KIT_DEVICE"] == "cpu"
    assert not fresh.dockerd.docker("ps", "--quiet", "--filter", "label=com.docker.compose.project=fresh-kit")
    assert fresh.deploy("start").returncode == 0 and fresh.deploy("status").returncode == 0


def test_with_is_kept_and_its_receipt_is_written_where_wanted(fresh: Host, tmp_path: Path) -> None:
    receipt = tmp_path / "receipt.json"
    wanted = ["--no-start", f"--json-receipt={receipt}"]
    scripts_kit.rewrite(
        fresh.kit,
        ".env.example",
        (fresh.kit / ".env.example").read_bytes().replace(b"_HTTP_PORT=80", b"_HTTP_PORT=18980").replace(b"=443", b"=18943"),
    )
    assert fresh.run("install.sh", "--with", "nginx", *wanted).returncode == 0
    assert settings(fresh.kit)["OFFLINE_KIT_WITH"] == "nginx" and "18980 gateway" in (fresh.kit / ".state/ports").read_text()
    reported = json.loads(receipt.read_text())
    assert reported == json.loads((fresh.kit / ".state/receipt.json").read_text()) and mode(receipt) == 0o600
    sums = (fresh.kit / "SHA256SUMS").read_text()
    assert reported["with"] == "nginx" and reported["lock"] == "sha256:" + re.findall(r"(\w+)  lock\.json", sums)[0]
    assert fresh.run("install.sh", *wanted).returncode == 0 and settings(fresh.kit)["OFFLINE_KIT_WITH"] == "nginx"
    assert fresh.run("install.sh", "--with=", *wanted).returncode == 0 and settings(fresh.kit)["OFFLINE_KIT_WITH"] == ""


def test_monitoring_gets_a_password_where_the_kit_has_grafana(fresh: Host) -> None:
    facts, example = (fresh.kit / name for name in ("deploy/kit.env", ".env.example"))
    facts.write_text(facts.read_text().replace("KIT_IMAGES=engine,gateway", "KIT_IMAGES=engine,gateway,prometheus,grafana"))
    example.write_text(example.read_text() + "GRAFANA_ADMIN_PASSWORD=\n")
    library = fresh.kit / "scripts/lib"
    words = f'. "{library}/kit/settings.sh"; . "{library}/core/options.sh"; open_kit "{fresh.kit}/install.sh"'
    script = f"{words}; with_argument --with monitoring; env_write"
    subprocess.run(["bash", "-c", script], check=True, capture_output=True)
    password = settings(fresh.kit)["GRAFANA_ADMIN_PASSWORD"]
    assert re.fullmatch("[0-9a-f]{48}", password) and settings(fresh.kit)["VLLM_API_KEY"] != password
    subprocess.run(["bash", "-c", script], check=True, capture_output=True)
    assert settings(fresh.kit)["GRAFANA_ADMIN_PASSWORD"] == password


@pytest.mark.parametrize("arguments, result", [(["--dry-run"], "dry run"), (["--device=nvidia"], "failed")])
def test_a_receipt_is_written_whatever_the_end(fresh: Host, tmp_path: Path, arguments: list[str], result: str) -> None:
    receipt = tmp_path / "receipt.json"
    done = fresh.run("install.sh", *arguments, "--json-receipt", str(receipt))
    reported = json.loads(receipt.read_text())
    assert reported["result"] == result and (reported["error"] == "") is (done.returncode == 0)
    assert (
        reported["host_checks"]
        and reported["files"]["result"] == "ok"
        and {row["result"] for row in reported["images"]}
        <= {
            "not loaded",
            "already there",
        }
    )
    assert not (fresh.kit / ".state/receipt.json").exists() and not (fresh.kit / ".env").exists()


def test_an_env_file_comes_first_and_an_env_that_is_there_stays(fresh: Host, tmp_path: Path) -> None:
    mine = tmp_path / "mine.env"
    mine.write_text(
        "# my settings\nVLLM_CHAT_PORT=18977\nVLLM_API_KEY=0123456789abcdef0123456789abcdef\nOFFLINE_KIT_BIND=127.0.0.1"
    )
    assert fresh.run("install.sh", "--no-start", "--env-file", str(mine)).returncode == 0
    first = settings(fresh.kit)
    assert (first["VLLM_CHAT_PORT"], first["VLLM_API_KEY"], first["OFFLINE_KIT_BIND"]) == (
        "18977",
        "0123456789abcdef0123456789abcdef",
        "127.0.0.1",
    )
    assert first["VLLM_RERANK_PORT"] == "18903" and mode(fresh.kit / ".env") == 0o600
    env = fresh.kit / ".env"
    env.write_text(
        "".join(line for line in env.read_text().splitlines(True) if not line.startswith("VLLM_RERANK")) + "# mine\n"
    )
    mine.write_text("VLLM_CHAT_PORT=1\n")
    done = fresh.run("install.sh", "--no-start", "--env-file", str(mine))
    assert done.returncode == 0 and "is there already and stays" in done.stderr
    second = settings(fresh.kit)
    assert second == first and "# mine" in env.read_text()


def test_an_env_file_of_another_shape_is_refused(fresh: Host, tmp_path: Path) -> None:
    mine = tmp_path / "mine.env"
    mine.write_text("VLLM_CHAT_PORT: 18977\n")
    done = fresh.run("install.sh", "--env-file", str(mine))
    assert done.returncode == 3 and "not KEY=value" in done.stderr and not (fresh.kit / ".env").exists()


def test_a_taken_port_stops_the_installation_before_any_change(fresh: Host) -> None:
    holder = subprocess.Popen([*fresh.dockerd.nsenter, "busybox", "nc", "-l", "-p", "18901"], stdin=subprocess.DEVNULL)
    try:
        time.sleep(1)
        done = fresh.run("install.sh")
    finally:
        holder.terminate()
        holder.wait()
    assert done.returncode == 4 and "18901 (VLLM_CHAT_PORT) is taken" in done.stderr
    assert not (fresh.kit / ".env").exists() and not (fresh.kit / ".state/compose.yaml").exists()


@pytest.mark.fault("install: checks", "kill -9", "run again it installs, and a further run changes nothing")
@pytest.mark.fault("install: images", "kill -9", "run again it installs, and a further run changes nothing")
@pytest.mark.fault("install: start", "kill -9", "run again it installs, and a further run changes nothing")
@pytest.mark.fault("install: checks", "SIGINT, SIGTERM", "exit 130; run again it installs")
@pytest.mark.fault("install: images", "SIGINT, SIGTERM", "exit 130, no half of an image; run again it installs")
@pytest.mark.fault("install: start", "SIGINT, SIGTERM", "exit 130; run again it installs")
@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_installation_goes_on_where_it_was(fresh: Host, sign: signal.Signals) -> None:
    env = {**os.environ, **fresh.dockerd.env}
    for seconds in (1.5, 5.0):
        running = subprocess.Popen(
            # SIGINT is ignored where the tests themselves run in the background
            [*fresh.dockerd.nsenter, "env", "--default-signal=INT", str(fresh.kit / "install.sh")],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        time.sleep(seconds)
        running.send_signal(sign)
        _, said = running.communicate(timeout=60)
        assert running.returncode == (-9 if sign == signal.SIGKILL else 130), said
    done = fresh.run("install.sh")
    assert done.returncode == 0, done.stderr
    assert not list(fresh.kit.glob(".state/*.partial*")) or sign == signal.SIGKILL
    again = fresh.run("install.sh")
    assert again.returncode == 0 and "nothing was changed" in again.stdout


def test_a_kit_with_another_set_of_models_drops_the_service_that_is_gone(fresh: Host) -> None:
    assert fresh.run("install.sh").returncode == 0
    models = json.loads((fresh.kit / "config/models.json").read_text())
    del models["models"]["rerank"]
    (fresh.kit / "config/models.json").write_text(json.dumps(models))
    refused = fresh.deploy("restart")
    assert refused.returncode == 3 and "VLLM_RERANK_PORT" in refused.stderr
    env = fresh.kit / ".env"
    env.write_text("".join(line for line in env.read_text().splitlines(True) if not line.startswith("VLLM_RERANK")))
    done = fresh.deploy("restart")
    assert done.returncode == 0 and "engine-rerank: no longer configured, removed" in done.stderr
    assert fresh.deploy("smoke").returncode == 0
    verified = fresh.run("scripts/verify.sh")
    assert verified.returncode == 0 and "note: changed: config/models.json" in verified.stderr
    again = fresh.run("install.sh")
    assert again.returncode == 0 and "VLLM_RERANK_PORT" not in env.read_text() and "nothing was changed" in again.stdout
