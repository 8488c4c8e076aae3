"""What a hostile client tries, with a key and without one, and what another client notices of it: nothing."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.nginx_front import GATEWAY, KEY, QUESTION, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Engine, Names, engine

PATH = "/v1/chat/completions"
PATIENCE = 15  # seconds: an attack that works takes minutes, a busy machine does not
OTHER = "the-key-of-another-client-0123456789"
MIB = 1 << 20


@pytest.fixture
def engines() -> dict[str, Engine]:
    return {}


@pytest.fixture
def front(tmp_path: Path, engines: dict[str, Engine]) -> Iterator[Gateway]:
    names = Names({**addresses(four_models()), "router": ROUTER})
    open_to_workers(tmp_path)
    running = Gateway(tmp_path, names, four_models())
    running.change_keys([*running.settings.keys, ("other", OTHER)])
    with ExitStack() as stack:
        for service, address in addresses(four_models()).items():
            engines[service] = stack.enter_context(engine(address, running.engine_port, service))
        yield running
    running.stop()
    names.close()


def dial(front: Gateway, port: str = "router") -> socket.socket:
    return socket.create_connection((GATEWAY, front.ports[port]), timeout=20)


def head(*more: str, key: str | None = KEY, method: str = "POST", path: str = PATH) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *([f"Authorization: Bearer {key}"] if key else []), *more]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def status(line: socket.socket) -> int:
    """The status that comes on this connection; 0 when it is closed without one."""
    found = re.match(rb"HTTP/1\.1 (\d{3})", line.recv(65536))
    return int(found.group(1)) if found else 0


def gone(line: socket.socket, seconds: float) -> float:
    """After how many seconds the gateway has closed this connection, on which a byte is sent each half second."""
    began = time.monotonic()
    line.settimeout(0.5)
    while time.monotonic() - began < seconds:
        try:
            line.sendall(b"x")
            if not line.recv(65536):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return time.monotonic() - began


def others_wait(front: Gateway, **more: object) -> float:
    """Seconds that another client waits for its answer."""
    began = time.monotonic()
    answer = front.ask(PATH, key=OTHER, json={**QUESTION, **more})
    assert answer.status_code == 200, answer.text
    return time.monotonic() - began


def refused(lines: list[socket.socket], expected: int) -> list[socket.socket]:
    """Those of ``lines`` on which 429 came; waits until they are as many as expected, and a while for more."""
    found: list[socket.socket] = []
    ends = time.monotonic() + 15
    while time.monotonic() < ends:
        ready, _, _ = select.select([line for line in lines if line not in found], [], [], 1)
        assert {status(line) for line in ready} <= {429}
        found += ready
        if not ready and len(found) >= expected:
            break
    return found


@pytest.mark.parametrize("length", ["Content-Length: 60000000", "Transfer-Encoding: chunked"])
def test_bodies_that_never_end_leave_room_for_those_of_others(front: Gateway, length: str) -> None:
    """Each lies in a file of the gateway's /tmp, which has room for those of one key."""
    piece = b"x" * (2 * MIB)
    with ExitStack() as stack:
        lines = [stack.enter_context(dial(front)) for _ in range(40)]
        for line in lines:
            line.sendall(head(length))
        over = refused(lines, 16)
        assert len(over) == 16
        for line in lines:
            if line not in over:
                line.sendall((b"200000\r\n" if "chunked" in length else b"") + piece)
        assert others_wait(front, filler="y" * (3 * MIB)) < 10
        answer = front.ask(PATH, json=QUESTION)
        assert answer.status_code == 200, "small ones of the same key are not counted"


def test_many_bodies_of_some_megabytes(front: Gateway) -> None:
    with ExitStack() as stack:
        lines = [stack.enter_context(dial(front)) for _ in range(60)]
        for line in lines:
            line.sendall(head("Content-Length: 9000000"))
        assert len(refused(lines, 12)) == 12
        assert others_wait(front) < PATIENCE


def test_a_body_without_a_key_is_not_waited_for(front: Gateway) -> None:
    with dial(front) as line:
        line.sendall(head("Content-Length: 60000000", key=None))
        assert status(line) == 401
        assert gone(line, 20) < 10


def test_no_body_is_asked_for_without_a_key(front: Gateway) -> None:
    with dial(front) as line:
        line.sendall(head("Content-Length: 10", "Expect: 100-continue", key=None))
        assert status(line) == 401


@pytest.mark.parametrize("start", [b"", b"GET /v1/models HTTP/1.1\r\nX: "])
def test_headers_that_come_byte_by_byte_end(front: Gateway, start: bytes) -> None:
    with dial(front) as line:
        line.sendall(start)
        assert gone(line, 30) < 14


def test_headers_have_a_size(front: Gateway) -> None:
    for size, expected in ((6000, 200), (9000, 400)):
        assert front.ask("/v1/models", method="GET", headers={"X-Long": "x" * size}).status_code == expected
    many = {f"X-{number}": "x" * 7000 for number in range(4)}
    assert front.ask("/v1/models", method="GET", headers=many).status_code == 400


def test_a_connection_serves_one_request(front: Gateway) -> None:
    asked = head(method="GET", path="/health", key=None)
    with dial(front) as line:
        line.sendall(asked * 20)
        got = b"".join(iter(lambda: line.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200") == 1 and b"Connection: close" in got


@pytest.mark.parametrize(
    "more",
    [
        ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"),
    ],
)
def test_no_other_protocol_comes_through(front: Gateway, engines: dict[str, Engine], more: tuple[str, ...]) -> None:
    body = json.dumps(QUESTION).encode()
    with dial(front) as line:
        line.sendall(head(*more, f"Content-Length: {len(body)}") + body)
        assert status(line) == 200
    assert not {"Upgrade", "HTTP2-Settings", "Sec-WebSocket-Key"} & set(engines["engine-chat"].asked[-1].headers)


def test_http_2_without_asking(front: Gateway) -> None:
    with dial(front) as line:
        line.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        assert status(line) in (0, 400)


def test_a_thousand_ranges_are_one_answer(front: Gateway) -> None:
    ranges = ",".join(f"{number}-{number}" for number in range(0, 1000, 2))
    answer = front.ask("/v1/models", method="GET", headers={"Range": f"bytes={ranges}"})
    assert answer.status_code == 200 and len(answer.json()["data"]) == 4


def test_names_that_do_not_exist_at_full_speed(front: Gateway) -> None:
    ends = time.monotonic() + 4
    body = json.dumps({**QUESTION, "model": "no-such-model"}).encode()

    def hostile() -> None:
        while time.monotonic() < ends:
            with dial(front) as line:
                line.sendall(head(f"Content-Length: {len(body)}") + body)
                assert status(line) == 404

    crowd = [threading.Thread(target=hostile, daemon=True) for _ in range(32)]
    for thread in crowd:
        thread.start()
    waited = []
    while time.monotonic() < ends:
        waited.append(others_wait(front, model="small-chat"))
    for thread in crowd:
        thread.join()
    assert max(waited) < PATIENCE, waited


def test_answers_that_nobody_reads(front: Gateway) -> None:
    """They wait in the engine, and not in the memory or on the disk of the gateway."""
    body = json.dumps({**QUESTION, "length": 8 * MIB}).encode()
    with ExitStack() as stack:
        for _ in range(30):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect((GATEWAY, front.ports["router"]))
            line.sendall(head(f"Content-Length: {len(body)}") + body)
        time.sleep(2)
        assert others_wait(front) < PATIENCE
        held = sum(memory(pid) for pid in front.workers())
        assert held < 200 * MIB, held
        assert sum(path.stat().st_size for path in (front.folder / "proxy").rglob("*") if path.is_file()) == 0


def memory(pid: int) -> int:
    """The bytes that a process holds."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) << 10 if found else 0


@pytest.mark.parametrize(
    "path", ["/metrics", "/stub_status", "/kit", "/keys.conf", "/models/all.json", "/.refuse/401", "/docs"]
)
def test_what_is_for_the_kit_alone(front: Gateway, engines: dict[str, Engine], path: str) -> None:
    for port in ("router", "chat"):
        assert front.ask(path, port, method="GET").status_code == 404
    assert not any(running.asked for running in engines.values())


@pytest.mark.parametrize("path", ["/nothing-here", "/v1/models", "/health"])
def test_floods_without_a_key_are_limited_and_leave_the_log_to_others(front: Gateway, path: str) -> None:
    began = time.monotonic()
    answers = [front.ask(path, method="GET", key=None).status_code for _ in range(800)]
    seconds = time.monotonic() - began
    assert answers[0] == {"/nothing-here": 404, "/v1/models": 401, "/health": 200}[path] and answers.count(429) > 50
    rate, burst = (50, 200) if path == "/health" else (10, 100)
    assert front.ask(path, method="GET").status_code in (404, 200), "who has a key is not counted here"
    assert others_wait(front) < PATIENCE
    time.sleep(0.2)
    entries = front.entries()
    assert len([entry for entry in entries if not entry["key"]]) <= burst + rate * (seconds + 1) + 1
    assert entries[-1]["key"] == "other"


@pytest.mark.parametrize("said", [b"evil", b"HTTP/1.1 200\r\n\r\n", b"HTTP/1.1 000 x\r\n\r\n", b"\0\x1b[31m\r\n\r\n", b""])
def test_whatever_an_engine_answers_the_log_is_json(front: Gateway, said: bytes) -> None:
    """And its client gets an answer of its own, while others get theirs."""
    front.names.table["engine-embedding"] = "127.71.0.200"
    with socket.create_server(("127.71.0.200", front.engine_port)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(65536)
                line.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        body = json.dumps({"model": "big-embedding", "input": "x"}).encode()
        with dial(front) as line:
            line.sendall(head(f"Content-Length: {len(body)}", path="/v1/embeddings") + body)
            while line.recv(65536):
                continue
        thread.join()
    assert others_wait(front) < PATIENCE
    ends = time.monotonic() + 10
    while len(front.entries()) < 2 and time.monotonic() < ends:
        time.sleep(0.1)
    assert len(front.entries()) == 2
    assert all(isinstance(entry["status"], int) for entry in front.entries())
