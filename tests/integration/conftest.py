"""A small kit that is installed nowhere, for tests of single scripts; others have a ``shelf`` or a ``kit`` of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import scripts_kit


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> scripts_kit.Shelf:
    """What kits are copied from, with small images; nothing changes it."""
    return scripts_kit.make_shelf(tmp_path_factory.mktemp("shelf"), small=True)


@pytest.fixture
def kit(shelf: scripts_kit.Shelf, tmp_path: Path) -> Path:
    """A kit as it is unpacked."""
    return scripts_kit.make_kit(shelf, tmp_path / "a kit")
