"""One set of exit codes, wherever they are told: errors, scripts, their help, the manuals of a kit and the pages here."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from offline_kit.cli.main import cli
from offline_kit.common import errors
from tests.testbed.cache import REPOSITORY

SCRIPTS = REPOSITORY / "scripts"
DEFINED = dict(re.findall(r"\b(EXIT_[A-Z]+)=(\d+)", (SCRIPTS / "lib/core/common.sh").read_text()))
OF_SCRIPTS = {0, 1} | {int(code) for code in DEFINED.values()}
PAGES = ("README.md", "docs/design.md")
MANUALS = [("README.md", "Exit codes of the scripts"), ("README.zh.md", "脚本的退出码")]
BUILDING = ("build.sh", "build_offline_package.sh")  # in no kit: they end as the program does
TALKING = sorted(path.name for path in SCRIPTS.glob("*.sh"))


def classes(base: type[errors.KitError] = errors.KitError) -> Iterator[type[errors.KitError]]:
    for kind in base.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield kind
            yield from classes(kind)


OF_PROGRAM = {0, 1, 2} | {kind.exit_code for kind in classes()}  # 2 is click's own


def rows(text: str) -> list[tuple[int, list[str]]]:
    """The rows of tables that begin with a number of an exit code: the number, the other cells."""
    found = re.findall(r"^\| (\d{1,3}) \| (.*) \|$", text, flags=re.M)
    return [(int(code), [cell.strip() for cell in re.split(r" \| ?", rest)]) for code, rest in found]


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def listed(text: str) -> list[int]:
    """The numbers in a line of help: ``Exit codes: 0 done; 2 wrong usage; ...``."""
    told = text.partition("xit codes: ")[2].partition("\n\n")[0].partition("HELP")[0].partition("\\n")[0]
    return [int(code) for code in re.findall(r"(?:^|[;:]\s+)(\d+) ", told)]


def test_each_error_has_a_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in classes()]
    assert len(codes) == len(set(codes)) >= 12 and not {0, 1, 2} & set(codes)


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_the_pages(page: str) -> None:
    table = rows(section((REPOSITORY / page).read_text(), "Exit codes"))
    assert [code for code, _ in table] == sorted(OF_PROGRAM | OF_SCRIPTS)
    assert {code for code, cells in table if cells[0]} == OF_PROGRAM
    assert {code for code, cells in table if cells[1]} == OF_SCRIPTS


@pytest.mark.parametrize(("manual", "heading"), MANUALS)
def test_the_manuals_of_a_kit(manual: str, heading: str) -> None:
    table = rows(section((REPOSITORY / "offline_kit/host/templates" / manual).read_text(), heading))
    assert [code for code, cells in table if cells[0]] == sorted(OF_SCRIPTS)


def test_the_help_of_the_program() -> None:
    assert listed(CliRunner().invoke(cli, ["--help"]).output) == sorted(OF_PROGRAM)


@pytest.mark.parametrize("script", TALKING)
def test_the_help_of_a_script(script: str) -> None:
    told = listed((SCRIPTS / script).read_text())
    may = OF_SCRIPTS | OF_PROGRAM if script in BUILDING else OF_SCRIPTS
    assert told == sorted(set(told)) and {0, 2} < set(told) <= may
    if script in ("install.sh", "deploy.sh"):
        of_deploy = {int(DEFINED["EXIT_DIFFERS"])}  # attest is a verb of it
        assert set(told) | {1} | (of_deploy if script == "install.sh" else set()) == OF_SCRIPTS


def test_scripts_end_with_what_is_told() -> None:
    used = set()
    for path in SCRIPTS.rglob("*.sh"):
        text = path.read_text()
        used |= {name for name in re.findall(r"\bEXIT_[A-Z]+\b", text) if path.name != "common.sh"}
        told = listed(text) or sorted(OF_SCRIPTS)
        assert {int(code) for code in re.findall(r"(?<!awk )\bexit (\d+)\b", text)} <= {1, *told}, path
    assert used | {"EXIT_USAGE"} == set(DEFINED)
