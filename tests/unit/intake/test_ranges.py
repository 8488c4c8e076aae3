"""Several ranges of one file at a time, and what is left of them after a crash.

One file, for what a crash leaves is made by the same interrupted download (``begun``) that the tests of ranges use.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, NetworkError, NotFound
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.rate_limit import RateLimiter
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.intake.transfer.resume_journal import ResumeJournal
from tests.support.intake_samples import QUICK, settle, write
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

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
def client() -> Iterator[HttpClient]:
    with HttpClient(PARALLEL, 4) as client:
        yield client


def request(hub: Hub) -> DownloadRequest:
    return DownloadRequest(f"{hub.url}/o/m/resolve/main/{PATH}", PATH, DIGEST, len(PAYLOAD))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "partial").iterdir())


def test_a_large_file_comes_in_ranges_each_byte_once(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=8 << 20, times=-1))
    seen: list[int] = []
    assert download(client, Store(tmp_path), request(source), seen.append) == DIGEST
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == sum(seen) == client.stats.fetched == len(PAYLOAD)
    assert len(source.log) > 8 and all(access.status == 206 for access in source.log)
    assert files(tmp_path) == []


def test_never_more_streams_than_seats(source: Hub, tmp_path: Path) -> None:
    """Two files at a time on three seats: what one leaves free, the other takes."""
    other = os.urandom(6 << 20)
    source.add("o/n", write(tmp_path / "other", {PATH: other}))
    items = [request(source), DownloadRequest(f"{source.url}/o/n/resolve/main/{PATH}", "n", Digest.of(other), len(other))]
    source.faults.add(Fault("slow", at=4 << 20, times=-1))
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.005):
            most = max(most, len(shared._open))

    with HttpClient(PARALLEL, 3) as shared:
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


def test_ranges_that_break_are_taken_up_again(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(
        Fault("cut", at=300_000),
        Fault("status", status=503),
        Fault("cut", at=10),
        Fault("status", status=429),
        Fault("cut", at=0),
    )
    download(client, Store(tmp_path), request(source))
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) and client.stats.retried == 5


@pytest.mark.parametrize("answered", [0, 2])
def test_a_server_that_ignores_ranges_gets_one_stream(source: Hub, client: HttpClient, tmp_path: Path, answered: int) -> None:
    """From the first request on, or only later."""
    source.faults.add(*[Fault("slow", at=4 << 20)] * answered, Fault("no-range", times=-1))
    seen: list[int] = []
    download(client, Store(tmp_path), request(source), seen.append)
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD and sum(seen) == len(PAYLOAD)
    assert [access.status for access in source.log if access.sent == len(PAYLOAD)] == [200]
    assert len(source.log) == 1 or answered


def test_a_server_that_continues_elsewhere_gets_one_stream(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    wrong = {"Content-Range": f"bytes 7-{len(PAYLOAD) - 1}/{len(PAYLOAD)}"}
    source.faults.add(Fault("slow", at=8 << 20), Fault("headers", headers=wrong))
    download(client, Store(tmp_path), request(source))
    assert Store(tmp_path).path(DIGEST).read_bytes() == PAYLOAD


def test_one_wrong_byte_in_a_range_is_refused_by_name(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("flip", at=7_000_000, times=-1))
    seen: list[int] = []
    with pytest.raises(DigestMismatch, match=rf"weights\.bin \({source.url}.*\): has digest"):
        download(client, Store(tmp_path), request(source), seen.append)
    assert sum(seen) == 0 and not Store(tmp_path).path(DIGEST).exists()
    assert source.sent() == 2 * len(PAYLOAD), "once more from the start, then no more"


def test_content_that_moves_while_it_is_fetched_is_refused(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    """The hub's `main` is another commit, and its ETag another one, from the third range on."""
    source.faults.add(Fault("slow", at=4 << 20), Fault("slow", at=4 << 20, headers={"ETag": '"moved"'}))
    newer = bytes(len(PAYLOAD))
    commits = iter([0, 0])

    class Moving(HttpClient):
        def spend(self, amount: int) -> None:
            if next(commits, None) is None and not source.repositories["o/m"].branches.get("moved"):
                source.add("o/m", write(tmp_path / "newer", {PATH: newer}))
                source.repositories["o/m"].branches["moved"] = "yes"

    with Moving(PARALLEL, 2) as moving, pytest.raises(DigestMismatch, match="or run 'offline-kit lock' if it has changed"):
        download(moving, Store(tmp_path / "s"), request(source))
    assert not Store(tmp_path / "s").path(DIGEST).exists()
    source.faults.add(Fault("headers", headers={"ETag": '"other"'}, times=-1))
    source.repositories["o/m"].branches["main"] = next(iter(source.repositories["o/m"].commits))
    assert download(client, Store(tmp_path / "s"), request(source)) == DIGEST, "another ETag over the same bytes harms nobody"


def test_the_first_error_ends_all_streams(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=1 << 20), Fault("slow", at=1 << 20), Fault("status", status=404))
    with pytest.raises(NotFound):
        download(client, Store(tmp_path), request(source))
    assert sum(access.sent for access in source.log) < len(PAYLOAD)
    assert client.slots._value == 4


def begun(source: Hub, store: Store) -> int:
    """A download that ended early, with parts of several ranges on disk; how many bytes are there."""
    source.faults.add(*[Fault("slow", at=4 << 20)] * 6, Fault("status", status=404))
    with HttpClient(PARALLEL, 3) as client, pytest.raises(NotFound):
        download(client, store, request(source))
    settle(source)
    source.faults.clear()
    source.log.clear()
    journal = ResumeJournal(store.partial_state(DIGEST), len(PAYLOAD), SEGMENT, len(PAYLOAD))
    with contextlib.closing(journal):
        assert journal.total > 2 * SEGMENT
        return journal.total


def test_the_next_run_goes_on_in_all_ranges(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    store = Store(tmp_path)
    present = begun(source, store)
    seen: list[int] = []
    download(client, store, request(source), seen.append)
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) - present and client.stats.reused == present and sum(seen) == len(PAYLOAD)
    assert seen[0] == present, "what was there is counted at once"


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_damaged_segment_is_fetched_again_and_only_that(source: Hub, tmp_path: Path, jobs: int) -> None:
    """As after a power cut: the journal reached the disk, some of the bytes did not."""
    store = Store(tmp_path)
    present = begun(source, store)
    with (tmp_path / "partial" / DIGEST.hex).open("r+b") as partial:
        partial.seek(SEGMENT + 1000)
        partial.write(bytes(5000))
    with HttpClient(PARALLEL, jobs) as client:
        download(client, store, request(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) - present + SEGMENT


def test_a_damaged_segment_that_a_stream_goes_on_with(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    store = Store(tmp_path)
    begun(source, store)
    journal = ResumeJournal(store.partial_state(DIGEST), len(PAYLOAD), SEGMENT, len(PAYLOAD))
    with contextlib.closing(journal):
        for index in range(len(journal.filled)):
            journal.clear(index)
        journal.add(0, PAYLOAD[:1000])
        journal.add(2, PAYLOAD[2 * SEGMENT :][:1000])
    with (tmp_path / "partial" / DIGEST.hex).open("r+b") as partial:
        partial.write(bytes(5))
        partial.seek(2 * SEGMENT)
        partial.write(bytes(5))
    download(client, store, request(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() <= len(PAYLOAD) + 2 * SEGMENT


@pytest.mark.parametrize("damage", ["records", "head", "torn", "other segments", "no journal", "no file", "short file"])
def test_a_journal_is_not_believed(source: Hub, client: HttpClient, tmp_path: Path, damage: str) -> None:
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
        client.options = dataclasses.replace(PARALLEL, segment=SEGMENT * 2)  # as another version may have it
    elif damage == "no journal":
        state.unlink()
    elif damage == "no file":
        partial.unlink()
    elif damage == "short file":
        os.truncate(partial, 100_000)
    download(client, store, request(source))
    assert store.path(DIGEST).read_bytes() == PAYLOAD and files(tmp_path) == []


def test_the_rate_is_kept_by_all_streams_together(source: Hub, tmp_path: Path) -> None:
    """The time is the line's own reckoning: it asks for a pause after every piece."""
    pauses: list[float] = []

    class Patient(HttpClient):
        def pause(self, seconds: float) -> None:
            pauses.append(seconds)

    rate = 256 << 20
    with Patient(dataclasses.replace(PARALLEL, limit_rate=rate), 3) as client:
        begin = time.monotonic()
        download(client, Store(tmp_path), request(source))
        spent = time.monotonic() - begin
    assert max(pauses) >= len(PAYLOAD) / rate - spent - 0.01
    pace = RateLimiter(1000)
    assert 0.49 < pace.delay(500) <= 0.5
    assert 0.9 < pace.delay(500) <= 1.0, "a second stream waits for the first"
    assert RateLimiter(None).delay(1 << 40) == 0


def test_a_failure_that_stays_is_said_once(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("slow", at=16 << 20), Fault("status", status=503, times=-1))
    with pytest.raises(NetworkError, match=r"HTTP 503 Service Unavailable \(4 attempts\)"):
        download(client, Store(tmp_path), request(source))
