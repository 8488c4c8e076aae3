"""Several ranges of one file at a time, and what is left of them after a crash.

One file, for what a crash leaves is made by the same interrupted download (``begun``) that the tests of ranges use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, NetworkError, NotFound
from offline_kit.intake.item import Download
from offline_kit.intake.ledger import Ledger
from offline_kit.intake.line import Line
from offline_kit.intake.pace import Pace
from offline_kit.intake.store import Store
from offline_kit.intake.transfer import download
from tests.intake_parts import QUICK, write
from tests.testbed.faults import Fault
from tests.testbed.hub import Hub

SEGMENT = 256 << 10
PARALLEL = dataclasses.replace(QUICK, segment=SEGMENT, span=1 << 20)
PAYLOAD = os.urandom((12 << 20) + 12345)
DIGEST = Digest.of(PAYLOAD)
PATH = "weights.bin"


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("o/m", write(tmp_path / "repository", {PATH: PAYLOAD}))
        yield hub


@pytest.fixture
def line() -> Iterator[Line]:
    with Line(PARALLEL, 4) as line:
        yield line


def wish(hub: Hub) -> Download:
    return Download(f"{hub.url}/o/m/resolve/main/{PATH}", PATH, DIGEST, len(PAYLOAD))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "partial").iterdir())


def test_a_large_file_comes_in_ranges_each_byte_once(source: Hub, line: Line, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=8 << 20, times=-1))
    seen: list[int] = []
    assert download(line, Store(tmp_path), wish(source), seen.append) == DIGEST
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == sum(seen) == line.figures.fetched == len(PAYLOAD)
    assert len(source.log) > 8 and all(access.status == 206 for access in source.log)
    assert files(tmp_path) == []


def test_never_more_streams_than_seats(source: Hub, tmp_path: Path) -> None:
    """Two files at a time on three seats: what one leaves free, the other takes."""
    other = os.urandom(6 << 20)
    source.add("o/n", write(tmp_path / "other", {PATH: other}))
    items = [wish(source), Download(f"{source.url}/o/n/resolve/main/{PATH}", "n", Digest.of(other), len(other))]
    source.faults.add(Fault("slow", at=4 << 20, times=-1))
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, len(shared._open))

    with Line(PARALLEL, 3) as shared:
        threads = [threading.Thread(target=download, args=(shared, Store(tmp_path / "s"), item)) for item in items]
        watcher = threading.Thread(target=watch)
        for thread in (*threads, watcher):
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        watcher.join()
    assert all(Store(tmp_path / "s").path(item.digest).exists() for item in items if item.digest)
    assert most == 3


def test_ranges_that_break_are_taken_up_again(source: Hub, line: Line, tmp_path: Path) -> None:
    source.faults.add(
        Fault("cut", at=300_000),
        Fault("status", status=503),
        Fault("cut", at=10),
        Fault("status", status=429),
        Fault("cut", at=0),
    )
    download(line, Store(tmp_path), wish(source))
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) and line.figures.retried == 5


@pytest.mark.parametrize("answered", [0, 2])
def test_a_server_that_ignores_ranges_gets_one_stream(source: Hub, line: Line, tmp_path: Path, answered: int) -> None:
    """From the first request on, or only later."""
    source.faults.add(*[Fault("slow", at=4 << 20)] * answered, Fault("no-range", times=-1))
    seen: list[int] = []
    download(line, Store(tmp_path), wish(source), seen.append)
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD and sum(seen) == len(PAYLOAD)
    assert [access.status for access in source.log if access.sent == len(PAYLOAD)] == [200]
    assert len(source.log) == 1 or answered


def test_a_server_that_continues_elsewhere_gets_one_stream(source: Hub, line: Line, tmp_path: Path) -> None:
    wrong = {"Content-Range": f"bytes 7-{len(PAYLOAD) - 1}/{len(PAYLOAD)}"}
    source.faults.add(Fault("slow", at=8 << 20), Fault("headers", headers=wrong))
    download(line, Store(tmp_path), wish(source))
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD


def test_one_wrong_byte_in_a_range_is_refused_by_name(source: Hub, line: Line, tmp_path: Path) -> None:
    source.faults.add(Fault("flip", at=7_000_000, times=-1))
    seen: list[int] = []
    with pytest.raises(DigestMismatch, match=rf"weights\.bin \({source.url}.*\): has digest"):
        download(line, Store(tmp_path), wish(source), seen.append)
    assert sum(seen) == 0 and not Store(tmp_path).path(DIGEST).exists()
    assert source.sent() == 2 * len(PAYLOAD), "once more from the start, then no more"


def test_content_that_moves_while_it_is_fetched_is_refused(source: Hub, line: Line, tmp_path: Path) -> None:
    """The hub's `main` is another commit, and its ETag another one, from the third range on."""
    source.faults.add(Fault("slow", at=4 << 20), Fault("slow", at=4 << 20, headers={"ETag": '"moved"'}))
    newer = bytes(len(PAYLOAD))
    commits = iter([0, 0])

    class Moving(Line):
        def spend(self, amount: int) -> None:
            if next(commits, None) is None and not source.repositories["o/m"].branches.get("moved"):
                source.add("o/m", write(tmp_path / "newer", {PATH: newer}))
                source.repositories["o/m"].branches["moved"] = "yes"

    with Moving(PARALLEL, 2) as moving, pytest.raises(DigestMismatch, match="or run 'offline-kit lock' if it has changed"):
        download(moving, Store(tmp_path / "s"), wish(source))
    assert not Store(tmp_path / "s").path(DIGEST).exists()
    source.faults.add(Fault("headers", headers={"ETag": '"other"'}, times=-1))
    source.repositories["o/m"].branches["main"] = next(iter(source.repositories["o/m"].commits))
    assert download(line, Store(tmp_path / "s"), wish(source)) == DIGEST, "another ETag over the same bytes harms nobody"


def test_the_first_error_ends_all_streams(source: Hub, line: Line, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=1 << 20), Fault("slow", at=1 << 20), Fault("status", status=404))
    with pytest.raises(NotFound):
        download(line, Store(tmp_path), wish(source))
    assert sum(access.sent for access in source.log) < len(PAYLOAD)
    assert line.seats._value == 4


def settle(source: Hub) -> None:
    """Waits until the hub has noticed who is gone: only then an answer that nobody wanted any more is in its log."""
    deadline = time.monotonic() + 10
    while source.busy:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def begun(source: Hub, store: Store) -> int:
    """A download that ended early, with parts of several ranges on disk; how many bytes are there."""
    source.faults.add(*[Fault("slow", at=4 << 20)] * 6, Fault("status", status=404))
    with Line(PARALLEL, 3) as line, pytest.raises(NotFound):
        download(line, store, wish(source))
    settle(source)
    source.faults.clear()
    source.log.clear()
    ledger = Ledger(store.partial_state(DIGEST), len(PAYLOAD), SEGMENT, len(PAYLOAD))
    with contextlib.closing(ledger):
        assert ledger.total > 2 * SEGMENT
        return ledger.total


def test_the_next_run_goes_on_in_all_ranges(source: Hub, line: Line, tmp_path: Path) -> None:
    store = Store(tmp_path)
    held = begun(source, store)
    seen: list[int] = []
    download(line, store, wish(source), seen.append)
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) - held and line.figures.reused == held and sum(seen) == len(PAYLOAD)
    assert seen[0] == held, "what was there is counted at once"


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_damaged_segment_is_fetched_again_and_only_that(source: Hub, tmp_path: Path, jobs: int) -> None:
    """As after a power cut: the ledger reached the disk, some of the bytes did not."""
    store = Store(tmp_path)
    held = begun(source, store)
    with (tmp_path / "partial" / DIGEST.hex).open("r+b") as partial:
        partial.seek(SEGMENT + 1000)
        partial.write(bytes(5000))
    with Line(PARALLEL, jobs) as line:
        download(line, store, wish(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) - held + SEGMENT


def test_a_damaged_segment_that_a_stream_goes_on_with(source: Hub, line: Line, tmp_path: Path) -> None:
    store = Store(tmp_path)
    begun(source, store)
    ledger = Ledger(store.partial_state(DIGEST), len(PAYLOAD), SEGMENT, len(PAYLOAD))
    with contextlib.closing(ledger):
        for index in range(len(ledger.filled)):
            ledger.forget(index)
        ledger.add(0, PAYLOAD[:1000])
        ledger.add(2, PAYLOAD[2 * SEGMENT :][:1000])
    with (tmp_path / "partial" / DIGEST.hex).open("r+b") as partial:
        partial.write(bytes(5))
        partial.seek(2 * SEGMENT)
        partial.write(bytes(5))
    download(line, store, wish(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() <= len(PAYLOAD) + 2 * SEGMENT


@pytest.mark.parametrize("damage", ["records", "head", "torn", "other segments", "no ledger", "no file", "short file"])
def test_a_ledger_is_not_believed(source: Hub, line: Line, tmp_path: Path, damage: str) -> None:
    store = Store(tmp_path)
    begun(source, store)
    state, partial = store.partial_state(DIGEST), tmp_path / "partial" / DIGEST.hex
    text = bytearray(state.read_bytes())
    if damage == "records":
        text[40:] = os.urandom(len(text) - 40)
    elif damage == "head":
        text[0] ^= 1
    elif damage == "torn":
        del text[70:]
    state.write_bytes(text)
    if damage == "other segments":
        line.options = dataclasses.replace(PARALLEL, segment=SEGMENT * 2)  # as another version may have it
    elif damage == "no ledger":
        state.unlink()
    elif damage == "no file":
        partial.unlink()
    elif damage == "short file":
        os.truncate(partial, 100_000)
    download(line, store, wish(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD and files(tmp_path) == []


def test_the_rate_is_kept_by_all_streams_together(source: Hub, tmp_path: Path) -> None:
    """The time is the line's own reckoning: it asks for a pause after every piece."""
    pauses: list[float] = []

    class Patient(Line):
        def pause(self, seconds: float) -> None:
            pauses.append(seconds)

    rate = 256 << 20
    with Patient(dataclasses.replace(PARALLEL, limit_rate=rate), 3) as line:
        begin = time.monotonic()
        download(line, Store(tmp_path), wish(source))
        spent = time.monotonic() - begin
    assert max(pauses) >= len(PAYLOAD) / rate - spent - 0.01
    pace = Pace(1000)
    assert 0.49 < pace.delay(500) <= 0.5
    assert 0.9 < pace.delay(500) <= 1.0, "a second stream waits for the first"
    assert Pace(None).delay(1 << 40) == 0


CHILD = """
import sys
from pathlib import Path
from offline_kit.digest import Digest
from offline_kit.intake.item import Download
from offline_kit.intake.line import Line, Options
from offline_kit.intake.store import Store
from offline_kit.intake.transfer import download
root, url, digest, size = sys.argv[1:]
with Line(Options(segment=256 << 10, span=1 << 20), 4) as line:
    print("begun", flush=True)
    download(line, Store(Path(root)), Download(url, "weights", Digest(digest), int(size)))
"""


def test_killed_at_twenty_random_moments(source: Hub, tmp_path: Path) -> None:
    """The hub's log is the witness: all runs together get at most 1.1 times the file."""
    payload = os.urandom(64 << 20)
    source.add("o/big", write(tmp_path / "big", {PATH: payload}))
    source.faults.add(Fault("slow", at=4 << 20, times=-1))
    url, digest = f"{source.url}/o/big/resolve/main/{PATH}", Digest.of(payload)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "s"), url, str(digest), str(len(payload))]
    kills = 0
    for _ in range(20):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None and child.stdout.readline() == b"begun\n"
            time.sleep(random.uniform(0.02, 0.3))
            if child.poll() is None:
                kills += 1
            child.kill()
        assert not (Store(tmp_path / "s").path(digest).exists() and child.returncode)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert Store(tmp_path / "s").path(digest).read_bytes() == payload
    settle(source)
    print(f"{kills} kills: {source.sent() / len(payload):.4f} times the file")
    assert kills == 20
    assert source.sent() <= 1.1 * len(payload)


def test_a_failure_that_stays_is_said_once(source: Hub, line: Line, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=16 << 20), Fault("status", status=503, times=-1))
    with pytest.raises(NetworkError, match=r"HTTP 503 Service Unavailable \(4 attempts\)"):
        download(line, Store(tmp_path), wish(source))
