"""The one transfer, against a hub that misbehaves on demand.

One file, for it is the list of what one transfer has to bear, and all of it is asked of the same small payload.
"""

from __future__ import annotations

import hashlib
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DigestMismatch, Interrupted, NetworkError, NotFound
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.intake.transfer.http_errors import retry_after
from offline_kit.intake.transfer.request import DownloadRequest
from tests.support.intake_samples import IMPATIENT, QUICK, write
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

PAYLOAD = os.urandom(5 << 20)
DIGEST = Digest.of(PAYLOAD)


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("o/m", write(tmp_path / "repository", {"weights.bin": PAYLOAD, "small.json": b'{"a": 1}', "empty": b""}))
        yield hub


@pytest.fixture
def client() -> Iterator[HttpClient]:
    with HttpClient(QUICK) as client:
        yield client


def request(
    hub: Hub, *, digest: Digest | None = DIGEST, size: int | None = len(PAYLOAD), path: str = "weights.bin"
) -> DownloadRequest:
    return DownloadRequest(f"{hub.url}/o/m/resolve/main/{path}", path, digest, size)


def test_a_plain_download(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    seen: list[int] = []
    assert download(client, Store(tmp_path / "s"), request(source), seen.append) == DIGEST
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD
    assert sum(seen) == client.stats.fetched == source.sent() == len(PAYLOAD)
    assert (tmp_path / "s/blobs/sha256" / DIGEST.hex).stat().st_mode & 0o777 == 0o644
    assert not list((tmp_path / "s/partial").iterdir())
    download(client, Store(tmp_path / "s"), request(source))
    assert len(source.log) == 1, "what is there is not asked for"


def test_a_cut_body_is_resumed(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("cut", at=2_000_000), Fault("cut", at=1_000_000))
    seen: list[int] = []
    download(client, Store(tmp_path / "s"), request(source), seen.append)
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD
    assert [access.range for access in source.log] == [None, "bytes=2000000-", "bytes=3000000-"]
    assert source.sent() == sum(seen) == len(PAYLOAD)
    assert client.stats.retried == 2


def test_a_line_that_breaks_often_but_moves_gets_there(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(*[Fault("cut", at=1_100_000)] * 4, Fault("cut", at=1000), Fault("cut", at=1000))
    download(client, Store(tmp_path / "s"), request(source))
    assert source.sent() == len(PAYLOAD)


def test_one_wrong_byte_of_the_right_size_is_refused_by_name(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("flip", at=4_000_000, times=-1))
    seen: list[int] = []
    with pytest.raises(DigestMismatch, match=rf"weights\.bin \({source.url}/o/m/resolve/main/weights\.bin\): has digest"):
        download(client, Store(tmp_path / "s"), request(source), seen.append)
    assert len(source.log) == 2, "once more from the start, then no more"
    assert not Store(tmp_path / "s").path(DIGEST).exists() and sum(seen) == 0


def test_a_wrong_byte_that_goes_away_is_forgiven(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("flip", at=4_000_000))
    download(client, Store(tmp_path / "s"), request(source))
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_passing_failures_are_tried_again(source: Hub, client: HttpClient, tmp_path: Path, status: int) -> None:
    source.faults.add(Fault("status", status=status, times=3))
    download(client, Store(tmp_path / "s"), request(source))
    assert client.stats.retried == 3


def test_the_pause_that_the_server_asks_for_is_kept(source: Hub, tmp_path: Path) -> None:
    pauses: list[float] = []

    class Patient(HttpClient):
        def pause(self, seconds: float) -> None:
            pauses.append(seconds)

    source.faults.add(Fault("status", status=429, seconds=7))
    with Patient(QUICK) as patient:
        download(patient, Store(tmp_path / "s"), request(source))
    assert pauses == [7.0]


def test_retry_after_in_all_its_forms() -> None:
    assert retry_after(None) is None and retry_after("soon") is None
    assert retry_after("2") == 2 and retry_after("1.5") == 1.5
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_a_failure_that_stays_is_said_with_its_reason(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("status", status=503, times=-1))
    with pytest.raises(NetworkError, match=r"HTTP 503 Service Unavailable \(4 attempts\)"):
        download(client, Store(tmp_path / "s"), request(source))


def test_a_silent_socket_is_left(source: Hub, tmp_path: Path) -> None:
    source.faults.add(Fault("stall", at=3_000_000, seconds=60))
    with HttpClient(IMPATIENT) as impatient:
        download(impatient, Store(tmp_path / "s"), request(source))
    assert [access.range for access in source.log] == [None, "bytes=3000000-"]


def test_a_server_without_ranges(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    source.faults.add(Fault("cut", at=2_000_000), Fault("no-range"))
    seen: list[int] = []
    download(client, Store(tmp_path / "s"), request(source), seen.append)
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD
    assert source.sent() == len(PAYLOAD) + 2_000_000 and sum(seen) == len(PAYLOAD)


def test_a_server_that_continues_elsewhere(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    wrong = {"Content-Range": f"bytes 7-{len(PAYLOAD) - 1}/{len(PAYLOAD)}"}
    source.faults.add(Fault("cut", at=2_000_000), Fault("headers", headers=wrong))
    download(client, Store(tmp_path / "s"), request(source))
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD
    assert source.log[-1].range is None


def test_a_file_that_is_longer_or_shorter_than_promised(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match="expected 5000"):
        download(client, Store(tmp_path / "s"), request(source, size=5000))
    with pytest.raises(DigestMismatch, match=f"has {len(PAYLOAD)} bytes, expected {len(PAYLOAD) + 5}"):
        download(client, Store(tmp_path / "s"), request(source, size=len(PAYLOAD) + 5))
    assert source.sent() == 0 or len(source.log) <= 4
    assert not Store(tmp_path / "s").path(DIGEST).exists()


def test_what_is_on_disk_is_not_believed(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    partial = tmp_path / "s/partial" / DIGEST.hex
    for left in (b"rubbish" * 1000, PAYLOAD + b"too long", b"\0" * len(PAYLOAD)):
        store.evict(DIGEST)
        partial.write_bytes(left)
        download(client, store, request(source))
        assert store.path(DIGEST).read_bytes() == PAYLOAD


def test_empty_and_unknown_files(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    store, small = Store(tmp_path / "s"), b'{"a": 1}'
    assert download(client, store, request(source, digest=Digest.of(b""), size=0, path="empty")) == Digest.of(b"")
    assert store.has(Digest.of(b""), 0)
    source.faults.add(Fault("cut", at=3))
    assert download(client, store, request(source, digest=None, size=None, path="small.json")) == Digest.of(small)
    git = hashlib.sha1(b"blob 8\0" + small, usedforsecurity=False).hexdigest()
    item = DownloadRequest(f"{source.url}/o/m/resolve/main/small.json", "small.json", size=8, git_blob=git)
    assert download(client, store, item) == Digest.of(small)
    source.faults.add(Fault("flip", at=3, times=-1))
    with pytest.raises(DigestMismatch, match="git blob id"):
        download(client, store, item)


def test_refusals_are_not_tried_again(source: Hub, client: HttpClient, tmp_path: Path) -> None:
    store = Store(tmp_path / "s")
    for status, kind in ((401, AccessDenied), (403, AccessDenied), (404, NotFound), (410, NotFound), (418, NetworkError)):
        source.faults.add(Fault("status", status=status))
        with pytest.raises(kind, match=f"HTTP {status}"):
            download(client, store, request(source))
    assert client.stats.retried == 0


def test_nobody_answers(client: HttpClient, tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match=r"Connection refused \(4 attempts\)"):
        download(client, Store(tmp_path / "s"), DownloadRequest("http://127.0.0.1:1/x", "x", DIGEST, 1))


def test_credentials_do_not_follow_a_redirect(
    source: Hub, client: HttpClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login wrong password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    seen: list[str | None] = []
    with Hub(tokens=("secret",)) as first:
        first.add("o/m", tmp_path / "repository", gated=True)
        item = DownloadRequest(
            f"{first.url}/o/m/resolve/main/weights.bin", "weights", DIGEST, len(PAYLOAD), auth=Fixed("Bearer secret")
        )
        download(client, Store(tmp_path / "s1"), item)
        first.faults.add(Fault("redirect", to=source.url.replace("127.0.0.1", "localhost")))
        with client.get(item.url, {}, item.auth) as response:
            seen += [step.request.headers.get("Authorization") for step in (*response.history, response)]
    assert seen[0] == "Bearer secret"
    assert seen[1] is None or "secret" not in seen[1]


def test_a_stop_is_prompt(source: Hub, tmp_path: Path) -> None:
    """Long before the silent server would speak again, or the line would lose patience."""
    source.faults.add(Fault("stall", at=3_000_000, seconds=90))
    outcome: list[BaseException] = []
    with HttpClient(TransferOptions(read_timeout=60)) as client:

        def run() -> None:
            try:
                download(client, Store(tmp_path / "s"), request(source))
            except Interrupted as error:
                outcome.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while client.stats.fetched < 3_000_000:
            time.sleep(0.01)
        client.stop()
        thread.join(30)
        assert not thread.is_alive()
    assert len(outcome) == 1
    assert (tmp_path / "s/partial" / DIGEST.hex).stat().st_size == 3_000_000, "what came stays"


CHILD = """
import sys
from offline_kit.common.digest import Digest
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.download import download
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.request import DownloadRequest
from pathlib import Path
root, url, digest, size = sys.argv[1:]
with HttpClient(__import__("tests.support.intake_samples", fromlist=["QUICK"]).QUICK) as client:
    download(client, Store(Path(root)), DownloadRequest(url, "weights", Digest(digest), int(size)))
"""


def test_a_killed_run_is_resumed(source: Hub, tmp_path: Path) -> None:
    source.faults.add(Fault("stall", at=1_500_000, seconds=0.8), Fault("stall", at=1_500_000, seconds=0.8))
    command = [sys.executable, "-c", CHILD, str(tmp_path / "s"), request(source).url, str(DIGEST), str(len(PAYLOAD))]
    partial = tmp_path / "s/partial" / DIGEST.hex
    for least in (1_400_000, 2_900_000):
        child = subprocess.Popen(command)
        deadline = time.monotonic() + 60
        while not (partial.exists() and partial.stat().st_size >= least) and time.monotonic() < deadline:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    subprocess.run(command, check=True)
    assert Store(tmp_path / "s").path(DIGEST).read_bytes() == PAYLOAD
    done = source.log[-1]
    assert done.fault is None and done.range is not None and done.sent < len(PAYLOAD) - 2_800_000


def test_a_private_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    with Hub() as hub:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        hub._server.socket = tls.wrap_socket(hub._server.socket, server_side=True)
        hub.add("o/m", write(tmp_path / "repository", {"weights.bin": PAYLOAD}))
        item = DownloadRequest(request(hub).url.replace("http:", "https:"), "weights", DIGEST, len(PAYLOAD))
        with HttpClient(QUICK) as client, pytest.raises(NetworkError, match=r"certificate is not trusted.* -> .*SSL_CERT_FILE"):
            download(client, Store(tmp_path / "s"), item)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with HttpClient(QUICK) as client:
            assert download(client, Store(tmp_path / "s"), item) == DIGEST


def test_a_disk_that_fills_up(source: Hub, tmp_path: Path) -> None:
    """The limit on the size of a file stands for the disk: writing beyond it fails in the same place."""
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n" + CHILD
    command = [sys.executable, "-c", limited, str(tmp_path / "s"), request(source).url, str(DIGEST), str(len(PAYLOAD))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "DiskError" in done.stderr and str(tmp_path / "s") in done.stderr
    assert len(source.log) == 1, "a full disk is no passing failure"


def test_ctrl_c_ends_a_run_at_once(source: Hub, tmp_path: Path) -> None:
    source.faults.add(Fault("stall", at=1_500_000, seconds=90))
    work = (
        CHILD.replace("QUICK) as client", "QUICK.__class__()) as client")
        .replace("    download(", "    concurrency.run_all([lambda: download(")
        .rstrip()
        + "], 2, client.stop)\n"
    )
    command = [sys.executable, "-c", "from offline_kit.common import concurrency\n" + work]
    child = subprocess.Popen(
        [*command, str(tmp_path / "s"), request(source).url, str(DIGEST), str(len(PAYLOAD))], stderr=subprocess.PIPE
    )
    partial = tmp_path / "s/partial" / DIGEST.hex
    deadline = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size >= 1_400_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, talk = child.communicate(timeout=30)
    assert b"KeyboardInterrupt" in talk
    assert partial.stat().st_size >= 1_400_000
