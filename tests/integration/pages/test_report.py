"""The report in a browser that reaches no network: quiet, readable by everyone, printed, and deaf to what a bundle says."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from offline_kit.report.gather import gather
from offline_kit.report.page import page
from tests.support.pages.browser import DESK, PHONE, Browser
from tests.support.pages.report_sample import pack_report_sample

HOSTILE = "</title></style><img/src=//host.example/x onerror=alert(1)><script>alert(2)</script>\"' onload='alert(3)' style='x'"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    bundle = pack_report_sample(folder)
    (folder / "report.html").write_text(page(gather(bundle, base=bundle)))
    return folder / "report.html"


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_quiet_and_anybody_can_read_it(browser: Browser, report: Path, size: tuple[int, int], dark: bool) -> None:
    browser.open(report.as_uri(), size, dark=dark)
    assert browser.said() == []
    assert browser.requests() == [report.as_uri()]
    assert browser.accessibility() == []
    assert not browser.overflows()


def test_the_search_leaves_what_has_all_words(browser: Browser, report: Path) -> None:
    browser.open(report.as_uri())
    find = "const f = document.getElementById('search-bom'); f.value = arguments[0]; f.dispatchEvent(new Event('input'));"
    shown = "[...document.querySelectorAll('#bom tbody tr')].filter((row) => row.offsetParent)"
    left = f"return {shown}.map((row) => row.cells[1].textContent)"
    every = browser.run(left)
    assert browser.run(find + left, "PACKAGE-12 mit") == ["package-120", "package-125"]
    assert browser.run("return document.getElementById('count-bom').textContent") == f"2 of {len(every)}"
    assert browser.run(find + left, "") == every


def test_it_prints(browser: Browser, report: Path, tmp_path: Path) -> None:
    browser.open(report.as_uri())
    (tmp_path / "report.pdf").write_bytes(browser.printed())
    told = subprocess.run(["pdftotext", "-layout", tmp_path / "report.pdf", "-"], capture_output=True, text=True, check=True)
    for text in ("kit v1.0.0", "Where the bytes are", "KV cache", "LGPL-2.1-or-later", "clamav"):
        assert text in told.stdout
    about = subprocess.run(["pdfinfo", tmp_path / "report.pdf"], capture_output=True, text=True, check=True)
    assert "Search licences" not in told.stdout and "(A4)" in about.stdout


def test_a_hostile_bundle_runs_nothing(browser: Browser, tmp_path: Path) -> None:
    target = tmp_path / "hostile.html"
    target.write_text(page(gather(pack_report_sample(tmp_path, hostile=HOSTILE, signed=False))))
    browser.open(target.as_uri())
    assert browser.said() == [] and browser.requests() == [target.as_uri()]
    assert browser.run("return document.scripts.length + document.images.length") == 1
    assert "alert(2)" in browser.run("return document.body.innerText")


def test_the_policy_stops_what_escaping_would_have_missed(browser: Browser, report: Path, tmp_path: Path) -> None:
    """A page with a hole torn into it: the script does not run, the style does not apply, nothing is asked for."""
    planted = "<script>document.title = 'ran'</script><img src='http://127.0.0.1:9/x' onerror=\"document.title = 'ran'\">"
    target = tmp_path / "torn.html"
    target.write_text(report.read_text().replace("<main>", f"<main>{planted}"))
    browser.open(target.as_uri())
    assert browser.run("return document.title") != "ran"
    assert [line for line in browser.said() if "Content Security Policy" in line]
