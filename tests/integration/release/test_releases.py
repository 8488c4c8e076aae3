"""A scheduler's releases from a real registry and a hub that change in between: what is made, listed, kept, and told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from offline_kit.bundle.verify.verify import verify
from offline_kit.common.progress import Silent
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, write_project
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

WEIGHTS = parts.safetensors({"w": os.urandom(3 << 20)})
TOKENIZER = 1 << 18  # bytes


@dataclass(frozen=True)
class Job:
    """A release job: what it asks, what it works on, and where its releases lie."""

    folder: Path
    kit: Kit
    registry: Registry
    hub: Hub

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def command(self) -> list[str]:
        places = ["--manifest", self.folder / "manifests/demo.yaml", "--output", self.out, "--store", self.folder / "store"]
        return ["release", *map(str, places), "--if-changed", "--full-every", "4", "--keep", "3"]

    def run(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.loud("--quiet", *more)

    def loud(self, *more: str) -> subprocess.CompletedProcess[str]:
        return self.kit(*self.command, *more, cwd=self.folder)

    def begin(self) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name("offline-kit")
        return subprocess.Popen([str(program), *self.command], cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def new_model(self, number: int) -> None:
        files = {
            "config.json": b'{"n": %d}' % number,
            "model.safetensors": parts.safetensors({"w": os.urandom(1 << 20)}),
            "tokenizer.json": b'{"n": %d, "all": "%s"}' % (number, b"x" * TOKENIZER),
        }
        self.hub.add("o/embedding", parts.write(self.folder / f"embedding-{number}", files))

    def new_image(self, number: int) -> None:
        parts.push(self.registry.url, "engine", "v1", parts.image("gzip", content=f"engine {number}"))

    @property
    def releases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads((self.out / "releases.json").read_text())["releases"]
        return found

    @property
    def content(self) -> dict[str, bytes]:
        """Every file of the releases and of their index, by name."""
        return {path.name: path.read_bytes() for path in self.out.iterdir() if path.is_file()}

    @property
    def versions(self) -> list[str]:
        return [release["version"] for release in self.releases]


@pytest.fixture
def job(tmp_path: Path, offline_kit: Kit) -> Iterator[Job]:
    with Registry(tmp_path / "storage", tmp_path) as registry, Hub() as hub:
        parts.push(registry.url, "gateway", "v1", parts.image("gzip", content="gateway"))
        for key in MODELS:
            weights = WEIGHTS if key == "chat" else parts.safetensors({key: b"x" * 100})
            hub.add(f"o/{key}", parts.write(tmp_path / key, {"config.json": b"{}", "model.safetensors": weights}))
        job = Job(write_project(tmp_path / "project", registry, hub), offline_kit, registry, hub)
        job.new_image(0)
        yield job


def test_twelve_releases(job: Job) -> None:
    """Only what changed is built; deltas chain; pruning keeps what they need; a crash and a second timer do no harm."""
    made: list[str] = []
    for number in range(12):
        if number:
            (job.new_model if number % 2 else job.new_image)(number)
        if number == 5:
            _kill_while_fetching(job)
            assert job.versions[-1] == made[-1]
        if number == 7:
            _fail(job)
        if number == 8:
            runs = [job.begin(), job.begin()]
            said = [run.communicate(timeout=120) for run in runs]
            codes = sorted(run.returncode for run in runs)
            assert codes in ([0, 12], [0, 11]), said  # the second one came while the first was at it, or just after
        else:
            done = job.run()
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip() == str(job.out / job.releases[-1]["file"])
        if number == 5:
            tokenizer = f"*/{_commit(job)}/tokenizer.json"
            assert job.hub.sent(tokenizer) < 2 * TOKENIZER, "what the killed run had is not asked for again"
        made.append(job.versions[-1])
        again = job.run()
        assert again.returncode == 11 and f"nothing changed since {made[-1]}" in again.stderr, again.stderr
    assert made == [f"v1.0.{number}" for number in range(12)]
    assert job.hub.sent("*/chat/*.safetensors") < 2 * len(WEIGHTS), "what stays is fetched once; its header may be read again"
    # v1.0.8 is the last full one; v1.0.9 to v1.0.11 are kept as the newest three
    assert [(entry["version"], entry["base"]) for entry in job.releases] == [
        ("v1.0.8", None),
        ("v1.0.9", "v1.0.8"),
        ("v1.0.10", "v1.0.9"),
        ("v1.0.11", "v1.0.10"),
    ]
    for entry in job.releases:
        report = verify(job.out / entry["file"], progress=Silent())
        assert (
            report.whole and report.version == entry["version"] and report.base == f"demo-{entry['base']}" * bool(entry["base"])
        )
    named = {name for entry in job.releases for name in entry["files"]} | {"releases.json", "unpack.py"}
    assert {path.name for path in job.out.iterdir() if not path.name.startswith(".")} == named
    assert not list(job.out.glob(".*.partial"))
    for entry in job.releases:
        subprocess.run(["sha256sum", "--check", "--strict", f"{_stem(entry)}.sha256"], cwd=job.out, check=True)
    changes = job.releases[-1]["changes"]
    assert any(line.startswith("changed model embedding hf://o/embedding") for line in changes), changes
    page = (job.out / f"{_stem(job.releases[-1])}.notes.html").read_text()
    assert "v1.0.11" in page and "install.sh --base ../demo-v1.0.10" in page and job.releases[-1]["fingerprint"] in page


def _stem(entry: dict[str, Any]) -> str:
    return f"demo-{entry['version']}{'.delta' if entry['base'] else ''}"


def _commit(job: Job) -> str:
    return job.hub.repositories["o/embedding"].branches["main"]


def _fail(job: Job) -> None:
    """A run that fails says so by its code, and leaves every release as it was."""
    before = job.content
    job.hub.faults.add(Fault("status", path=f"*/{_commit(job)}/*", status=404, times=-1))
    assert job.run().returncode == 5
    job.hub.faults.clear()
    assert job.content == before


def _kill_while_fetching(job: Job) -> None:
    """SIGKILL after one file of the new model came, and before the other did."""
    weights = f"*/{_commit(job)}/*.safetensors"
    job.hub.faults.add(Fault("slow", path=weights, times=-1, at=200_000))
    run = job.begin()
    until = time.monotonic() + 60
    while not (job.hub.sent(weights) > 200_000 and list(job.out.glob(".demo-*.partial"))) and time.monotonic() < until:
        time.sleep(0.1)
    assert run.poll() is None, run.communicate()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    job.hub.faults.clear()
    (left,) = job.out.glob(".demo-*.partial")
    left.rename(job.out / ".demo-v0.9.9.tar.gz.partial")  # as of a run whose release had another name: a date, a full one


def test_a_failing_run_leaves_what_is_there_and_tells(job: Job) -> None:
    done = job.run("--on-success", 'printf "%s %s" "$OFFLINE_KIT_RELEASE_VERSION" "$OFFLINE_KIT_RELEASE_FILE" >told; echo talk')
    assert done.returncode == 0 and done.stdout.strip() == str(job.out / "demo-v1.0.0.tar.gz"), (
        "talk of the command is no result"
    )
    assert (job.folder / "told").read_text() == f"v1.0.0 {job.out / 'demo-v1.0.0.tar.gz'}"
    before = job.content
    job.new_model(1)
    job.hub.faults.add(Fault("status", path="*/embedding/*", status=404, times=-1))
    failed = job.run(
        "--on-failure", 'printf "%s %s" "$OFFLINE_KIT_RELEASE_EXIT_CODE" "$OFFLINE_KIT_RELEASE_ERROR" >told; exit 3'
    )
    assert failed.returncode == 5, failed.stderr
    assert (job.folder / "told").read_text().startswith("5 ") and "embedding" in (job.folder / "told").read_text()
    assert job.content == before
    job.hub.faults.clear()
    late = job.run("--on-success", "exit 4")
    assert late.returncode == 13 and "v1.0.1 is released" in late.stderr and job.versions == ["v1.0.0", "v1.0.1"]


def test_a_bundle_that_was_made_and_not_listed_is_listed(job: Job) -> None:
    """The run was cut off in between: the bytes are proven, and need not be written again."""
    assert job.run().returncode == 0
    bundle = job.out / "demo-v1.0.0.tar.gz"
    inode = bundle.stat().st_ino
    (job.out / "releases.json").unlink()
    assert job.run().returncode == 0 and job.versions == ["v1.0.0"] and bundle.stat().st_ino == inode
    (job.out / "releases.json").unlink()
    bundle.write_bytes(bundle.read_bytes()[:-100])
    assert job.run().returncode == 0 and bundle.stat().st_ino != inode, "a damaged one is made anew"
    bundle.unlink()
    job.new_model(1)
    done = job.run()
    assert done.returncode == 0 and job.releases[-1]["base"] is None, "a delta of what is gone would be of no use"


def test_signed_releases(job: Job, tmp_path: Path) -> None:
    assert job.kit("keygen", "--output", str(tmp_path / "team"), "--no-passphrase").returncode == 0
    key, public = tmp_path / "team.key", tmp_path / "team.pub"
    assert job.run("--sign", str(tmp_path / "nothing.pem")).returncode != 0 and not list(job.out.glob("demo-*")), "said first"
    done = job.run("--sign", str(key))
    assert done.returncode == 0, done.stderr
    (entry,) = job.releases
    assert entry["signed_by"] and {"demo-v1.0.0.SHA256SUMS", "demo-v1.0.0.SHA256SUMS.sig"} <= set(entry["files"])
    assert job.kit("verify", "--key", str(public), str(job.out / entry["file"])).returncode == 0


def test_what_cannot_be_pruned_is_told_and_removed_later(job: Job) -> None:
    """A release is made whether or not an old one can be removed; the run after takes up what was left of it."""
    assert job.run("--keep", "1", "--full-every", "1").returncode == 0
    notes = job.out / "demo-v1.0.0.notes.md"
    notes.unlink()
    (notes / "in the way").mkdir(parents=True)
    job.new_model(1)
    done = job.loud("--keep", "1", "--full-every", "1")
    assert done.returncode == 0 and f"{notes} of a pruned release stays" in done.stderr, done.stderr
    assert job.versions == ["v1.0.1"] and [path.name for path in job.out.glob("demo-v1.0.0*")] == [notes.name]
    shutil.rmtree(notes)
    notes.write_text("as a run leaves it that is killed while it prunes")
    assert job.run().returncode == 11 and not notes.exists()
    assert "removing" in json.loads((job.out / "releases.json").read_text())
