"""deploy.sh on running services: keys, status, logs, backup and restore, the support bundle."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def host(shelf: scripts_kit.Shelf, tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd) -> Iterator[Host]:
    """An installed kit in a path with spaces; tests leave it healthy."""
    made = kit_fixtures.make_version(shelf, tmp_path_factory.mktemp("verbs") / "a kit", airgap, name="verbs", ports=18820)
    done = made.run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean()


def test_no_two_libraries_define_the_same_function() -> None:
    """deploy.sh reads them all: the later definition would win, unseen."""
    found: dict[str, str] = {}
    for path in sorted((REPOSITORY / "scripts/lib").rglob("*.sh")):
        for name in re.findall(r"^(\w+)\(\)", path.read_text(), flags=re.M):
            assert found.setdefault(name, path.name) == path.name, name


def test_keys_come_and_go_without_a_lost_request(host: Host) -> None:
    with host.client() as client:
        added = host.deploy("keys", "add", "team-a")
        key = added.stdout.strip()
        assert added.returncode == 0 and len(key) == 48 and host.status_of(key) == 200
        again = host.deploy("keys", "add", "team-a")
        assert again.returncode == 2 and "already" in again.stderr
        listed = host.deploy("keys", "list")
        assert "team-a" in listed.stdout and "default" in listed.stdout and key not in listed.stdout + added.stderr
        revoked = host.deploy("keys", "revoke", "team-a")
        assert revoked.returncode == 0 and host.status_of(key) == 401 and host.status_of(host.key) == 200
    assert len(client.answers) > 5 and {status for _, status in client.answers} == {200}
    assert stat.S_IMODE((host.kit / ".state/keys").stat().st_mode) == 0o600
    assert "team-a" not in host.deploy("keys", "list").stdout


def test_a_reload_ends_when_no_old_worker_takes_requests(host: Host) -> None:
    """What asks right after a verb is answered by what the verb wrote: nginx itself says nothing of when that is so."""
    script = """
        . "$0/scripts/lib/services/start.sh"; KIT=$0 STATE=$0/.state PROJECT=verbs
        gateway_workers; before=$REPLY
        compose exec -T gateway nginx -e stderr -c /etc/offline-kit/nginx.conf -s reload </dev/null >/dev/null 2>&1
        gateway_replaced "$before"; gateway_workers; printf '%s\n' "$before" "$REPLY" """
    done = subprocess.run(
        ["bash", "-c", script, host.kit], env={**os.environ, **host.env}, capture_output=True, text=True, check=False
    )
    before, after = (line.split() for line in done.stdout.splitlines())
    assert len(before) == len(after) == 2 and not set(before) & set(after), done


@pytest.mark.parametrize(
    "words", [["add"], ["add", "a b"], ["add", "default"], ["revoke", "nobody"], ["revoke", "default"], ["x"]]
)
def test_keys_that_cannot_be(host: Host, words: list[str]) -> None:
    assert host.deploy("keys", *words).returncode == 2


def test_a_key_is_taken_back_when_the_configuration_is_wrong(host: Host) -> None:
    kit_fixtures.edit_models(host, "chat", type="chatter")
    try:
        done = host.deploy("keys", "add", "late")
        assert done.returncode == 3 and "late" not in host.deploy("keys", "list").stdout
    finally:
        kit_fixtures.edit_models(host, "chat", type="chat")


def test_status_tells_model_memory_and_uptime(host: Host) -> None:
    table = host.deploy("status").stdout
    assert "tiny-chat" in table and "MiB" in table and table.count("healthy") == 4
    rows = {row["service"]: row for row in json.loads(host.deploy("status", "--json").stdout)["services"]}
    assert rows["engine-rerank"]["model"] == "tiny-rerank" and "MiB" in rows["engine-rerank"]["memory"]
    assert rows["gateway"]["model"] is None and rows["engine-chat"]["requests_running"] is None


def test_error_lines_alone(host: Host) -> None:
    quiet = host.deploy("logs", "rerank", "--errors", "--since", "2099-01-01T00:00:00")  # later than any line
    assert quiet.returncode == 0 and "no line" in quiet.stderr, quiet.stdout
    assert "loading weights" not in host.deploy("logs", "--errors").stdout
    assert "loading weights" in host.deploy("logs", "chat", "--since", "1h").stdout


def test_start_in_order_leaves_healthy_services_alone(host: Host) -> None:
    before = host.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", host.project)
    assert host.deploy("start", "--in-order").returncode == 0
    assert host.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", host.project) == before
    # as after a power loss: Docker has started everything, and nothing is healthy yet
    for name in ("engine-chat", "engine-embedding"):
        host.dockerd.docker("restart", "-t", "1", f"verbs-{name}-1")
    done = host.deploy("start", "--in-order")
    assert done.returncode == 0 and host.deploy("status").returncode == 0, done.stderr


def test_the_support_bundle_has_no_secret(host: Host, tmp_path: Path) -> None:
    key = host.deploy("keys", "add", "team-s").stdout.strip()
    env = host.kit / ".env"
    whole = env.read_text()
    env.write_text(whole + "GRAFANA_ADMIN_PASSWORD=pass.word*[1]\nMY_TOKEN='tok en/\\1&x'\n")
    (host.kit / "config/notes.txt").write_text(f"key {host.key}{host.key} and pass.word*[1] and tok en/\\1&x\n")
    try:
        done = host.deploy("support-bundle", str(tmp_path / "help.tar.gz"))
        assert done.returncode == 0, done.stderr
        with tarfile.open(tmp_path / "help.tar.gz") as archive:
            archive.extractall(tmp_path / "out", filter="data")
        for secret in (key, host.key, "pass.word*[1]", "tok en/\\1&x"):
            assert subprocess.run(["grep", "-rqF", "-e", secret, tmp_path / "out"], check=False).returncode == 1
        inside = tmp_path / "out/support"
        assert (inside / "kit/config/notes.txt").read_text() == (
            "key [VLLM_API_KEY][VLLM_API_KEY] and [GRAFANA_ADMIN_PASSWORD] and [MY_TOKEN]\n"
        )
        for name in (
            "status.json",
            "plan.txt",
            "services/engine-chat.log",
            "host/docker-info.txt",
            "kit/.env",
            "preflight.txt",
        ):
            assert (inside / name).stat().st_size, name
        assert not list(inside.rglob("keys*"))
        assert host.deploy("support-bundle", str(host.kit / "help.tar.gz")).returncode == 2
    finally:
        env.write_text(whole)
        (host.kit / "config/notes.txt").unlink()
        assert host.deploy("keys", "revoke", "team-s").returncode == 0


def test_backup_uninstall_install_restore(host: Host, tmp_path: Path) -> None:
    """The same keys and settings serve again; what restore refuses, it refuses before anything changes."""
    team = host.deploy("keys", "add", "team-b").stdout.strip()
    key, env = host.key, (host.kit / ".env").read_bytes()
    kit_fixtures.edit_models(host, "chat", max_model_len=77)
    (host.kit / "models/mine").mkdir()
    (host.kit / "models/mine/weights.bin").write_bytes(b"mine")
    assert host.deploy("start").returncode == 0
    file = tmp_path / "a backup.tar.gz"
    done = host.deploy("backup", str(file), "--models")
    assert done.returncode == 0 and done.stdout.strip() == str(file), done.stderr
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    gone = host.deploy("uninstall", "--force")
    assert gone.returncode == 0 and "models/mine, which is yours" in gone.stderr, gone.stderr
    assert not (host.kit / ".env").exists() and not (host.kit / ".state").exists()
    refused = host.run("install.sh", "--yes")
    assert refused.returncode == 20 and "models/mine" in refused.stderr
    subprocess.run(["rm", "-r", str(host.kit / "models/mine")], check=True)
    assert host.run("install.sh", "--yes").returncode == 0
    assert host.key != key and host.status_of(team) == 401

    damaged = tmp_path / "damaged.tar.gz"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    before = (host.kit / ".env").read_bytes()
    assert host.deploy("restore", str(damaged)).returncode == 20 and (host.kit / ".env").read_bytes() == before

    done = host.deploy("restore", str(file))
    assert done.returncode == 0, done.stderr
    assert (host.kit / ".env").read_bytes() == env and host.status_of(team) == 200 and host.status_of(key) == 200
    assert json.loads((host.kit / "config/models.json").read_text())["models"]["chat"]["max_model_len"] == 77
    assert (host.kit / "models/mine/weights.bin").read_bytes() == b"mine"
    assert host.deploy("status").returncode == 0 and host.run("scripts/verify.sh").returncode == 0
