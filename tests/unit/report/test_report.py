"""The report of a bundle: areas that are as the bytes, nothing of a bundle that a browser obeys, small whatever comes."""

from __future__ import annotations

import dataclasses
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from offline_kit.bundle.signature.keys import load_public_key
from offline_kit.cli.main import cli
from offline_kit.common.errors import SpecError
from offline_kit.host.target_check import cards
from offline_kit.report.gather import Package, gather
from offline_kit.report.page import page, payload
from offline_kit.report.treemap import MOST, Item, tiles
from tests.support.bundle_sample import make_sample
from tests.support.pages.report_sample import pack_report_sample

HOSTILE = "</title></style><img/src=x onerror=alert(1)><script>alert(2)</script>\"' onload='alert(3)'{{7*7}}"


def said(*arguments: str | Path, code: int = 0) -> str:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], obj={})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_report_sample(tmp_path_factory.mktemp("report"))


@given(st.lists(st.lists(st.integers(0, 1 << 40), max_size=60), max_size=8))
def test_areas_are_as_the_bytes_and_fill_the_whole(groups: list[list[int]]) -> None:
    items = [Item(str(at), sum(parts), tuple(Item(str(n), n) for n in parts)) for at, parts in enumerate(groups)]
    total = sum(item.bytes for item in items)
    drawn = tiles(items)
    for tile in drawn:
        assert -1e-6 <= tile.place.x <= tile.place.x + tile.place.width <= 1 + 1e-6
        assert -1e-6 <= tile.place.y <= tile.place.y + tile.place.height <= 1 + 1e-6
        assert tile.place.width * tile.place.height == pytest.approx(tile.bytes / total, rel=1e-3, abs=1e-6)
    for item in range(len(items)):
        assert len([tile for tile in drawn if tile.group == item]) <= MOST + 1
    assert sum(tile.bytes for tile in drawn) == pytest.approx(total, rel=1e-3, abs=len(groups) * 61)


def test_tiles_do_not_overlap() -> None:
    drawn = [tile.place for tile in tiles([Item("a", 60, (Item("x", 50), Item("y", 10))), Item("b", 40)])]
    for one in drawn:
        for other in drawn:
            apart = one.x + one.width <= other.x + 1e-9 or one.y + one.height <= other.y + 1e-9
            apart = apart or other.x + other.width <= one.x + 1e-9 or other.y + other.height <= one.y + 1e-9
            assert one is other or apart


def test_a_shared_layer_is_counted_once(bundle: Path) -> None:
    report = gather(bundle)
    assert sum(item.bytes for item in payload(report) if item.name.startswith("image")) == report.contents.totals.images_bytes


class Parsed(HTMLParser):
    """The tags and attributes of a page, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.shown = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action", "data", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.shown += data


def test_nothing_of_a_hostile_bundle_is_markup(tmp_path: Path) -> None:
    hostile = page(gather(pack_report_sample(tmp_path / "a", hostile=HOSTILE, signed=False)))
    plain = page(gather(pack_report_sample(tmp_path / "b", signed=False)))
    bad, good = Parsed(hostile), Parsed(plain)
    assert bad.tags.count("script") == bad.tags.count("style") == 1 and "img" not in bad.tags
    assert bad.attributes == good.attributes and not {name for name in bad.attributes if name.startswith("on")}
    assert all(link.startswith("#") or link == "data:," for link in bad.links)
    assert bad.shown.count("alert(2)") > 10 and "7*7" in bad.shown, "it is shown as the text that it is"
    assert re.search(r"default-src &#39;none&#39;|default-src 'none'", hostile) and "unsafe" not in hostile


def test_control_characters_are_written_as_numbers(bundle: Path) -> None:
    turned = Package("pypi", "evil\u202etxt.exe", "1", "", "")
    text = page(dataclasses.replace(gather(bundle), packages=(turned,)))
    assert "\u202e" not in text and "evil\\u202etxt.exe" in text


def test_a_bundle_of_very_many_files_makes_a_small_page_soon(tmp_path: Path) -> None:
    made = pack_report_sample(tmp_path, files=20_000, count=6000, signed=False)
    before = time.process_time()
    text = page(gather(made))
    assert time.process_time() - before < 10
    assert len(text) < 1_500_000
    assert "and 1,004 more" in text and "20,006 files" in text


def test_the_command_writes_the_page(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    key = bundle.parent / "release.pub"
    assert said("inspect", bundle, "--html", out, "--gpu", "2x80GiB", "--base", bundle, "--key", key) == f"{out}\n"
    shown = Parsed(out.read_text()).shown
    for text in ("made by release.pub", "Drawn for 2 GPUs: starts", "From kit-v1.0.0 to kit-v1.0.0: no changes", "clamav",
                 "not scanned: larger than 4000 bytes", "LGPL-2.1-or-later", "Qwen2.5-32B-Instruct"):  # fmt: skip
        assert text in shown, text
    said("inspect", bundle, "--html", out, "--sbom", code=2)
    said("inspect", bundle, "--gpu", "2x80GiB", code=2)
    with pytest.raises(SpecError):
        cards("nothing")


def test_the_terminal_tells_gpus_licences_and_signatures(bundle: Path) -> None:
    shown = said("inspect", bundle)
    assert "  GPUs: 2 x 64 GiB or more start all engines; may not start on 2 x 48 GiB\n" in shown
    assert "6 files  apache-2.0\n" in shown
    identity = load_public_key(bundle.parent / "release.pub").id
    assert f"  signed by key {identity}, not checked  kit-v1.0.0.SHA256SUMS.sig\n" in shown
    assert f"  signed by release.pub (key {identity})" in said("inspect", bundle, "--key", bundle.parent / "release.pub")


def test_a_bundle_without_records_has_a_page(tmp_path: Path) -> None:
    text = page(gather(make_sample(tmp_path / "blobs").pack(tmp_path / "kit-v1.0.0.tar.gz")))
    for part in (
        "The bundle has no bill of materials",
        "No scanner looked",
        "was not tried out",
        "None lies in the kit",
        "No plan",
    ):
        assert part in text
