"""offline-kit rehearse --start: the kit's own install.sh on a real Docker, every service watched, and nothing left behind.

Rules: the kit is installed in a network namespace of its own, as an operator's Docker would be; what it may ask for there is
what a real vLLM on the CPU and a real nginx ask for.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.integration.rehearsal import planted_models as planted
from tests.integration.rehearsal.projects import chats, findings
from tests.support import scripts_kit
from tests.testbed import images
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.registry import Registry


def rehearse(airgap: Dockerd, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The command as it is typed on the machine whose Docker this is."""
    program = Path(sys.executable).with_name("offline-kit")
    return airgap.run([str(program), "rehearse", "--start", *map(str, words)], timeout=900)


def there(airgap: Dockerd) -> set[str]:
    """What this Docker has: containers, networks and images; other tests may have left some of their own."""
    lists = (("ps", "--all", "--quiet"), ("network", "ls", "--quiet"), ("images", "--quiet"))
    return {item for words in lists for item in airgap.docker(*words).split()}


def test_a_kit_is_installed_watched_asked_and_gone(airgap: Dockerd, tmp_path: Path) -> None:
    """The real install.sh, Docker, Compose and nginx, and a stand-in for vllm: what costs minutes is left to the long tests."""
    kit = scripts_kit.make_kit(scripts_kit.make_shelf(tmp_path / "shelf"), tmp_path / "kit")
    (tmp_path / "work").mkdir()
    before = there(airgap)
    command = [sys.executable, "-m", "tests.integration.rehearsal.start_kit", str(kit), str(tmp_path / "work")]
    done = airgap.run(command, env={"PYTHONPATH": str(REPOSITORY)}, timeout=900)
    assert done.returncode == 0, done.stderr
    assert there(airgap) == before and not (kit / ".env").exists()
    services = ("engine-chat", "engine-embedding", "engine-rerank", "gateway")
    assert json.loads(done.stdout) == dict.fromkeys(services, "answered")


@pytest.mark.long
def test_what_an_engine_asks_for_when_it_starts_and_answers_is_found(
    airgap: Dockerd, dockerd: Dockerd, registry: Registry, demo: Path, testbed: Testbed, offline_kit: Kit, tmp_path: Path
) -> None:
    name = "offline-kit/planted-start:demo"
    image = f"{registry.host}/{name}"
    planted.build_image(dockerd, f"{registry.host}/{images.ENGINE}", image, planted.AT_START, tmp_path / "image")
    chat = planted.with_served_request(testbed.models / "tiny-chat", tmp_path / "chat")
    manifest = chats(tmp_path / "p", demo, {"chat": (chat, {"trust_remote_code": True})}, name)
    built = offline_kit("build", "--version", "v1", "-m", manifest, "-o", tmp_path / "out", "--store", tmp_path / "store")
    assert built.returncode == 0, built.stderr
    before = there(airgap)
    done = rehearse(airgap, built.stdout.strip(), "--store", tmp_path / "store")
    assert done.returncode == 25, done.stderr
    found = findings(done.stderr)
    told = found["engine-chat"]
    assert told.count("(container engine-chat, process ") == len(told.splitlines()), found
    assert f"asked for the address of {planted.START_NAME} (" in told, found
    assert f"wanted to connect to {planted.REQUEST_ADDRESS} (" in told and "python3 -c import socket;" in told, found
    assert set(found) == {"engine-chat"} and there(airgap) == before, found


@pytest.mark.long
def test_the_shipped_demo_starts_and_asks_nobody(airgap: Dockerd, demo: Path, offline_kit: Kit, tmp_path: Path) -> None:
    built = offline_kit("build", "--version", "v1", "-m", demo, "-o", tmp_path / "out", "--store", tmp_path / "store")
    assert built.returncode == 0, built.stderr
    before = there(airgap)
    done = rehearse(airgap, built.stdout.strip(), "--store", tmp_path / "store", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["attempts"] == 0 and record["models"].keys() == {"chat", "embedding", "rerank"}
    assert record["services"] == {f"engine-{key}": "answered" for key in record["models"]} | {"gateway": "answered"}
    assert "with dummy weights" not in record["summary"]
    done = rehearse(airgap, built.stdout.strip(), "--dummy-weights", "--store", tmp_path / "store", "--json")
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)
    assert again["services"] == record["services"] and ", 4 services started with dummy weights and asked" in again["summary"]
    assert there(airgap) == before and not list((tmp_path / "store").glob("rehearsal-*"))
