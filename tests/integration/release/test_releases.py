"""A scheduler's releases from a real registry and a hub that change in between: what is made, listed, kept, and told."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from offline_kit.bundle.verify.verify import verify
from offline_kit.common.progress import Silent
from tests.support.projects.release_job import TOKENIZER, WEIGHTS, Job
from tests.testbed.servers.faults import Fault


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
    odd = (
        "--publish",
        "oci://r.example/x\n\x1b[31m?token=abcdefgh1234",
        "--on-failure",
        'printf %s "$OFFLINE_KIT_RELEASE_ERROR" >told',
    )
    assert job.run(*odd).returncode == 3
    told = (job.folder / "told").read_text()
    assert told.isprintable() and "r.example" in told and "abcdefgh1234" not in told, "as on a terminal, in one line"
    before = job.content
    wrong = job.run("--version", "../x")
    assert wrong.returncode == 3 and "not a version: '../x'" in wrong.stderr, "whether anything changed or not"
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
