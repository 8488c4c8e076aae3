"""From v1.0.0 to v1.1.0 with a real vLLM on a host without a network: the good way, four broken ones, and kill -9.

Rules: (1) both versions are real bundles; a broken v1.1.0 is the good one with what its manifest's author would have got wrong;
(2) after every test v1.0.0 serves, and the next test relies on that; (3) a client asks all the time; (4) OFFLINE_KIT_MOMENTS
(5) moments for kill -9, chosen by OFFLINE_KIT_SEED (1).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.support import kit_fixtures, scripts_kit
from tests.support.hosts import Host, Installed, install_kit, make_host, unpack
from tests.support.kit_fixtures import Client
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.process import run

pytestmark = pytest.mark.long  # minutes: make test-long runs it

# step of an upgrade -> the longest that it is let run, in seconds
STEPS = {"Switch": 12.0, "Images": 3.0, "Switch to": 25.0, "Smoke test": 2.0, "Settings": 4.0}


@pytest.fixture(scope="module")
def next_bundle(chat_bundle: Path, testbed: Testbed, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1.1.0 of it: a third image, another default for the chat model and one for all."""
    work = tmp_path_factory.mktemp("next")
    for name in ("manifests", "config"):
        shutil.copytree(chat_bundle.parents[1] / name, work / name)
    with testbed.registry(work / "registry") as registry:
        manifest = work / "manifests/demo.yaml"
        image = f'  tiny: {{source: "docker://{registry.host}/offline-kit/tiny:demo"}}\n'
        manifest.write_text(manifest.read_text().replace("images:\n", f"images:\n{image}"))
        services = work / "config/demo/models.json"
        models = json.loads(services.read_text())
        models["models"]["chat"]["gpu_memory_utilization"] = 0.4
        services.write_text(json.dumps(models, indent=2))
        with (work / "config/demo/vllm_config.yaml").open("a") as stream:
            stream.write("seed: 7\n")
        done = offline_kit(
            "build", "--version", "v1.1.0", "-m", manifest, "-o", work / "out", "--store", chat_bundle.parents[1] / "store"
        )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A machine of its own: versions of one kit cannot share it with the other tests' kit of the same name."""
    with Dockerd(tmp_path_factory.mktemp("moving"), airgap=True) as running:
        yield make_host(running, tmp_path_factory.mktemp("moving-path"))


@pytest.fixture(scope="module")
def old(chat_bundle: Path, own_host: Host, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """v1.0.0, installed, with the operator's edits and a named key."""
    done = install_kit(chat_bundle, own_host, tmp_path_factory.mktemp("kits"))
    _edit(done.kit, lambda models: models["chat"].update(max_model_len=200))
    added = _deploy(done, "keys", "add", "team-a")
    assert added.returncode == 0, added.stderr
    started = _deploy(done, "start")
    assert started.returncode == 0, started.stderr
    return Installed(done.kit, own_host, added.stdout.strip(), done.said)


@pytest.fixture(scope="module")
def unpacked(old: Installed, next_bundle: Path) -> Path:
    """v1.1.0 beside it, as it came."""
    return unpack(next_bundle, old.host, old.kit.parent / "as it came")


@pytest.fixture
def new(old: Installed, unpacked: Path, tmp_path: Path) -> Iterator[Path]:
    """A fresh copy of that, by links."""
    kit = old.kit.parent / f"{tmp_path.name}-v1.1.0"
    subprocess.run(["cp", "-al", unpacked, kit], check=True)
    yield kit
    shutil.rmtree(kit, ignore_errors=True)


@pytest.mark.fault("upgrade", "disk full", "exit 5, and the old version served all the time")
def test_a_disk_that_fills_while_images_are_loaded(old: Installed, new: Path) -> None:
    """Docker spreads an archive in its temporary folder first."""
    folder = old.host.docker.folder / "data/tmp"
    folder.mkdir(exist_ok=True)
    run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)])
    try:
        with _client(old) as client:
            done = _deploy(old, "upgrade", str(new))
    finally:
        run(["umount", str(folder)])
    assert done.returncode == 5 and "tiny" in done.stderr, done.stderr
    assert _serves(old, "v1.0.0") and {status for _, status in client.answers} == {200}
    assert "not begun" in _report(old) and "no space left" in _report(old)


def test_an_engine_that_never_gets_healthy(old: Installed, new: Path) -> None:
    _edit(new, lambda models: models["chat"].update(engine_args={"block_size": "no-number"}), reseal=True)
    _is_undone(old, new, 6, "engine-chat came down while starting")


def test_an_engine_that_gets_healthy_and_answers_wrongly(old: Installed, new: Path) -> None:
    _edit(
        new,
        lambda models: models["chat"].update(engine_args={"chat_template": "{{ raise_exception('not today') }}"}),
        reseal=True,
    )
    _is_undone(old, new, 7, "smoke test: FAIL")


@pytest.mark.parametrize("step, seconds, group", kit_fixtures.moments(STEPS))
def test_kill_9_ends_with_the_old_version_serving(old: Installed, new: Path, step: str, seconds: float, group: bool) -> None:
    before = _kept(old)
    argv = old.host.argv("./scripts/deploy.sh", "upgrade", str(new))
    running = subprocess.Popen(
        argv, cwd=old.kit, env=old.host.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    said = kit_fixtures.kill(running, step, seconds, group=group)
    phase = (old.kit / ".state/upgrade").read_text() if (old.kit / ".state/upgrade").exists() else ""
    if "PHASE=switch" not in phase:
        assert _serves(old, "v1.0.0"), f"{phase}: {said}"
    started = _deploy(old, "start")
    assert started.returncode == 0, f"{phase}: {said}\n{started.stderr}"
    assert _serves(old, "v1.0.0") and _kept(old) == before
    assert _deploy(old, "smoke").returncode == 0


def test_a_good_upgrade_keeps_settings_keys_and_edits(old: Installed, new: Path) -> None:
    before = _kept(old)
    with _client(old) as client:
        done = _deploy(old, "upgrade", f"../{new.name}")
    assert done.returncode == 0, done.stderr
    assert client.failed_only_after((new / ".state/compose.yaml").stat().st_mtime)
    assert _serves(old, "v1.1.0")
    assert {name: (new / name).read_bytes() for name in (".env", ".state/keys")} == {
        name: before[name] for name in (".env", ".state/keys")
    }
    chat = json.loads((new / "config/models.json").read_text())["models"]["chat"]
    assert (chat["max_model_len"], chat["gpu_memory_utilization"]) == (200, 0.4)
    assert "seed: 7" in (new / "config/vllm_config.yaml").read_text()
    assert old.host.ask("chat", "--key", old.key)["text"]

    rows = json.loads(_deploy(old, "status", "--json").stdout)
    assert rows["version"] == "v1.1.0" and rows["healthy"]
    engine = rows["services"][0]
    assert engine["model"] == "tiny-chat" and "MiB" in engine["memory"] and engine["requests_finished"] >= 1

    back = _deploy(old, "rollback")
    assert back.returncode == 0, back.stderr
    assert _serves(old, "v1.0.0") and old.host.ask("chat", "--key", old.key)["text"]
    gone = _deploy(old, "uninstall", "--force")
    assert gone.returncode == 0, gone.stderr
    assert old.host.docker.docker("ps", "--all", "--quiet") == ""


def _is_undone(old: Installed, new: Path, code: int, why: str) -> None:
    before = _kept(old)
    with _client(old) as client:
        done = _deploy(old, "upgrade", str(new))
    assert done.returncode == code, done.stderr
    assert client.failed_only_after((new / ".state/compose.yaml").stat().st_mtime)
    assert _serves(old, "v1.0.0") and _kept(old) == before
    assert "went back" in _report(old) and why in _report(old)


def _deploy(old: Installed, *arguments: str) -> subprocess.CompletedProcess[str]:
    return old.host.run("./scripts/deploy.sh", *arguments, cwd=old.kit)


def _client(old: Installed) -> Client:
    return Client(old.host.argv(), 8000, old.key)


def _kept(old: Installed) -> dict[str, bytes]:
    return {name: (old.kit / name).read_bytes() for name in (".env", ".state/keys", "config/models.json")}


def _report(old: Installed) -> str:
    return (old.kit / ".state/upgrade-report").read_text().splitlines()[-1]


def _serves(old: Installed, version: str) -> bool:
    label = '{{.Label "offline-kit.version"}}'
    versions = old.host.docker.docker("ps", "--filter", "label=com.docker.compose.project=demo", "--format", label).split()
    status = old.host.ask("status", "--path", "/v1/models", "--key", old.key)["status"]
    return versions == [version] * 2 and status == 200 and _deploy(old, "status").returncode == 0


def _edit(kit: Path, change: Callable[[dict[str, dict[str, object]]], None], *, reseal: bool = False) -> None:
    """Changes config/models.json: as an operator does, or (reseal) as another bundle would bring it."""
    path = kit / "config/models.json"
    data = json.loads(path.read_text())
    change(data["models"])
    text = json.dumps(data, indent=2) + "\n"
    for file in (path, kit / "SHA256SUMS"):  # linked to the kit that other tests copy
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
    if reseal:
        scripts_kit.rewrite(kit, "config/models.json", text.encode())
    else:
        path.write_text(text)
