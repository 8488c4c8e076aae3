"""One client cannot stop the others: guesses, idle connections and hostile bodies, while another client is answered."""

from __future__ import annotations

import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.nginx_front import GATEWAY, KEY, QUESTION, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Names, engine

PATH = "/v1/chat/completions"
PATIENCE = 15  # seconds: an attack that works takes minutes, a busy machine does not


@pytest.fixture
def front(tmp_path: Path) -> Iterator[Gateway]:
    names = Names({**addresses(four_models()), "router": ROUTER})
    open_to_workers(tmp_path)
    running = Gateway(tmp_path, names, four_models())
    with ExitStack() as stack:
        for service, address in addresses(four_models()).items():
            stack.enter_context(engine(address, running.engine_port, service))
        yield running
    running.stop()
    names.close()


def test_guesses_are_slowed_down_and_keys_are_not(front: Gateway) -> None:
    answers = [front.ask("/v1/models", method="GET", key=f"a-guess-{number:016}") for number in range(300)]
    assert answers[0].status_code == 401 and "WWW-Authenticate" in answers[0].headers
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) > 100 and {answer.status_code for answer in answers} == {401, 429}
    assert refused[0].json()["error"]["code"] == 429
    assert {front.ask("/v1/models", method="GET").status_code for _ in range(150)} == {200}


def test_many_idle_connections_leave_room_and_end(front: Gateway) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 40000), hard))
    try:
        with ExitStack() as stack:
            for _ in range(17000):  # more than two workers with the usual 8,192 have room for
                idle = stack.enter_context(socket.create_connection((GATEWAY, front.ports["router"]), timeout=5))
                idle.sendall(b"G")
            assert front.ask(PATH).status_code == 200
            idle.settimeout(15)
            # nothing came: nginx says that it took too long, or nothing, and closes
            assert len(idle.recv(65536)) >= 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_bodies_of_brackets_keep_nobody_waiting(front: Gateway) -> None:
    body = b"{" * (4 << 20)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def hostile() -> None:
        with socket.create_connection((GATEWAY, front.ports["router"]), timeout=60) as connection:
            connection.sendall(head + body)
            connection.recv(100)

    crowd = [threading.Thread(target=hostile, daemon=True) for _ in range(40)]
    for thread in crowd:
        thread.start()
    waited = []
    while any(thread.is_alive() for thread in crowd):
        start = time.monotonic()
        assert front.ask(PATH, json={**QUESTION, "model": "small-chat"}).json()["engine"] == "engine-second"
        waited.append(time.monotonic() - start)
    assert max(waited) < PATIENCE, waited
