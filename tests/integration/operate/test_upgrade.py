"""deploy.sh upgrade and rollback between two versions: what is carried over, what is refused, what is undone.

One file, for every test uses the same installed version and leaves it serving: a second file would install it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.bundle.signature.sign import sign
from offline_kit.bundle.signature.signers import open_signer
from offline_kit.common.digest import Digest
from tests.faults.disks import read_only, unreadable_file
from tests.support import kit_fixtures, scripts_kit
from tests.support.kit_fixtures import Host
from tests.testbed.dockerd import Dockerd

# step of an upgrade -> the longest that it is let run, in seconds
STEPS = {"Switch": 8.0, "Settings": 3.0, "Images": 2.0, "Smoke test": 1.5}


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def old(shelf: scripts_kit.Shelf, tmp_path_factory: pytest.TempPathFactory, airgap: Dockerd) -> Iterator[Host]:
    """v1.0.0, installed, with edits and a key of the operator's; every test leaves it serving."""
    host = kit_fixtures.make_version(shelf, tmp_path_factory.mktemp("upgrade") / "a kit v1.0.0", airgap, name="moving")
    done = host.run("install.sh", "--yes")
    assert done.returncode == 0, done.stderr
    kit_fixtures.edit_models(host, "chat", max_model_len=100)
    env = host.kit / ".env"
    env.write_text(env.read_text().replace("OFFLINE_KIT_BIND=0.0.0.0", "OFFLINE_KIT_BIND=127.0.0.1") + "# mine\n")
    (host.kit / "models/mine").mkdir()
    (host.kit / "models/mine/config.json").write_text("{}")
    started = host.deploy("start")
    assert started.returncode == 0, started.stderr
    added = host.deploy("keys", "add", "team-a")
    assert added.returncode == 0, added.stderr
    (host.kit / ".state/test-key").write_text(added.stdout.strip())
    yield host
    host.clean()


@pytest.fixture
def new(shelf: scripts_kit.Shelf, old: Host, tmp_path: Path, airgap: Dockerd) -> Iterator[Host]:
    """v1.1.0, unpacked: other defaults."""
    host = kit_fixtures.make_version(shelf, tmp_path / "a kit v1.1.0", airgap, name="moving", version="v1.1.0")
    kit_fixtures.edit_models(host, "chat", gpu_memory_utilization=0.25)
    kit_fixtures.edit_models(host, "rerank", max_model_len=64)
    (host.kit / "config/vllm_config.yaml").write_text("# the new default\nseed: 1\n")
    kit_fixtures.reseal(host, "config/models.json", "config/vllm_config.yaml")
    yield host
    if (old.kit / ".state/upgrade").exists():  # a failed test: the next one finds v1.0.0 serving all the same
        (old.kit / ".state/upgrade").unlink()
        assert old.deploy("start").returncode == 0


def untouched(old: Host, before: dict[str, bytes]) -> bool:
    return {name: (old.kit / name).read_bytes() for name in before} == before


def ready(new: Host) -> float:
    """When the new version was made ready: the last moment before the switch."""
    return (new.kit / ".state/compose.yaml").stat().st_mtime


def receipt(host: Host) -> dict[str, Any]:
    """What the receipt of this version says, and its digest."""
    path = host.kit / ".state/receipt.json"
    return {**json.loads(path.read_text()), "digest": f"sha256:{Digest.of_file(path).hex}"}


def kept(old: Host) -> dict[str, bytes]:
    return {name: (old.kit / name).read_bytes() for name in (".env", ".state/keys", "config/models.json")}


def test_a_good_upgrade_carries_everything_and_rollback_goes_back(old: Host, new: Host) -> None:
    team = (old.kit / ".state/test-key").read_text()
    before = kept(old)
    with old.client() as client:
        done = old.deploy("upgrade", os.path.relpath(new.kit, old.kit), cwd=old.kit)
    assert done.returncode == 0, done.stderr
    assert new.serves("v1.1.0") and client.failed_only_after(ready(new))
    models = json.loads((new.kit / "config/models.json").read_text())["models"]
    assert (models["chat"]["max_model_len"], models["chat"]["gpu_memory_utilization"]) == (100, 0.25)
    assert models["rerank"]["max_model_len"] == 64
    assert (new.kit / "config/vllm_config.yaml").read_text() == "# the new default\nseed: 1\n"
    assert (new.kit / ".env").read_bytes() == before[".env"] and (new.kit / ".state/keys").read_bytes() == before[".state/keys"]
    assert (new.kit / "models/mine/config.json").read_text() == "{}"
    assert new.status_of(team) == 200 and untouched(old, before)
    assert new.run("scripts/verify.sh").returncode == 0

    chain = [receipt(old), receipt(new)]
    assert [told["result"] for told in chain] == ["installed", "upgraded"] and chain[1]["version"] == "v1.1.0"
    assert chain[1]["previous_receipt"] == chain[0]["digest"] and chain[1]["files"]["result"] == "ok"
    assert {row["state"] for row in chain[1]["services"]} == {"running"}

    # verbs in the old folder go on in the new one
    status = old.deploy("status", "--json")
    assert (
        status.returncode == 0 and json.loads(status.stdout)["version"] == "v1.1.0" and "v1.1.0 is the current" in status.stderr
    )

    other = new.deploy("keys", "add", "team-b").stdout.strip()
    assert new.deploy("keys", "revoke", "team-a").returncode == 0
    back = old.deploy("rollback")
    assert back.returncode == 0, back.stderr
    assert old.serves("v1.0.0") and old.status_of(other) == 200 and old.status_of(team) == 401
    assert (old.kit / ".env").read_bytes() == before[".env"]
    assert json.loads(new.deploy("status", "--json").stdout)["version"] == "v1.0.0"
    chain.append(receipt(old))
    assert chain[2]["result"] == "rolled back" and chain[2]["previous_receipt"] == chain[1]["digest"]
    # and there again
    again = old.deploy("upgrade", str(new.kit))
    assert again.returncode == 0 and new.serves("v1.1.0"), again.stderr
    chain.append(receipt(new))
    assert chain[3]["result"] == "upgraded" and chain[3]["previous_receipt"] == chain[2]["digest"]
    # the whole chain lies with what serves, whatever becomes of the folders before
    kept_there = {f"sha256:{Digest.of_file(path).hex}" for path in (new.kit / ".state/receipts").iterdir()}
    assert kept_there >= {told["digest"] for told in chain[:3]}
    assert new.run("install.sh", "--yes").returncode == 0 and receipt(new)["previous_receipt"] == chain[3]["digest"]
    assert new.deploy("rollback").returncode == 0 and old.serves("v1.0.0")


def test_an_older_version_is_taken_only_when_told_to(
    shelf: scripts_kit.Shelf, old: Host, tmp_path: Path, airgap: Dockerd
) -> None:
    older = kit_fixtures.make_version(shelf, tmp_path / "older", airgap, name="moving", version="v0.9.0")
    done = old.deploy("upgrade", str(older.kit), "--dry-run")
    assert done.returncode == 2 and "v0.9.0 is older than v1.0.0: --allow-downgrade" in done.stderr, done.stderr
    done = old.deploy("upgrade", str(older.kit), "--dry-run", "--allow-downgrade")
    assert done.returncode == 0 and "would upgrade v1.0.0 -> v0.9.0" in done.stderr + done.stdout, done.stderr


def test_nothing_of_a_version_that_is_not_signed_as_demanded_runs(old: Host, new: Host, tmp_path: Path) -> None:
    """Not signed, signed by another, by one of two; where the host demands it, and where an option does."""
    mark, keys = tmp_path / "it ran", tmp_path / "etc/keys.d"
    keys.mkdir(parents=True)
    for name in ("builder", "approver", "other"):
        generate_key_pair(tmp_path / f"{name}.key", tmp_path / f"{name}.pub", None)
    for name in ("builder", "approver"):
        (keys / f"{name}.pub").write_bytes((tmp_path / f"{name}.pub").read_bytes())
    for script in sorted((new.kit / "scripts").rglob("*.sh")):
        scripts_kit.rewrite(new.kit, str(script.relative_to(new.kit)), f"#!/bin/sh\ntouch '{mark}'\nexit 1\n".encode())
    Path("/etc/offline-kit").mkdir(exist_ok=True)
    inside = 'mount --bind "$1" /etc/offline-kit && exec "$2/scripts/deploy.sh" upgrade "$3"'
    demanding = [*old.dockerd.nsenter, "unshare", "--mount", "bash", "-c", inside, "-", keys.parent, old.kit, new.kit]

    def refused() -> bool:
        by_host = subprocess.run(list(map(str, demanding)), env={**os.environ, **old.env}, capture_output=True, check=False)
        words = [f"--key={tmp_path / name}.pub" for name in ("builder", "approver")]
        codes = [by_host.returncode, old.deploy("upgrade", str(new.kit), *words).returncode]
        return codes == [22, 22] and not mark.exists()

    assert refused(), "not signed"
    for name in ("other", "builder"):
        sign(new.kit, open_signer(str(tmp_path / f"{name}.key"), None, lambda path: None))
        assert refused(), f"signed by {name}"
    sign(new.kit, open_signer(str(tmp_path / "approver.key"), None, lambda path: None))
    assert not refused() and mark.exists(), "signed by both, it runs: else the lines above could not fail"
    assert set(old.versions().values()) == {"v1.0.0"}


def test_a_conflict_is_told_and_both_versions_are_kept(old: Host, new: Host) -> None:
    kit_fixtures.edit_models(new, "chat", max_model_len=90)
    kit_fixtures.reseal(new, "config/models.json")
    done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == 0, done.stderr
    assert "CONFLICT config/models.json: models.chat.max_model_len: yours is used (100); the new default is 90" in done.stderr
    sides = [json.loads((new.kit / f".state/conflicts/{side}/models.json").read_text()) for side in ("yours", "new")]
    assert [side["models"]["chat"]["max_model_len"] for side in sides] == [100, 90]
    assert new.deploy("rollback").returncode == 0 and old.serves("v1.0.0")


@pytest.mark.parametrize(
    "fault, code, why",
    [
        ("hang", 6, "is not healthy after 30 s"),
        ("silent", 7, "smoke test: FAIL"),
    ],
)
def test_a_broken_version_is_undone_by_itself(old: Host, new: Host, fault: str, code: int, why: str) -> None:
    scripts_kit.rewrite(new.kit, "models/chat/config.json", b"chat config.json\n")
    (new.kit / "models/chat/fault").write_text(fault)
    new_sums = (new.kit / "SHA256SUMS").read_text()
    lines = sorted([*new_sums.splitlines(), f"{_sha256(fault)}  models/chat/fault"], key=lambda line: line[66:].encode())
    (new.kit / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    before = kept(old)
    slow = Host(old.kit, old.dockerd, old.ports, timeout="30" if fault == "hang" else "180")
    with old.client() as client:
        done = slow.deploy("upgrade", str(new.kit))
    assert done.returncode == code, done.stderr
    assert old.serves("v1.0.0") and untouched(old, before) and client.failed_only_after(ready(new))
    assert "v1.0.0 serves again" in done.stderr
    report = (old.kit / ".state/upgrade-report").read_text().splitlines()[-1]
    assert "went back" in report and why in report
    assert old.deploy("smoke").returncode == 0


@pytest.mark.parametrize("what", ["file", "script", "name", "configuration", "port"])
def test_what_cannot_serve_is_refused_while_the_old_version_serves(old: Host, new: Host, what: str) -> None:
    code = {"file": 20, "script": 20, "name": 2, "configuration": 3, "port": 3}[what]
    if what == "file":
        (new.kit / "models/rerank/config.json").write_text("damaged")
    elif what == "script":
        (new.kit / "scripts/lib/kit/images.sh").write_text("exit 0\n")
    elif what == "name":
        facts = (new.kit / "deploy/kit.env").read_text()
        scripts_kit.rewrite(new.kit, "deploy/kit.env", facts.replace("KIT_NAME=moving", "KIT_NAME=other").encode())
    elif what == "configuration":
        kit_fixtures.edit_models(new, "rerank", path="/models/none")
        kit_fixtures.reseal(new, "config/models.json")
    else:
        kit_fixtures.edit_models(new, "rerank", port=kit_fixtures.settings(old.kit / ".env").get("none", "no port"))
        kit_fixtures.reseal(new, "config/models.json")
    containers = old.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", old.project)
    before = kept(old)
    with old.client() as client:
        done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == code, done.stderr
    assert old.dockerd.docker("ps", "--no-trunc", "--quiet", "--filter", old.project) == containers
    assert {status for _, status in client.answers} == {200} and untouched(old, before)
    assert not (old.kit / ".state/upgrade").exists()


@pytest.mark.fault("upgrade", "read-only", "exit 4, and the old version serves")
def test_a_version_on_a_medium_that_is_only_read(old: Host, new: Host) -> None:
    with read_only(new.kit):
        done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == 4 and "read-only" in done.stderr and old.serves("v1.0.0"), done.stderr


@pytest.mark.fault("upgrade", "unreadable", "exit 20, which names the file, and the old version serves")
def test_a_version_that_the_disk_cannot_read(old: Host, new: Host, shelf: scripts_kit.Shelf, tmp_path: Path) -> None:
    name = f"images/blobs/sha256/{shelf.images['engine'].layers[1].digest.hex}"
    with unreadable_file(tmp_path, new.kit / name, 1 << 20):
        done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == 20 and f"unreadable: {name}" in done.stderr and old.serves("v1.0.0"), done.stderr


@pytest.mark.fault("upgrade", "two at once", "the second ends with 1 and says that another script is at work")
def test_a_second_upgrade_at_once(old: Host, new: Host) -> None:
    with (old.kit / ".state/lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == 1 and "another script is at work" in done.stderr and old.serves("v1.0.0"), done.stderr


@pytest.mark.fault("upgrade", "kill -9", "the old version serves after `start`, with its settings and keys as they were")
@pytest.mark.parametrize("step, seconds, group", kit_fixtures.moments(STEPS, 2))
def test_killed_at_any_moment_the_old_version_serves(old: Host, new: Host, step: str, seconds: float, group: bool) -> None:
    before = kept(old)
    said = kit_fixtures.kill(old.begin("upgrade", str(new.kit)), step, seconds, group=group)
    phase = _text(old.kit / ".state/upgrade")
    if "PHASE=done" in phase:
        assert new.serves("v1.1.0") and new.deploy("rollback").returncode == 0
    elif "PHASE=switch" not in phase:
        assert old.serves("v1.0.0"), f"{phase}: {said}"
    started = old.deploy("start")
    assert started.returncode == 0, f"{phase}: {said}\n{started.stderr}"
    assert old.serves("v1.0.0") and not (old.kit / ".state/upgrade").exists() and untouched(old, before)
    assert old.deploy("smoke").returncode == 0


def test_after_a_kill_the_same_upgrade_goes_through(old: Host, new: Host) -> None:
    kit_fixtures.kill(old.begin("upgrade", str(new.kit)), "Switch", 0.5, group=True)
    refused = old.deploy("restart")
    assert refused.returncode == 1 and "deploy.sh start" in refused.stderr
    assert old.deploy("start").returncode == 0 and old.serves("v1.0.0")
    done = old.deploy("upgrade", str(new.kit))
    assert done.returncode == 0 and new.serves("v1.1.0"), done.stderr
    assert new.deploy("rollback").returncode == 0 and old.serves("v1.0.0")


def test_another_version_does_not_start_over_one_that_serves(old: Host, new: Host) -> None:
    done = new.run("install.sh", "--yes", "--no-start")
    assert done.returncode == 0, done.stderr
    refused = new.deploy("start")
    assert refused.returncode == 1 and f"{old.kit}/scripts/deploy.sh upgrade" in refused.stderr
    assert old.serves("v1.0.0")
    assert new.deploy("rollback").returncode == 1


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
