"""The gateway's page in a real browser, through a real nginx, in front of stand-in engines; both languages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from selenium.webdriver.support.ui import WebDriverWait

from offline_kit.runtime.render.gateway import model_lists
from tests.support.nginx_front import KEY, ROUTER, Gateway, addresses, four_models, open_to_workers
from tests.support.pages.browser import DESK, PHONE, Browser
from tests.support.stand_ins import Engine, Names, engine

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    open_to_workers(folder)
    names = Names({**addresses(four_models()), "router": ROUTER})
    running = Gateway(folder, names, four_models())
    yield running
    running.stop()
    names.close()


@pytest.fixture(scope="module")
def engines(front: Gateway) -> Iterator[dict[str, Engine]]:
    places = addresses(four_models())
    with ExitStack() as stack:
        yield {
            key: stack.enter_context(engine(places[f"engine-{key}"], front.engine_port, key))
            for key in ("chat", "embedding", "rerank")
        }


def until(browser: Browser, condition: str) -> None:
    WebDriverWait(browser.driver, 10).until(lambda _: browser.run(f"return {condition}"))


def text(browser: Browser, id: str) -> str:
    return str(browser.run("return document.getElementById(arguments[0]).innerText", id))


def click(browser: Browser, id: str) -> None:
    browser.run("document.getElementById(arguments[0]).click()", id)


def enter(browser: Browser, front: Gateway, size: tuple[int, int] = DESK, *, dark: bool = False, key: str = KEY) -> None:
    browser.open(front.url("/"), size, dark=dark)
    browser.run("document.getElementById('key').value = arguments[0]", key)
    click(browser, "use")
    until(browser, "!document.getElementById('list').hidden || document.getElementById('said').textContent")
    until(browser, "![...document.querySelectorAll('#models td:nth-child(2)')].some((cell) => cell.textContent.includes('…'))")


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_quiet_and_anybody_can_read_it(
    browser: Browser, front: Gateway, engines: dict[str, Engine], size: tuple[int, int], dark: bool
) -> None:
    browser.open(front.url("/"), size, dark=dark)
    until(browser, "document.getElementById('gateway').textContent")
    assert browser.said() == [] and browser.accessibility() == []
    if not dark:
        click(browser, "language")
    enter(browser, front, size, dark=dark)
    own = front.url("/")
    assert all(url.startswith(own) for url in browser.requests())
    assert not browser.overflows() and browser.accessibility() == []
    refused = [line for line in browser.said() if "503" not in line]  # the engine that is down, which a browser notes
    assert refused == []


def test_without_a_key_it_shows_nothing_of_this_host(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    browser.open(front.url("/"))
    until(browser, "document.getElementById('gateway').textContent")
    assert set(browser.requests()) == {front.url(path) for path in ("/", "/page.css", "/page.js", "/health")}
    shown = browser.run("return document.documentElement.outerHTML")
    assert not any(entry["id"] in shown for entry in json.loads(model_lists(four_models())["all.json"])["data"])
    enter(browser, front, key="not-a-key-of-this-host")
    assert "no key of this host" in text(browser, "said") and browser.run("return document.getElementById('list').hidden")


def test_which_models_are_up(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    enter(browser, front)
    rows = browser.run("return [...document.querySelectorAll('#models tr')].map((row) => row.innerText.split('\\t'))")
    assert [row[0] for row in rows] == ["big-chat", "big-embedding", "big-rerank", "small-chat"]
    assert [row[1:] for row in rows[:2]] == [["✓ up", "chat", "128"], ["✓ up", "embedding", "128"]]
    probed = {key: server.asked[-1].path for key, server in engines.items()}
    assert probed == {"chat": "/v1/messages/count_tokens", "embedding": "/v1/embeddings", "rerank": "/v1/rerank"}
    assert rows[3][1] == "! does not answer", "nothing runs there"


def test_a_chat_streams_and_what_a_model_says_is_text(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    engines["chat"].words = ["Hello ", HOSTILE, "你好"]
    enter(browser, front)
    click(browser, "chat-send")
    until(browser, "document.querySelector('#talk p:not(.mine)')")
    assert "你好" not in text(browser, "talk"), "words are shown as they come"
    until(browser, "document.getElementById('chat-stop').hidden")
    assert text(browser, "talk").endswith(f"Hello {HOSTILE}你好") and browser.run("return document.images.length") == 0
    asked = json.loads(engines["chat"].asked[-1].body)
    assert asked["stream"] and asked["messages"] == [{"role": "user", "content": "What can you do?"}]
    browser.run("document.getElementById('chat-text').value = 'and more?'")
    click(browser, "chat-send")
    until(browser, "!document.getElementById('chat-stop').hidden")
    click(browser, "chat-stop")
    until(browser, "document.getElementById('chat-said').textContent == 'stopped'")
    sent = json.loads(engines["chat"].asked[-1].body)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "user"]


def test_texts_are_compared_and_documents_ordered(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    enter(browser, front)
    click(browser, "embedding-send")
    until(browser, "document.getElementById('embedding-said').textContent.includes(':')")
    assert text(browser, "embedding-said") == "cosine similarity: 0.4603"
    click(browser, "rerank-send")
    until(browser, "document.querySelectorAll('#rerank-list li').length")
    assert text(browser, "rerank-list").splitlines()[0].endswith("Paris is the capital of France.")


def test_examples_are_for_this_address_and_have_no_key(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    enter(browser, front)
    for how, mark in (
        ("curl", "Authorization: Bearer $KEY"),
        ("python", 'api_key=os.environ["KEY"]'),
        ("javascript", "fetch("),
    ):
        browser.run(
            "const how = document.getElementById('how'); how.value = arguments[0]; how.dispatchEvent(new Event('change'))", how
        )
        code = text(browser, "code")
        assert mark in code and front.url("/v1") in code and "big-chat" in code and KEY not in code
    assert KEY not in browser.run("return document.documentElement.outerHTML")
    assert browser.run("return document.getElementById('key').value") == "", "the key leaves the field, too"


def test_the_key_is_gone_with_the_page(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    enter(browser, front)
    assert browser.run("return [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    browser.open(front.url("/"))
    assert browser.run("return document.getElementById('list').hidden")


def test_both_languages_have_every_text(browser: Browser, front: Gateway, engines: dict[str, Engine]) -> None:
    enter(browser, front)
    assert browser.run("return Object.keys(TEXTS.en).filter((name) => !(name in TEXTS.zh)).concat(Object.keys(TEXTS.zh).filter("
                       "(name) => !(name in TEXTS.en)))") == []  # fmt: skip
    click(browser, "language")
    assert text(browser, "h-chat") == "试用：对话" and browser.run("return document.documentElement.lang") == "zh"
    assert "✓ 正常" in text(browser, "models") and "请打个招呼" in text(browser, "code")
    assert browser.accessibility() == []
