"""The linter of shell over scripts with their libraries: a finding is where it says, and each is told once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.testbed import lint_shell
from tests.testbed.cache import REPOSITORY


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the scripts, to plant mistakes in."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    return tmp_path


def test_a_mistake_in_a_library_is_found_at_its_line(tree: Path) -> None:
    library = tree / "scripts/lib/core/findings.sh"
    number = len(library.read_text().splitlines()) + 1
    with library.open("a") as file:
        file.write("planted() { local unused=3; echo $undefined; }\n")
    found = lint_shell.check(sorted((tree / "scripts").glob("*.sh")), tree)
    assert {(place, kind.split()[1]) for place, _, kind, _ in found} == {
        (("scripts/lib/core/findings.sh", number), code) for code in ("SC2034", "SC2086", "SC2154")
    }


def test_each_library_is_read_once(tree: Path) -> None:
    text = lint_shell.Text(tree).add(tree / "scripts/deploy.sh")
    read = [place for place in text.places if place[1] == 1]
    assert len(read) == len(set(read)) == len(text.files) > 20


def test_a_directive_that_leads_nowhere(tree: Path) -> None:
    script = tree / "scripts/preflight.sh"
    script.write_text(script.read_text() + '# shellcheck source=lib/core/none.sh\n. "$LIB/core/none.sh"\n')
    with pytest.raises(FileNotFoundError, match="none"):
        lint_shell.Text(tree).add(script)
