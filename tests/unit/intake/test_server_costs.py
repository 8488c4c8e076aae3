"""What a server may cost: memory, disk, time. Each is a real server on the loopback that does its worst.

One file, for it is the list of all that a server could make us spend.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import os
import re
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, DiskError, KitError, NetworkError
from offline_kit.intake.store.space import require_space
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import RetryableError, RetryNotes, retry_after
from offline_kit.intake.transfer.rate_limit import LeastRate, TooSlow
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.intake.transfer.resume_journal import ResumeJournal
from tests.fuzz.memory import forget_peak, peak_kib
from tests.support.intake_samples import QUICK
from tests.support.loopback import Request, serving

JSON = b'{"tree": ["' + b"a" * 5000 + b'"]}'
DATA = os.urandom(300_000)
BRISK = dataclasses.replace(QUICK, slow_for=0.6, unknown=1 << 20)


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(BRISK) as client:
        yield client


def item(url: str, data: bytes = DATA, *, known: bool = True) -> DownloadRequest:
    return DownloadRequest(url, "file", Digest.of(data) if known else None, len(data) if known else None)


def without_end(request: Request) -> None:
    request.close_connection = True
    request.begin(200, {"Content-Length": ""})
    while True:
        request.wfile.write(DATA)


def drip(request: Request) -> None:
    request.begin(200, {"Content-Length": str(len(DATA))})
    for _ in range(400):
        request.wfile.write(b"x")
        time.sleep(0.05)


@pytest.mark.parametrize("known", [True, False])
def test_a_body_without_end_has_an_end(client: HttpClient, tmp_path: Path, known: bool) -> None:
    said = "has more than 300000 bytes" if known else "does not say how large it is, and sends more than 1.0 MiB"
    with serving(without_end) as url, pytest.raises(KitError, match=said):
        download(client, Store(tmp_path), item(url, known=known))
    assert not list((tmp_path / "blobs/sha256").iterdir())


def test_the_size_and_one_more_is_the_end_where_the_digest_is_not_known(client: HttpClient, tmp_path: Path) -> None:
    with serving(without_end) as url, pytest.raises(DigestMismatch, match="more than 1000 bytes"):
        download(client, Store(tmp_path), DownloadRequest(url, "file", None, 1000))
    assert client.stats.fetched < 8 << 20


def test_a_small_answer_without_end_is_refused(client: HttpClient) -> None:
    with serving(without_end) as url, pytest.raises(NetworkError, match="more than 8388608 bytes"):
        client.read(url)


def test_a_few_bytes_that_become_many_cost_no_memory(client: HttpClient) -> None:
    packed = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packed.compress(bytes(1 << 20)) for _ in range(256)) + packed.flush()
    forget_peak()
    before = peak_kib()
    with (
        serving(lambda request: request.reply(bomb, headers={"Content-Encoding": "gzip"})) as url,
        pytest.raises(NetworkError, match="more than 8388608 bytes"),
    ):
        client.read(url)
    assert peak_kib() - before < 100 << 10


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_packed_on_the_way_is_unpacked(client: HttpClient, tmp_path: Path, coding: str, known: bool) -> None:
    body = {"gzip": gzip.compress(JSON), "deflate": zlib.compress(JSON), "identity": JSON}[coding]
    with serving(lambda request: request.reply(body, headers={"Content-Encoding": coding})) as url:
        assert client.read(url).body == JSON
        assert download(client, Store(tmp_path), item(url, JSON, known=known)) == Digest.of(JSON)


def test_an_archive_that_is_called_packed_is_taken_as_it_is(client: HttpClient, tmp_path: Path) -> None:
    layer = gzip.compress(DATA)
    with serving(lambda request: request.reply(layer, headers={"Content-Encoding": "gzip"})) as url:
        download(client, Store(tmp_path), item(url, layer))
    assert Store(tmp_path).path(Digest.of(layer)).read_bytes() == layer


def test_packing_that_nobody_asked_for_is_named(client: HttpClient) -> None:
    with (
        serving(lambda request: request.reply(b"x", headers={"Content-Encoding": "br"})) as url,
        pytest.raises(NetworkError, match="not asked for: br"),
    ):
        client.read(url)


@pytest.mark.parametrize("known", [True, False])
def test_a_drip_is_given_up(client: HttpClient, tmp_path: Path, known: bool) -> None:
    with serving(drip) as url, pytest.raises(NetworkError, match=r"bytes a second, fewer than 1024 .* \(2 attempts\)"):
        download(client, Store(tmp_path), item(url, known=known))


def test_a_dripping_redirect_is_given_up(client: HttpClient) -> None:
    def answer(request: Request) -> None:
        request.begin(302, {"Location": "/elsewhere", "Content-Length": "9000"})
        for _ in range(200):
            request.wfile.write(b"x")
            time.sleep(0.05)

    with serving(answer) as url, pytest.raises(NetworkError, match="bytes a second"):
        client.read(url)


def test_the_body_of_a_redirect_is_not_read_without_end(client: HttpClient) -> None:
    def answer(request: Request) -> None:
        if request.path == "/there":
            return request.reply(b"here")
        request.close_connection = True
        request.begin(302, {"Location": "/there"})
        while True:
            request.wfile.write(DATA)

    with serving(answer) as url:
        assert client.read(url).body == b"here"


def test_hints_without_end_before_an_answer(client: HttpClient) -> None:
    def answer(request: Request) -> None:
        while True:
            request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            time.sleep(0.01)

    with (
        serving(answer) as url,
        HttpClient(dataclasses.replace(BRISK, read_timeout=0.5)) as quick,
        pytest.raises(NetworkError, match="headers of the answer took more than"),
    ):
        quick.read(url)


def test_dripping_headers_are_given_up() -> None:
    def answer(request: Request) -> None:
        for _ in range(200):
            request.wfile.write(b"H")
            request.wfile.flush()
            time.sleep(0.1)

    with (
        serving(answer) as url,
        HttpClient(dataclasses.replace(BRISK, read_timeout=0.5)) as client,
        pytest.raises(NetworkError, match=r"headers of the answer took more than 6 seconds \(1 attempts\)"),
    ):
        client.read(url)


@contextlib.contextmanager
def dripping(words: bytes) -> Iterator[int]:
    """The port of a server that hears a client out and then says ``words``, one byte at a time."""

    def say(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            client.recv(65536)
            for word in words:
                client.sendall(bytes([word]))
                time.sleep(0.1)

    def accept(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=say, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("proxied", "words", "said"),
    [
        (False, b"\x16\x03\x03\x40\x00" + bytes(300), r"timed out \(2 attempts\)"),
        (
            True,
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 60,
            r"the answer of the proxy took more than 6 seconds \(1 att",
        ),
    ],
    ids=["a TLS record told to be long", "a proxy's headers"],
)
def test_what_drips_before_a_question_can_be_asked_is_given_up(
    proxied: bool, words: bytes, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with dripping(words) as port, HttpClient(dataclasses.replace(BRISK, connect_timeout=0.5, retries=1)) as client:
        if proxied:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        with pytest.raises(NetworkError, match=said):
            client.read("https://hub.example/" if proxied else f"https://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("pieces", "slow"),
    [
        ([(1, 1.0)] * 12, True),
        ([(10, 59.0)] * 12, True),
        ([(1 << 20, 1.0)] * 12, False),
        ([(0, 59.0), (1 << 20, 0.1)] + [(4096, 1.0)] * 30, False),
        ([(20_000, 1.0)] + [(1, 0.9)] * 9, False),
    ],
    ids=["a byte a second", "ten bytes a minute", "fast", "a silence and then fast", "fast and then slow, for seconds"],
)
def test_what_counts_as_slow(pieces: list[tuple[int, float]], slow: bool) -> None:
    def all_of_it() -> None:
        watch = LeastRate(1024, 10.0)
        for amount, waited in pieces:
            watch.record(amount, waited)

    if slow:
        with pytest.raises(TooSlow):
            all_of_it()
    else:
        all_of_it()


@pytest.mark.parametrize("size", [4 << 50, 1 << 62])
def test_a_lie_about_a_size_costs_nothing(client: HttpClient, tmp_path: Path, size: int) -> None:
    journal = ResumeJournal(tmp_path / "journal", size, 16 << 20, 0)
    journal.add(len(journal.filled) - 1, b"x")
    journal.close()
    assert len(journal.filled) <= 1 << 16 and (tmp_path / "journal").stat().st_blocks * 512 <= 8192
    again = ResumeJournal(tmp_path / "journal", size, 16 << 20, size)
    assert again.total == 1
    again.close()
    with serving(lambda request: request.reply(DATA)) as url, pytest.raises(DiskError, match="not enough space for file"):
        download(client, Store(tmp_path / "s"), DownloadRequest(url, "file", Digest.of(DATA), size))


def test_space_is_counted_before_anything_is_fetched(tmp_path: Path) -> None:
    state = os.statvfs(tmp_path)
    require_space(Store(tmp_path), state.f_bavail * state.f_frsize // 2, "this")
    with pytest.raises(DiskError, match=r"for this: it needs [0-9.]+ TiB, [0-9.]+ [GT]iB are free -> .*--store"):
        require_space(Store(tmp_path), 1 << 62, "this")


@pytest.mark.parametrize("total", ["1" * 5000, "²", "-1", "*", ""])
def test_a_total_that_is_no_number_is_none(client: HttpClient, tmp_path: Path, total: str) -> None:
    def answer(request: Request) -> None:
        request.reply(DATA, 206, {"Content-Range": f"bytes 0-{len(DATA) - 1}/{total}"})

    with serving(answer) as url:
        assert download(client, Store(tmp_path), item(url)) == Digest.of(DATA)


@pytest.mark.parametrize("text", ["nan", "inf", "1e300", "-5", "٣", "Mon, 01 Jan 99999 00:00:00 GMT"])
def test_a_pause_that_nobody_can_mean_is_none(text: str) -> None:
    assert retry_after(text) is None


@pytest.mark.parametrize("headers", [{"Retry-After": "3600"}, {"RateLimit": '"api";r=0;t=280'}])
def test_nobody_waits_for_an_hour(client: HttpClient, tmp_path: Path, headers: dict[str, str]) -> None:
    said = r"asked too often \(HTTP 429\), and wants (3600|280) seconds"
    with serving(lambda request: request.reply(b"", 429, headers)) as url, pytest.raises(NetworkError, match=said):
        download(client, Store(tmp_path), item(url))
    assert client.stats.retried == 0


def test_each_retry_is_told_with_its_reason_its_wait_and_its_number(tmp_path: Path) -> None:
    told: list[str] = []
    facts: list[dict[str, object]] = []

    def tell(line: str, **more: object) -> None:
        told.append(line)
        facts.append(more)

    statuses = iter([429, 503, 200])
    with (
        serving(lambda request: request.reply(DATA, next(statuses))) as url,
        HttpClient(QUICK, tell=tell) as client,
    ):
        download(client, Store(tmp_path), item(url))
    assert [re.sub(r":[0-9]+:", ":PORT:", line).partition(" -> ")[0] for line in told] == [
        "127.0.0.1:PORT: was asked too often (HTTP 429): again in 0.0 s, attempt 2 of 4",
        "127.0.0.1:PORT: HTTP 503 Service Unavailable: again in 0.0 s, attempt 3 of 4",
    ]
    assert [(fact["event"], fact["attempt"]) for fact in facts] == [("retry", 2), ("retry", 3)]


def test_transfers_that_fail_together_are_one_line() -> None:
    told: list[str] = []
    notes = RetryNotes(lambda line, **facts: told.append(line))
    for _ in range(16):
        notes.tell("https://user:secret@hub.example:8443/a", RetryableError("timed out"), 1.5, 2, 6)
    notes.tell("https://hub.example:8443/a", RetryableError("timed out", 3.0), 3.0, 3, 6)
    assert told == [
        "hub.example:8443: timed out: again in 1.5 s, attempt 2 of 6",
        "hub.example:8443: timed out: again in 3.0 s, as it asks, attempt 3 of 6",
    ]
