"""Keys with names, limits, HTTPS: who may ask, how much at once, and that changing any of it loses no request."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import requests

from offline_kit.runtime.render import gateway
from offline_kit.runtime.settings import certificate
from offline_kit.runtime.settings.model import Settings
from tests.support.nginx_front import GATEWAY, KEY, QUESTION, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Names, engine

PATH = "/v1/chat/completions"
NAMED = "key-of-a-team-0123456789"
Start = Callable[..., Gateway]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway with these settings, and all its engines."""
    with ExitStack() as stack:

        def run(settings: Settings, *, certificate: bool = False) -> Gateway:
            names = Names({**addresses(settings), "router": ROUTER})
            stack.callback(names.close)
            open_to_workers(tmp_path)
            front = Gateway(tmp_path, names, settings, certificate=certificate)
            stack.callback(front.stop)
            for service, address in addresses(settings).items():
                stack.enter_context(engine(address, front.engine_port, service))
            return front

        yield run


def make_certificate(folder: Path, *, days: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    where = ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")]
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), *subject, *where]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def crowd(front: Gateway, size: int = 8) -> Iterator[list[int | str]]:
    """Clients that ask without a pause while the block runs: the statuses that they got, or what went wrong."""
    stop, got = threading.Event(), list[int | str]()

    def client() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                try:
                    answer = session.post(
                        front.url(PATH), json=QUESTION, headers={"Authorization": f"Bearer {KEY}"}, timeout=20
                    )
                    got.append(answer.status_code)
                except requests.RequestException as error:
                    got.append(repr(error))

    threads = [threading.Thread(target=client) for _ in range(size)]
    for thread in threads:
        thread.start()
    try:
        yield got
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_the_log_names_the_key_that_was_used(start: Start) -> None:
    front = start(four_models())
    front.change_keys([("default", KEY), ("team-a", NAMED)])
    assert [front.ask(PATH, key=key).status_code for key in (NAMED, KEY)] == [200, 200]
    deadline = time.monotonic() + 5
    while len(front.entries()) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [entry["key"] for entry in front.entries()] == ["team-a", "default"]
    assert NAMED not in front.log() and KEY not in front.log()


def test_many_reloads_under_load_lose_no_request(start: Start) -> None:
    """Clients keep a session, as client libraries do: a connection that nginx closed must never cost them a request."""
    front = start(four_models(replicas=2))
    with crowd(front) as got:
        for number in range(20):
            front.change_keys([("default", KEY), (f"team-{number}", f"{NAMED}-{number:02}")])
            asked = len(got)
            while len(got) < asked + 20:
                front.ask("/health", method="GET", key=None)
    assert set(got) == {200}, [answer for answer in got if answer != 200][:3]
    assert len(got) >= 400


def test_a_key_has_a_limit_of_requests_at_once(start: Start) -> None:
    front = start(four_models(env="OFFLINE_KIT_KEY_LIMIT=4\n"))
    slow = {**QUESTION, "seconds": 2}
    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        answers = [done.result() for done in [clients.submit(front.ask, PATH, json=slow) for _ in range(12)]]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses.count(200) == 4 and set(statuses) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    error = refused.json()["error"]
    assert (error["type"], error["code"], refused.headers["Retry-After"]) == ("rate_limit_error", 429, "1")
    assert front.ask("/health", method="GET", key=None).status_code == 200


def test_one_key_at_its_limit_hinders_no_other(start: Start) -> None:
    front = start(four_models(env="OFFLINE_KIT_KEY_LIMIT=1\n"))
    front.change_keys([("default", KEY), ("team-a", NAMED)])
    with front.ask(PATH, json={**QUESTION, "stream": True}, stream=True) as running:
        lines = running.iter_lines(chunk_size=1)
        next(lines)
        assert front.ask(PATH).status_code == 429
        assert front.ask(PATH, key=NAMED).status_code == 200


def test_https_with_the_operators_certificate(start: Start, tmp_path: Path) -> None:
    make_certificate(tmp_path / "tls")
    front = start(four_models(env="OFFLINE_KIT_WITH=nginx\n"), certificate=True)
    url = f"https://127.0.0.1:{front.where.tls_port}"
    trust = str(tmp_path / "tls/server.crt")
    head = {"Authorization": f"Bearer {KEY}"}
    assert requests.post(url + PATH, json=QUESTION, headers=head, verify=trust, timeout=20).json()["choices"]
    assert requests.post(url + PATH, json=QUESTION, verify=trust, timeout=20).status_code == 401
    assert requests.get(url + "/metrics", headers=head, verify=trust, timeout=20).status_code == 404
    with socket.create_connection((GATEWAY, front.where.tls_port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 400 " in answer[:20] and json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == 400
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection((GATEWAY, front.where.tls_port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        old.wrap_socket(plain)


def test_numbers_for_the_exporter_are_on_a_port_of_their_own(start: Start, tmp_path: Path) -> None:
    (tmp_path / "metrics.prom").write_text("offline_kit_info 1\n")
    front = start(four_models(env="OFFLINE_KIT_WITH=monitoring\nGRAFANA_ADMIN_PASSWORD=long-enough\n"))
    inside = f"http://{GATEWAY}:{front.where.metrics_port}"
    assert "Active connections" in requests.get(f"{inside}/stub_status", timeout=10).text
    assert requests.get(f"{inside}/kit", timeout=10).text == "offline_kit_info 1\n"
    assert requests.get(f"{inside}/v1/models", timeout=10).status_code == 404
    assert front.ask("/stub_status", method="GET").status_code == 404


def test_what_is_off_is_not_in_the_configuration() -> None:
    text = gateway.nginx_conf(four_models())
    for word in ("ssl", "stub_status", "upstream engine", "unix:"):
        assert word not in text, word
    assert "ssl" not in gateway.nginx_conf(four_models(env="OFFLINE_KIT_WITH=nginx\n")), "there is no certificate"


def test_when_a_certificate_ends_is_what_openssl_says(tmp_path: Path) -> None:
    for days in (20, 36500):
        make_certificate(tmp_path, days=days)
        command = ["openssl", "x509", "-in", str(tmp_path / "server.crt"), "-noout", "-enddate"]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip().removeprefix("notAfter=")
        der = ssl.PEM_cert_to_DER_cert((tmp_path / "server.crt").read_text())
        assert certificate.ends(der) == ssl.cert_time_to_seconds(said)
