"""docs/design.md says what may import what; the contracts of import-linter are what holds the code to it."""

from __future__ import annotations

import re
import sys
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
    alone = contracts[1]
    below["runtime"] -= {name.split(".")[1] for name in alone["forbidden_modules"]}
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


def test_everything_that_is_shown_goes_one_way_out() -> None:
    """``common/output.py`` redacts and escapes: whoever writes beside it shows what hubs, registries and bundles say."""
    direct = re.compile(r"click\.(?:secho|echo)\(|(?<![\w.])print\(|print_exc\(|std(?:out|err)\.write\(")
    alone = ("runtime/", "bundle/unpack.py", "common/output.py")
    for file in (REPOSITORY / "offline_kit").rglob("*.py"):
        name = str(file.relative_to(REPOSITORY / "offline_kit"))
        if not name.startswith(alone):
            assert not direct.search(file.read_text()), name
