"""The documentation as a site: no dead link, read from a folder without a network, found by its search."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By

from tests.support.pages.browser import DESK, PHONE, Browser
from tests.testbed.cache import REPOSITORY

PARTS = ("docs", "website", "README.md", "README.zh-CN.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "-f",
        str(source / "website/mkdocs.yml"),
        "-d",
        str(out),
    ]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site") / "site"
    done = build(REPOSITORY, out)
    assert done.returncode == 0, done.stderr
    return out


def test_dead_links_and_pages_that_nobody_finds_fail_the_build(tmp_path: Path) -> None:
    for name in PARTS:
        place = REPOSITORY / name
        shutil.copytree(place, tmp_path / name) if place.is_dir() else shutil.copyfile(place, tmp_path / name)
    dead = {"[x](gone.md)": "gone.md", "[x](policy.md#gone)": "#gone", "[x](../scripts/gone.sh)": "gone.sh"}
    page = tmp_path / "docs/models.md"
    page.write_text("\n\n".join([page.read_text(), *dead]))
    (tmp_path / "docs/unlisted.md").write_text("# Not in the navigation\n")
    done = build(tmp_path, tmp_path / "out")
    assert done.returncode != 0, done.stderr
    for told in (*dead.values(), "unlisted.md"):
        assert told in done.stderr, done.stderr


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"?https?:", page.read_text()), page


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", ["start", "start.zh", "host-checks"])
def test_a_page_is_quiet_and_anybody_can_read_it(
    browser: Browser, site: Path, name: str, size: tuple[int, int], dark: bool
) -> None:
    browser.open((site / f"{name}.html").as_uri(), size, dark=dark)
    assert browser.run("return document.body.dataset.mdColorScheme") == ("slate" if dark else "default")
    assert browser.accessibility() == [] and browser.said() == [] and not browser.overflows()
    assert all(url.startswith(site.as_uri()) for url in browser.requests())


def test_the_search_works_in_a_folder(browser: Browser, site: Path) -> None:
    browser.open((site / "start.html").as_uri())
    browser.driver.find_element(By.CSS_SELECTOR, ".md-search__input").send_keys("scanner")
    deadline, found = time.monotonic() + 20, ""
    while "Policy and scans" not in found:
        assert time.monotonic() < deadline, found
        found = browser.run("return document.querySelector('.md-search-result').innerText")
        time.sleep(0.1)


def test_the_chinese_readme_has_the_same_exit_codes() -> None:
    codes = [
        re.findall(r"^\| (\d+) \|", (REPOSITORY / name).read_text(), flags=re.M) for name in ("README.md", "README.zh-CN.md")
    ]
    assert codes[0] == codes[1] and len(codes[0]) > 15
    commands = re.findall(r"^    offline-kit (\w+)", (REPOSITORY / "README.zh-CN.md").read_text(), flags=re.M)
    english = (REPOSITORY / "README.md").read_text()
    assert commands and all(f"offline-kit {command}" in english for command in commands)
