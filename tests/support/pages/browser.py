"""A headless Chromium that reaches nothing but the loopback, and what it says of a page.

Rules: names are not looked up, and whatever is not on the loopback goes to a proxy that nobody runs; every request that a page
makes is kept, whether it came through or not; one browser serves many pages. axe-core's rules are those of its own file.
"""

from __future__ import annotations

import base64
import json
import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.testbed import cache
from tests.testbed.process import run

AXE = "axe-playwright-python==0.1.8"  # a wheel that holds axe-core 4.12.1; nothing else of it is used
PHONE, DESK = (390, 844), (1280, 900)
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # it runs as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--proxy-server=http://127.0.0.1:9",
    "--proxy-bypass-list=127.0.0.1",
)


class Browser:
    """A Chromium; ``open`` a page, then ask what there is to say of it."""

    def __init__(self, profile: Path) -> None:
        options = Options()
        for option in (*_OPTIONS, f"--user-data-dir={profile}"):
            options.add_argument(option)
        options.binary_location = _program("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(_program("chromedriver")))

    def open(self, address: str, size: tuple[int, int] = DESK, *, dark: bool = False) -> None:
        """Loads ``address`` at a width and height in pixels; what was said of earlier pages is forgotten."""
        screen = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.command("Emulation.setDeviceMetricsOverride", **screen)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.command("Emulation.setEmulatedMedia", features=[scheme, still])
        self.driver.get("about:blank")
        self.said(), self.requests()
        self.driver.get(address)

    def command(self, name: str, **arguments: Any) -> Any:
        """A command of the DevTools protocol."""
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script: str, *arguments: Any) -> Any:
        """What the function body ``script`` returns in the page, which may be a promise."""
        return self.driver.execute_script(script, *arguments)

    def said(self) -> list[str]:
        """The lines of the console since the last question, but for hints to developers."""
        return [f"{entry['level']}: {entry['message']}" for entry in self._log("browser") if entry["level"] != "DEBUG"]

    def requests(self) -> list[str]:
        """The addresses that the page asked for since the last question; what it holds itself (data:) is none."""
        messages = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith(("data:", "about:", "blob:"))]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.get_log(kind)  # type: ignore[no-untyped-call]
        return found

    def accessibility(self) -> list[str]:
        """What axe-core calls serious or critical in the page, a line each."""
        self.driver.execute_script(axe_core().read_text("utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0]; axe.run({ preload: false }).then((result) => done(result.violations.map((rule) => "
            "[rule.impact, rule.id, rule.nodes.map((node) => node.target.join(' ') + ' ' + node.failureSummary)])))"
        )
        return [f"{impact} {rule}: {nodes[:3]}" for impact, rule, nodes in found if impact in ("serious", "critical")]

    def overflows(self) -> bool:
        """Whether the page is wider than the window: a person would have to push it sideways."""
        return bool(self.run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def picture(self, path: Path) -> None:
        """The whole page as a PNG at ``path``, to be looked at."""
        shot = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def printed(self) -> bytes:
        """The page on A4, as PDF."""
        sheets = self.command("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        return base64.b64decode(sheets["data"])


def axe_core() -> Path:
    """axe-core's one file."""

    def make(target: Path) -> None:
        run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", str(target / "wheel"), AXE])
        (wheel,) = (target / "wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (target / "axe.min.js").write_bytes(archive.read("axe_playwright_python/axe.min.js"))
        wheel.unlink()

    return cache.entry("axe", cache.key_of("1", AXE), make) / "axe.min.js"


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is missing: bash tests/testbed/setup.sh"
    return found


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A running browser, gone afterwards."""
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.driver.quit()
