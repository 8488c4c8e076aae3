"""Stages of the connected side on disks that are full, only to be read, or fail; with a clock that went back; twice at once."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

import pytest

from tests.faults.builder import BUNDLE, Template
from tests.faults.clock import set_back
from tests.faults.disks import fill, read_only, small_disk, unreadable_at
from tests.faults.table import cells
from tests.support.intake_samples import settle
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

QUICK = ("pack", "sign", "unpack")


def one_line(said: str) -> str:
    """The error, which is the last line; a traceback is none."""
    assert "Traceback" not in said
    lines = [line for line in said.splitlines() if line.startswith("offline-kit: ")]
    assert len(lines) == 1, said
    return lines[0]


@cells(
    "disk full",
    {
        "lock": "exit 9, and no lock; with room again it ends well",
        "fetch": "exit 9 before the first byte, which says how much is needed; with room again it ends well",
        "convert, scan": "exit 9, and the work folder is gone; with room again it ends well",
        "pack": "exit 9, and nothing under the bundle's name; with room again it ends well",
        "sign": "exit 9, and no signature that is not whole; with room again it ends well",
        "split, join": "exit 9, and no part; with room again it ends well",
        "split, join:: join": "exit 9, and no bundle; with room again it ends well",
        "unpack": "exit 9, and no folder of the kit; with room again it ends well",
    },
    QUICK,
)
@pytest.mark.parametrize("free", [0, 100_000])
def test_disk_full(template: Template, fault_hub: Hub, tmp_path: Path, stage: str, free: int) -> None:
    with small_disk(tmp_path / "disk", 64) as disk:
        work = template.workspace(stage, disk)
        filler = fill(disk, free)
        done = work.run()
        if done.returncode == 0:  # little enough is written that it fits
            assert free and stage in ("sign", "lock", "convert, scan")
        else:
            assert done.returncode == 9, done.stderr
            assert re.search(r"full|space|needs|needed|fit on the disk", one_line(done.stderr)), done.stderr
            work.sound()
            assert work.left() == [] and not any((disk / name).exists() for name in work.spec.makes[:1])
        filler.unlink()
        done = work.run()
        assert done.returncode == 0, done.stderr
        work.finished()


@pytest.mark.long
@pytest.mark.fault("fetch", "disk full", "filled while it is written: exit 9; the next run goes on with what came")
def test_disk_fills_up_while_fetching(template: Template, fault_hub: Hub, tmp_path: Path) -> None:
    fault_hub.faults.add(Fault("slow", path="*/chat/*.safetensors", at=2 << 20))
    with small_disk(tmp_path / "disk", 64) as disk:
        work = template.workspace("fetch", disk)
        run = work.start()
        partial = disk / "store/partial" / Path(template.names["weights"]).name
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_blocks > 1000):
            assert time.monotonic() < deadline and run.poll() is None
            time.sleep(0.01)
        filler = fill(disk, 0)
        _, talk = run.communicate(timeout=60)
        assert run.returncode == 9 and "disk became full" in one_line(talk), talk
        work.sound()
        filler.unlink()
        settle(fault_hub)
        fault_hub.log.clear()
        done = work.run()
        assert done.returncode == 0, done.stderr
        work.finished()
        weights = (template.root / template.names["weights"]).stat().st_size
        assert fault_hub.sent("*/chat/*.safetensors") < weights


@cells(
    "read-only",
    {
        "lock": "exit 9, which names the folder",
        "fetch": "exit 9, which names the folder",
        "convert, scan": "exit 9, which names the folder",
        "pack": "exit 9, which names the folder",
        "sign": "exit 9, which names the folder",
        "split, join": "exit 9, which names the folder",
        "split, join:: join": "exit 9, which names the folder",
        "verify": "it is read and proven: a medium that is only read is enough",
        "unpack": "exit 9, which names the folder; from such a medium to another disk it ends well",
    },
    QUICK,
)
def test_read_only(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    work = template.workspace(stage, tmp_path / "w")
    before = sorted(str(path) for path in work.root.rglob("*"))
    with read_only(work.root):
        done = work.run()
    if stage == "verify":
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode == 9 and "read-only" in one_line(done.stderr).lower(), done.stderr
        assert str(work.spec.command[-1]) in done.stderr or "store" in done.stderr or "out" in done.stderr
    assert sorted(str(path) for path in work.root.rglob("*")) == before
    if stage == "unpack":
        with read_only(work.root / "out"):
            assert work.run().returncode == 0
    else:
        assert work.run().returncode == 0
    work.finished()


@cells(
    "unreadable",
    {
        "lock": "exit 9, which names the file of the local model; no lock",
        "fetch": "exit 9, which names the file of the local model; no bundle",
        "convert, scan": "exit 9, which names the blob; `offline-kit store verify` takes it away",
        "pack": "exit 9, which names the blob; `offline-kit store verify` takes it away, and the next build fetches it alone",
        "sign": "exit 9, which names the bundle; no signature",
        "split, join": "exit 9, which names the bundle; no part",
        "split, join:: join": "exit 9, which names the part; no bundle",
        "verify": "exit 9, which names the bundle",
        "unpack": "exit 9, which names the bundle; no folder of the kit",
    },
    QUICK,
)
def test_unreadable(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    work = template.workspace(stage, tmp_path / "w")
    name = work.reads or template.names["weights"]
    offset = 0 if stage == "sign" else (work.root / name).stat().st_size // 2
    with unreadable_at(tmp_path, work.root, name, offset) as disk:
        bad = work.at(disk)
        done = bad.run()
        assert done.returncode == 9, done.stderr
        assert "Input/output error" in (line := one_line(done.stderr)) and Path(name).name in line, line
        assert not any((disk / made).exists() for made in work.spec.makes) and bad.left() == []
        if name.startswith("store"):
            removed = bad.run_command("store", "verify", "--store", "store")
            assert removed.returncode == 8 and not (disk / name).exists(), removed.stderr
        else:
            (disk / name).unlink()
            shutil.copy2(work.root / name, disk / name)
        fault_hub.log.clear()
        done = bad.run()
        assert done.returncode == 0, done.stderr
        bad.finished()
        if stage == "pack":
            assert fault_hub.sent("*/resolve/*") == (work.root / name).stat().st_size


@cells(
    "clock set back",
    {
        "lock": "the same lock",
        "fetch": "the same bundle; what an interrupted run left is gone on with",
        "convert, scan": "the same bundle",
        "pack": "the same bundle; what an interrupted run left is removed",
        "sign": "a signature that holds",
        "split, join": "the same parts",
        "split, join:: join": "the same bundle",
        "verify": "the same answer",
        "unpack": "the same files",
    },
    QUICK,
)
def test_clock_set_back(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    """Ten years before what lies on the disk was written."""
    work = template.workspace(stage, tmp_path / "w")
    if work.spec.changes:
        work.run_interrupted(2, 9, tmp_path / "count")
    done = work.run(env=set_back(tmp_path))
    assert done.returncode == 0, done.stderr
    work.finished()


@cells(
    "two at once",
    {
        "lock": "both end well with the same lock",
        "fetch": "one builds, the other is told so (exit 9) or ends well; every byte is fetched once",
        "convert, scan": "one builds, the other is told so (exit 9) or ends well",
        "pack": "one builds, the other is told so (exit 9) or ends well",
        "sign": "both end well, and the signature holds",
        "split, join": "one splits, the other is told so (exit 9) or ends well",
        "split, join:: join": "one joins, the other is told so (exit 9) or ends well",
        "verify": "both say whole",
        "unpack": "one unpacks, the other is told that the kit is there (exit 9)",
    },
    QUICK,
)
def test_two_at_once(template: Template, fault_hub: Hub, tmp_path: Path, stage: str) -> None:
    work = template.workspace(stage, tmp_path / "w")
    runs = [work.start() for _ in range(2)]
    talks = [run.communicate(timeout=300)[1] for run in runs]
    codes = sorted(run.returncode for run in runs)
    assert codes in ([0, 0], [0, 9]), talks
    assert codes == [0, 0] or stage not in ("lock", "sign", "verify"), talks
    for run, talk in zip(runs, talks, strict=True):
        if run.returncode == 9:
            assert re.search(r"another process is making this|is there already", one_line(talk)), talk
    work.finished()
    assert work.left() == []
    if stage == "fetch":
        files = (template.root / BUNDLE).stat().st_size
        assert fault_hub.sent("*/resolve/*") <= files
