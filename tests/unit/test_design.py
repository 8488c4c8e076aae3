"""docs/design.md says what may import what; the contracts of import-linter are what holds the code to it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from offline_kit.intake.sources import IMAGES, MODELS
from offline_kit.spec.names import SCHEMES
from tests.testbed.cache import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


def read_contracts() -> list[dict[str, Any]]:
    data: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    contracts: list[dict[str, Any]] = data["tool"]["importlinter"]["contracts"]
    return contracts


def allowed() -> dict[str, set[str]]:
    """Package -> what it may import, as the contracts say."""
    contracts = read_contracts()
    layers = [[name.split(".")[1] for name in row.split(" | ")] for row in contracts[0]["layers"]]
    below = {name: {other for row in layers[at + 1 :] for other in row} for at, row in enumerate(layers) for name in row}
    for alone in (contract for contract in contracts if contract["type"] == "forbidden"):
        for source in (name for name in alone["source_modules"] if name.count(".") == 1):
            below[source.split(".")[1]] -= {name.split(".")[1] for name in alone["forbidden_modules"]}
    return below


def test_the_table_of_packages_is_that_of_the_contracts() -> None:
    text = (REPOSITORY / "docs/design.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| .* \| ([\w, ]+) \|$", text, flags=re.M)
    table = {name: set() if imports == "nothing" else set(imports.split(", ")) for name, imports in rows}
    assert table == allowed()
    assert set(table) == {
        path.stem for path in (REPOSITORY / "offline_kit").iterdir() if path.name[0] not in "_." and path.suffix in ("", ".py")
    }


def test_every_package_has_a_contract_of_its_own() -> None:
    packages = {path.parent.name for path in (REPOSITORY / "offline_kit").glob("*/__init__.py")}
    inside = {name.split(".")[1] for contract in read_contracts()[1:] for name in contract.get("containers", [])}
    inside |= {row.split(".")[1] for contract in read_contracts()[1:] for row in contract.get("layers", []) if "." in row}
    assert packages - inside == set()


@pytest.mark.parametrize("page", ["README.md", "docs/fetching.md"])
def test_every_source_scheme_has_a_row_and_a_module(page: str) -> None:
    """One list of schemes (``SCHEMES``): the pages tell all of it, and each leads to a source."""
    rows = re.findall(r"^\| `([a-z0-9-]+)://", (REPOSITORY / page).read_text(), flags=re.M)
    assert sorted(rows) == sorted([*SCHEMES["image"], *SCHEMES["model"]])
    for table, kind in ((IMAGES, "image"), (MODELS, "model")):
        assert all(hasattr(table[scheme], "pieces") for scheme in SCHEMES[kind])


def test_no_folder_is_a_long_list() -> None:
    for top in ("offline_kit", "scripts", "tests", "benchmarks"):
        for folder in (REPOSITORY / top).rglob("*"):
            if folder.is_dir():
                assert len([path for path in folder.iterdir() if path.suffix in (".py", ".sh")]) <= 16, folder


def test_a_long_file_says_why_it_is_one() -> None:
    for top in ("offline_kit", "scripts", "tests", "benchmarks"):
        for file in (REPOSITORY / top).rglob("*"):
            if file.suffix in (".py", ".sh") and (text := file.read_text()).count("\n") > 300:
                assert re.search(r"\b[Oo]ne\s+file\b", text.partition("import ")[0]), f"{file}: divide it"


def test_everything_that_is_shown_goes_one_way_out() -> None:
    """``common/output.py`` redacts and escapes: whoever writes beside it shows what hubs, registries and bundles say."""
    direct = re.compile(r"click\.(?:secho|echo)\(|(?<![\w.])print\(|print_exc\(|std(?:out|err)\.write\(")
    alone = ("runtime/", "unified/", "bundle/unpack.py", "common/output.py")
    for file in (REPOSITORY / "offline_kit").rglob("*.py"):
        name = str(file.relative_to(REPOSITORY / "offline_kit"))
        if not name.startswith(alone):
            assert not direct.search(file.read_text()), name


PAGES = [*REPOSITORY.glob("docs/*.md"), REPOSITORY / "README.md", REPOSITORY / "SECURITY.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files of this repository in backticks, below its top or that of the package, and tests by their file."""
    named = re.findall(r"`((?:[a-z_]+/)+[\w.-]+\.(?:py|sh|tsv))`", page.read_text())
    of_kit = ("scripts/", "runtime/", "lib/")  # as they lie in a kit, too
    for name in named:
        places = [REPOSITORY / name, REPOSITORY / "offline_kit" / name]
        places += [REPOSITORY / "scripts" / name] if name.startswith(of_kit) else []
        assert any(place.exists() for place in places), name
    assert not re.findall(r"`test_\w+`", page.read_text()), "a test is named by its file: `tests/...py`"


def test_every_page_is_in_the_index() -> None:
    index = (REPOSITORY / "docs/README.md").read_text()
    pages = {path.name for path in (REPOSITORY / "docs").glob("*.md")} - {"README.md"}
    assert {page for page in pages if f"({page})" not in index} == set()
