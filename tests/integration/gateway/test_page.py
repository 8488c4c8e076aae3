"""The page at / of the router: the same for everybody, held by its headers, and off where .env says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.host import assets
from offline_kit.runtime.render.static_page import FILES, POLICY
from offline_kit.runtime.settings.model import ConfigError
from tests.support.nginx_front import KEY, PAGE, Gateway, addresses, four_models, open_to_workers
from tests.support.stand_ins import Names


@pytest.fixture
def names() -> Iterator[Names]:
    server = Names(addresses(four_models()))
    yield server
    server.close()


def gateway(folder: Path, names: Names, env: str = "") -> Gateway:
    open_to_workers(folder)
    return Gateway(folder, names, four_models(env))


def test_everybody_gets_the_same_page_with_its_headers(tmp_path: Path, names: Names) -> None:
    front = gateway(tmp_path, names)
    try:
        for path, (name, kind) in FILES.items():
            for key in (None, "wrong", KEY):
                answer = front.ask(path, method="GET", key=key)
                assert (answer.status_code, answer.content) == (200, (PAGE / name).read_bytes())
                assert answer.headers["Content-Type"] == f"{kind}; charset=utf-8"
                assert answer.headers["Content-Security-Policy"] == POLICY
                assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.headers["X-Request-ID"]
            assert front.ask(path, method="HEAD", key=None).status_code == 200
            assert front.ask(path, method="POST", key=None).status_code == 405
            for port in front.ports.keys() - {"router"}:
                assert front.ask(path, port, method="GET").status_code == 404
        for odd in ("//", "/?x", "/%2e", "/page.js/", "/./page.js"):
            raw = front.raw(f"GET {odd} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert raw.startswith(b"HTTP/1.1 200" if odd == "/?x" else b"HTTP/1.1 404"), (odd, raw[:40])
    finally:
        front.stop()


def test_it_names_nothing_of_this_host_or_of_elsewhere() -> None:
    """The files have no place for names of models, and no address but those of the API on this host."""
    for name, _ in FILES.values():
        text = (PAGE / name).read_text()
        assert "http:" not in text and "https:" not in text and "//" not in text.replace("// ", "").replace("://", "")
        assert not any(word in text for word in ("innerHTML", "outerHTML", "insertAdjacent", "localStorage", "sessionStorage"))
        assert not any(word in text for word in ("cookie", "eval(", "document.write", "indexedDB", "style="))
    assert {f"deploy/page/{name}" for name, _ in FILES.values()} == set(assets.page())


def test_it_can_be_switched_off(tmp_path: Path, names: Names) -> None:
    front = gateway(tmp_path, names, "OFFLINE_KIT_PAGE=no\n")
    try:
        for path in FILES:
            assert front.ask(path, method="GET").status_code == 404
    finally:
        front.stop()
    with pytest.raises(ConfigError, match="OFFLINE_KIT_PAGE: 'off' is not known"):
        four_models("OFFLINE_KIT_PAGE=off\n")


def test_who_asks_for_it_without_end_is_held(tmp_path: Path, names: Names) -> None:
    front = gateway(tmp_path, names)
    try:
        found = [front.ask("/", method="GET", key=None).status_code for _ in range(400)]
        assert set(found) == {200, 429} or found.count(200) <= 260 + 50
    finally:
        front.stop()
