"""Stages of the connected side that end early: killed, interrupted, without power; run again they come to the same end."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.builder import BUNDLE, Template, Workspace
from tests.faults.disks import Disk
from tests.faults.table import cells
from tests.faults.test_builder_disks import one_line
from tests.support.intake_samples import settle
from tests.testbed.servers.hub import Hub

pytestmark = pytest.mark.long  # each stage is run a dozen times
MOMENTS = 3


def moments(work: Workspace, template: Template, tmp_path: Path) -> list[int]:
    """Some of the changes of names that the stage makes, the first and the last among them."""
    counting = template.workspace(work.stage, tmp_path / "counting")
    assert counting.run_interrupted(0, signal.SIGKILL, tmp_path / "count").returncode == 0
    total = int((tmp_path / "count").read_text())
    assert total > 1, f"nothing changes {work.spec.changes}"
    return sorted({1 + round((total - 1) * part / (MOMENTS - 1)) for part in range(MOMENTS)})


def due(work: Workspace, hub: Hub) -> int:
    """Bytes of the hub's files that the store has yet to take."""
    commits = [commit for repository in hub.repositories.values() for commit in repository.commits.values()]
    files = {file.sha256: file.size for commit in commits for file in commit.values()}
    return sum(size for name, size in files.items() if not (work.root / "store/blobs/sha256" / name).exists())


def go_on(work: Workspace, hub: Hub) -> None:
    """Run again, an hour later: it ends well, asks for nothing that is here, and leaves nothing of the first run."""
    work.sound()
    work.age()
    settle(hub)
    hub.log.clear()
    left = due(work, hub)
    if (work.root / "target/demo-v1").exists():  # it has its name, so it is whole
        work.finished()
        shutil.rmtree(work.root / "target/demo-v1")
    done = work.run()
    assert done.returncode == 0, done.stderr
    work.finished()
    assert hub.sent("*/resolve/*") <= left
    assert work.left() == []


@cells(
    "kill -9",
    {
        "lock": "no lock, or the whole one; the next run ends well and fetches what is not here",
        "fetch": "every blob with a name is whole; the next run ends well and fetches what is not here",
        "convert, scan": "no bundle; the next run ends well and takes the work folder away",
        "pack": "no bundle, or the whole one; the next run ends well and takes away what was left",
        "sign": "no signature, or one that holds; the next run ends well",
        "split, join": "no list of parts, or the whole of them; the next run ends well",
        "split, join:: join": "no bundle, or the whole one; the next run ends well",
        "unpack": "no folder of the kit, or the whole one; the next run ends well and takes away what was left",
    },
)
def test_killed(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    for at in moments(template.workspace(stage, tmp_path / "first"), template, tmp_path):
        work = template.workspace(stage, tmp_path / f"at{at}")
        ended = work.run_interrupted(at, signal.SIGKILL, tmp_path / "count").returncode
        assert ended == -signal.SIGKILL or (ended == 0 and at > 1)  # threads come to fewer changes now and then
        go_on(work, fault_hub)


@cells(
    "SIGINT, SIGTERM",
    {
        "lock": "exit 130 in one line, and no lock",
        "fetch": "exit 130 in one line; every blob with a name is whole",
        "convert, scan": "exit 130 in one line, and the work folder is gone",
        "pack": "exit 130 in one line, and nothing is left",
        "sign": "exit 130 in one line, and no half of a signature",
        "split, join": "exit 130 in one line, and nothing is left",
        "split, join:: join": "exit 130 in one line, and nothing is left",
        "unpack": "exit 130 in one line, and nothing is left",
    },
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_interrupted(template: Template, fault_hub: Hub, tmp_path: Path, stage: str, number: signal.Signals) -> None:
    for at in moments(template.workspace(stage, tmp_path / "first"), template, tmp_path)[:2]:
        work = template.workspace(stage, tmp_path / f"at{at}")
        done = work.run_interrupted(at, number, tmp_path / "count")
        assert done.returncode == 130, done.stderr
        assert "interrupted -> " in one_line(done.stderr)
        assert work.left() == []
        go_on(work, fault_hub)


@cells(
    "power cut",
    {
        "lock": "done means written: the lock is there; before that, none or the whole one",
        "fetch": "every blob with a name is whole",
        "convert, scan": "every blob with a name is whole",
        "pack": "done means written: the bundle is there and whole; before that, none or the whole one",
        "sign": "done means written: the signature is there and holds; before that, none or one that holds",
        "split, join": "done means written: all parts are there and whole; before that, no list of them",
        "split, join:: join": "done means written: the bundle is there and whole; before that, none or the whole one",
        "unpack": "done means written: the kit is there and whole; before that, none or the whole one",
    },
)
def test_power_cut(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    for at in [0, *moments(template.workspace(stage, tmp_path / "first"), template, tmp_path)]:
        folder = tmp_path / f"at{at}"
        folder.mkdir()
        disk = Disk(folder, 128)
        with disk.mounted() as mounted:
            work = template.workspace(stage, mounted / "w")
            disk.sync()
            ended = work.run_interrupted(at, signal.SIGKILL, tmp_path / "count")
            assert ended.returncode == -signal.SIGKILL or (ended.returncode == 0 and at != 1)
            with disk.after_power_cut() as after:
                found = work.at(after / "w")
                if at:
                    go_on(found, fault_hub)
                else:
                    found.finished()


@pytest.mark.fault("verify", "kill -9", "the bundle is as it was")
@pytest.mark.fault("verify", "SIGINT, SIGTERM", "exit 130 in one line; the bundle is as it was")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_verify_ends_early(template: Template, tmp_path: Path, number: signal.Signals) -> None:
    work = template.workspace("verify", tmp_path)
    bundle = tmp_path / BUNDLE
    state = bundle.stat()
    assert work.run_interrupted(0, number, tmp_path / "count").returncode == 0
    last = int((tmp_path / "count").read_text())
    for at in sorted({1, last}):
        ended = work.run_interrupted(at, number, tmp_path / "count")
        assert ended.returncode == (130 if number != signal.SIGKILL else -9), ended.stderr
        assert number == signal.SIGKILL or "interrupted -> " in one_line(ended.stderr)
        assert (bundle.stat().st_mtime_ns, bundle.stat().st_size) == (state.st_mtime_ns, state.st_size)
