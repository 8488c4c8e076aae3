"""What fetching looks like from outside: real commands, a real registry, a hub, and what can go wrong between them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, Project, write_project
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

WEIGHTS = parts.safetensors({"w": os.urandom(6 << 20)})
TOOL = os.urandom(50_000)
TOKENLESS = "chat (dir://../mine): has no tokenizer"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        parts.push(running.url, "engine", "v1", parts.image("gzip", "zstd", content="engine"))
        parts.push(running.url, "gateway", "v1", parts.image("gzip", content="gateway"))
        yield running


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        for key in MODELS:
            content = {
                "config.json": b"{}",
                "model.safetensors": WEIGHTS if key == "chat" else parts.safetensors({key: b"x" * 100}),
            }
            hub.add(f"o/{key}", parts.write(tmp_path / f"repository-{key}", content))
        hub.add("o/tool", parts.write(tmp_path / "repository-tool", {"docker-compose": TOOL}))
        yield hub


@pytest.fixture
def project(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> Project:
    tool = {"host/docker-compose": {"source": f"{hub.url}/o/tool/resolve/main/docker-compose", "sha256": Digest.of(TOOL).hex}}
    (tmp_path / "licence.txt").write_bytes(b"free\n")
    tool["licence.txt"] = {"source": "file://../../licence.txt", "sha256": Digest.of(b"free\n").hex}
    return Project(write_project(tmp_path / "project", registry, hub, files=tool), offline_kit)


def test_a_build_says_what_it_fetched_and_the_next_one_fetches_nothing(project: Project, hub: Hub) -> None:
    done = project.build()
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert "chat: model.safetensors: 6.0 MiB" in lines
    assert "files/host/docker-compose: 48.8 KiB" in lines
    assert [line for line in lines if re.fullmatch(r"fetched 6\.\d MiB, reused \S+ \w+, retried 0", line)]
    with tarfile.open(project.bundle) as tar:
        for path, content in (("host/docker-compose", TOOL), ("licence.txt", b"free\n")):
            member = tar.extractfile(f"demo-v1/files/{path}")
            assert member is not None and member.read() == content
    sums = subprocess.run(["tar", "-xOzf", project.bundle, "demo-v1/SHA256SUMS"], capture_output=True, text=True, check=True)
    assert f"{Digest.of(TOOL).hex}  files/host/docker-compose\n" in sums.stdout
    first = Digest.of_file(project.bundle)
    assert f"sha256 {first.hex}  {project.bundle.name}" in lines and lines[-1].endswith("./install.sh")
    subprocess.run(["sha256sum", "--check", "--strict", "demo-v1.sha256"], cwd=project.bundle.parent, check=True)
    hub.log.clear()
    done = project.build()
    assert "fetched 0 B, reused" in done.stderr and hub.log == []
    assert Digest.of_file(project.bundle) == first


def test_parts_that_cannot_be_are_refused_before_anything_is_fetched(project: Project, hub: Hub) -> None:
    done = project.build("--split", "64K")
    assert done.returncode == 2 and "parts of 65,536 bytes are too small: 1.0 MiB at least" in done.stderr, done.stderr
    assert "fetched" not in done.stderr


def test_progress_as_lines_of_json(project: Project, hub: Hub) -> None:
    project.lock()
    hub.faults.add(
        Fault("cut", path="*/chat/*.safetensors", at=1_000_000), Fault("slow", path="*/chat/*.safetensors", at=4 << 20)
    )
    done = project.build("--log-format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{project.bundle}\n", "data on stdout, talk on stderr"
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(isinstance(event["time"], float) for event in events)
    steps = [event for event in events if event["event"] == "progress" and event["task"] == "fetch"]
    assert steps[-1]["done"] == steps[-1]["total"] and steps[-1]["items_done"] == steps[-1]["items"] > 5
    assert any(0 < step["done"] < step["total"] and step["rate"] > 0 and step["remaining"] is not None for step in steps[1:-1])
    item = next(event for event in events if event["event"] == "fetched" and "chat: model" in event["item"])
    assert item["bytes"] == len(WEIGHTS)
    summary = next(event for event in events if event["event"] == "summary")
    built = next(event for event in events if event["event"] == "built")
    assert built["sha256"] == {project.bundle.name: Digest.of_file(project.bundle).hex}
    assert built["bytes"] == project.bundle.stat().st_size
    assert summary["retried"] == 1 and summary["fetched"] >= len(WEIGHTS) + len(TOOL) and summary["reused"] > 0
    hub.repositories.clear()
    done = project.kit("lock", "--manifest", project.manifest, "--store", project.folder / "s2", "--log-format", "json")
    error = json.loads(done.stderr.splitlines()[-1])
    assert done.returncode == error["exit_code"] == 5 and error["event"] == "error" and "no such repository" in error["what"]


def test_a_damaged_blob_is_noticed_when_it_is_used_and_fetched_again(project: Project, hub: Hub) -> None:
    assert project.build().returncode == 0
    whole = Digest.of_file(project.bundle)
    for content in (WEIGHTS, TOOL):
        blob = project.folder / "store/blobs/sha256" / Digest.of(content).hex
        data = bytearray(blob.read_bytes())
        data[-1] ^= 1
        blob.write_bytes(data)
    hub.log.clear()
    done = project.build()
    assert done.returncode == 0, done.stderr
    assert "2 blob(s) of the store were damaged: fetching them again" in done.stderr
    assert hub.sent() == len(WEIGHTS) + len(TOOL)
    assert Digest.of_file(project.bundle) == whole


def test_ctrl_c(project: Project, hub: Hub) -> None:
    """Ends at once with one line; nothing has a final name, and what came is used by the next run."""
    project.lock()
    hub.faults.add(Fault("slow", path="*/chat/*.safetensors", at=1 << 20))
    child = project.start()
    partial = project.folder / "store/partial" / Digest.of(WEIGHTS).hex
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 1_000_000):
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, talk = child.communicate(timeout=30)
    assert child.returncode == 130 and out == ""
    assert talk.splitlines()[-1].startswith("offline-kit: interrupted -> ") and "Traceback" not in talk
    assert not project.bundle.exists() and not list((project.folder / "out").glob("demo*"))
    assert not (project.folder / "store/blobs/sha256" / Digest.of(WEIGHTS).hex).exists()
    before = hub.sent("*/chat/*.safetensors")
    assert project.build().returncode == 0
    assert hub.sent("*/chat/*.safetensors") < len(WEIGHTS) + 600_000, before


@pytest.mark.fault("fetch", "two at once", "into two folders: both end well, and every byte is fetched once")
def test_two_builds_at_once_fetch_every_byte_once(project: Project, hub: Hub) -> None:
    project.lock()
    hub.log.clear()
    hub.faults.add(Fault("slow", path="*.safetensors", at=6 << 20, times=-1))
    children = [project.start("--output", str(project.folder / name)) for name in ("one", "two")]
    talks = [child.communicate(timeout=120)[1] for child in children]
    assert [child.returncode for child in children] == [0, 0], talks
    small = sum(len(parts.safetensors({key: b"x" * 100})) for key in ("embedding", "rerank"))
    assert hub.sent("*/resolve/*") == len(WEIGHTS) + len(TOOL) + small
    digests = {Digest.of_file(project.folder / name / "demo-v1.tar.gz") for name in ("one", "two")}
    assert len(digests) == 1


def test_a_slow_line_and_a_mirror_by_option_and_by_environment(
    tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit
) -> None:
    images = {key: {"source": f"docker://registry.example/{key}:v1"} for key in ("engine", "gateway")}
    project = Project(write_project(tmp_path / "project", registry, hub, images=images), offline_kit)
    done = project.build("--limit-rate", "64MiB", "--registry-mirror", f"registry.example={registry.host}", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    shutil.rmtree(project.folder / "store")
    settings = {"OFFLINE_KIT_REGISTRY_MIRROR": f"registry.example={registry.host}", "OFFLINE_KIT_LIMIT_RATE": "1GiB"}
    assert project.build(env=settings).returncode == 0
    for wrong in (["--limit-rate", "fast"], ["--registry-mirror", "mirror"], ["--jobs", "0"], ["--log-format", "xml"]):
        assert project.build(*wrong).returncode == 2


def test_the_store_is_looked_after(project: Project, hub: Hub) -> None:
    assert project.build().returncode == 0
    listed = project.store("ls")
    assert f"{Digest.of(WEIGHTS)}" in listed.stdout.splitlines()[0] and "0 partial downloads" in listed.stderr
    rows = json.loads(project.store("ls", "--json").stdout)
    assert {row["digest"] for row in rows} >= {str(Digest.of(WEIGHTS)), str(Digest.of(TOOL))}
    assert "all whole" in project.store("verify").stdout

    blobs = project.folder / "store/blobs/sha256"
    stray = Digest.of(b"stray")
    (blobs / stray.hex).write_bytes(b"stray")
    (project.folder / "store/partial" / ("a" * 64)).write_bytes(b"x" * 5000)
    assert project.store("prune").returncode == 2, "it has to be told what to keep"
    assert "no lock file matches; nothing was removed" in project.store("prune", "--keep-locks", "nothing/*.json").stderr
    (project.folder / "broken.lock.json").write_text("{")
    assert project.store("prune", "--keep-locks", "*/*.lock.json", "--keep-locks", "broken.lock.json").returncode == 3
    assert (blobs / stray.hex).exists()
    assert project.store("prune", "--keep-locks", "manifests/*.lock.json", "--older-than", "1d").stdout == ""
    shown = project.store("prune", "--keep-locks", f"{project.folder}/manifests/*.lock.json", "--dry-run")
    assert str(stray) in shown.stdout and "a" * 64 in shown.stdout and (blobs / stray.hex).exists()
    done = project.store("prune", "--keep-locks", "manifests/*.lock.json")
    assert done.returncode == 0 and str(stray) in done.stdout and not (blobs / stray.hex).exists()
    assert not (project.folder / "store/partial" / ("a" * 64)).exists()
    hub.log.clear()
    assert "fetched 0 B" in project.build().stderr and hub.log == [], "all that the lock names was kept"

    (blobs / Digest.of(TOOL).hex).write_bytes(TOOL[::-1])
    done = project.store("verify")
    assert done.returncode == 8 and f"{Digest.of(TOOL)}: damaged, removed" in done.stdout
    for path in blobs.iterdir():
        os.utime(path, (1, 1))
    assert project.store("prune", "--older-than", "30d").returncode == 0
    assert not list(blobs.iterdir())


def test_a_store_in_use_is_not_pruned(project: Project, hub: Hub) -> None:
    project.lock()
    hub.faults.add(Fault("slow", path="*/chat/*.safetensors", at=1 << 20))
    child = project.start()
    partial = project.folder / "store/partial" / Digest.of(WEIGHTS).hex
    deadline = time.monotonic() + 60
    while not partial.exists():
        assert time.monotonic() < deadline and child.poll() is None
        time.sleep(0.02)
    done = project.store("prune", "--older-than", "0m")
    assert done.returncode == 9 and "a build is using it" in done.stderr
    _, talk = child.communicate(timeout=60)
    assert child.returncode == 0, talk


def test_a_folder_that_was_given_files_is_locked_again(project: Project) -> None:
    """What a finding advises is taken up by the next build; under --locked it is told, with the files."""
    folder = parts.write(project.folder / "mine", {"config.json": b"{}", "model.safetensors": parts.safetensors({"w": b"1"})})
    manifest = json.loads(project.manifest.read_text())
    manifest["models"]["chat"] = {"source": "dir://../mine"}
    project.manifest.write_text(json.dumps(manifest))
    first = project.build()
    assert first.returncode == 0 and TOKENLESS in first.stderr
    parts.write(folder, {"tokenizer.json": b"{}", "sub/more.json": b"{}"})
    refused = project.build("--locked")
    assert refused.returncode == 4
    told = "the lock is stale (models.chat: sub/more.json, tokenizer.json changed) -> run 'offline-kit lock'"
    assert told in refused.stderr
    kept = Digest.of_file(project.bundle)
    again = project.build()
    assert "models.chat: sub/more.json, tokenizer.json changed since the lock was made: locked again" in again.stderr
    assert TOKENLESS not in again.stderr
    for other in (again, project.build("--dry-run")):
        assert other.returncode == 9 and "this version is there already, with other content: model chat changed" in other.stderr
    assert Digest.of_file(project.bundle) == kept
    assert project.build("--replace").returncode == 0
    with tarfile.open(project.bundle) as tar:
        assert "demo-v1/models/chat/tokenizer.json" in tar.getnames()
    assert project.build("--locked").returncode == 0


def test_a_folder_whose_locked_files_changed_is_refused_before_findings_repeat(project: Project) -> None:
    weights = parts.safetensors({"w": b"1"})
    folder = parts.write(project.folder / "mine", {"config.json": b"[]", "model.safetensors": weights})
    manifest = json.loads(project.manifest.read_text())
    manifest["models"]["chat"] = {"source": "dir://../mine"}
    project.manifest.write_text(json.dumps(manifest))
    broken = project.build()
    assert broken.returncode == 3 and "config.json is not JSON" in broken.stderr
    parts.write(folder, {"config.json": b"{}"})
    project.lock()
    parts.write(folder, {"config.json": b"{ }"})
    changed = project.build()
    assert changed.returncode != 0 and "config.json: has changed since the lock was made -> offline-kit lock" in changed.stderr
    (folder / "config.json").unlink()
    gone = project.build()
    assert "config.json: the file is gone -> put it back, or run 'offline-kit lock'" in gone.stderr
