"""A machine that is lost: its backup, and the same bundle on a fresh machine, bring the same keys and settings back."""

from __future__ import annotations

import json
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts import Host, Installed, api_key, install_kit, make_host
from tests.testbed.dockerd import Dockerd

pytestmark = pytest.mark.long  # minutes: make test-long runs it

PORT, LENGTH, NAME = "18001", 200, "our-chat"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine of its own."""
    folder = tmp_path_factory.mktemp("backup")
    with Dockerd(folder / "d", airgap=True) as running:
        yield make_host(running, folder / "path")


def test_backup_uninstall_fresh_install_restore(chat_bundle: Path, host: Host, tmp_path: Path) -> None:
    old = install_kit(chat_bundle, host, tmp_path / "old")
    team = _deploy(old, "keys", "add", "team-a").stdout.strip()
    env = old.kit / ".env"
    env.write_text(env.read_text().replace("VLLM_CHAT_PORT=8001", f"VLLM_CHAT_PORT={PORT}"))
    _edit(old)
    assert _deploy(old, "start").returncode == 0
    assert _serves_as_before(old, old.key) and _serves_as_before(old, team)
    kept = {name: (old.kit / name).read_bytes() for name in (".env", ".state/keys", "config/models.json")}

    file = tmp_path / "settings.tar.gz"
    made = _deploy(old, "backup", str(file))
    assert made.returncode == 0 and stat.S_IMODE(file.stat().st_mode) == 0o600, made.stderr
    gone = _deploy(old, "uninstall", "--force")
    assert gone.returncode == 0, gone.stderr
    assert host.docker.docker("ps", "--all", "--quiet") == "" and host.docker.docker("images", "--quiet") == ""

    new = install_kit(chat_bundle, host, tmp_path / "new")
    assert new.key != old.key
    assert [_status(new, key) for key in (new.key, old.key, team)] == [200, 401, 401]
    fresh = _deploy(new, "keys", "add", "team-b").stdout.strip()
    assert _status(new, fresh) == 200

    done = _deploy(new, "restore", str(file))
    assert done.returncode == 0, done.stderr
    assert {name: (new.kit / name).read_bytes() for name in kept} == kept
    assert [_status(new, key) for key in (new.key, fresh, old.key, team)] == [401, 401, 200, 200]
    assert api_key(new.kit) == old.key
    assert _serves_as_before(new, old.key) and _serves_as_before(new, team)
    listed = _deploy(new, "keys", "list").stdout
    assert "team-a" in listed and "team-b" not in listed
    assert _deploy(new, "status").returncode == 0 and _deploy(new, "smoke").returncode == 0
    assert host.run("./scripts/verify.sh", cwd=new.kit).returncode == 0
    assert _deploy(new, "uninstall", "--force").returncode == 0


def _deploy(kit: Installed, *arguments: str) -> subprocess.CompletedProcess[str]:
    return kit.host.run("./scripts/deploy.sh", *arguments, cwd=kit.kit)


def _status(kit: Installed, key: str) -> int:
    return int(kit.host.ask("status", "--path", "/v1/models", "--key", key)["status"])


def _edit(kit: Installed) -> None:
    path = kit.kit / "config/models.json"
    data = json.loads(path.read_text())
    data["models"]["chat"].update(max_model_len=LENGTH, name=NAME)
    path.write_text(json.dumps(data, indent=2) + "\n")


def _serves_as_before(kit: Installed, key: str) -> bool:
    """On the port and under the name that the operator gave it, with the context that the operator wants."""
    base = f"http://127.0.0.1:{PORT}"
    listed = kit.host.ask("status", "--base", base, "--path", "/v1/models", "--key", key)
    (model,) = json.loads(listed["body"])["data"]
    answer = kit.host.ask("chat", "--base", base, "--model", NAME, "--key", key)
    closed = kit.host.ask("status", "--base", "http://127.0.0.1:8001")
    return bool(answer["text"]) and (model["id"], model["max_model_len"], closed["status"]) == (NAME, LENGTH, 0)
