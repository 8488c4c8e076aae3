"""Which version comes next, and which releases stay."""

from __future__ import annotations

import itertools
import subprocess
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.common.progress import Silent
from offline_kit.release.index import Release, Releases, read_index, write_index
from offline_kit.release.prune import prune, split_off
from offline_kit.release.version import check_scheme, is_older, next_version
from tests.testbed.cache import REPOSITORY

TODAY = date(2026, 11, 26)
NOTHING = Digest.of(b"")


def release(version: str, base: str | None = None) -> Release:
    name = f"kit-{version}"
    return Release(
        version=version,
        made="2026-11-26T00:00:00Z",
        content=NOTHING,
        lock=NOTHING,
        fingerprint="",
        file=f"{name}.tar.gz",
        files=(f"{name}.tar.gz", f"{name}.sha256"),
        size=1,
        sha256={},
        base=base,
    )


@pytest.mark.parametrize(
    ("scheme", "earlier", "expected"),
    [
        ("auto", (), "v1.0.0"),
        ("auto", ("v1.0.0",), "v1.0.1"),
        ("auto", ("v1.0.9", "v1.0.10", "v1.0.2"), "v1.0.11"),
        ("auto", ("2.3.4", "2.4.0", "nightly"), "2.4.1"),
        ("auto", ("v2026.11.26", "v1.9.9"), "v2026.11.27"),
        ("date", (), "v2026.11.26"),
        ("date", ("v2026.11.25", "v1.0.0"), "v2026.11.26"),
        ("date", ("v2026.11.26",), "v2026.11.26.1"),
        ("date", ("v2026.11.26", "v2026.11.26.9", "v2026.11.26.1"), "v2026.11.26.10"),
        ("rc-1", ("v1.0.0",), "rc-1"),
    ],
)
def test_the_next_version(scheme: str, earlier: tuple[str, ...], expected: str) -> None:
    assert next_version(scheme, earlier, TODAY) == expected


@pytest.mark.parametrize("scheme", ["v1.0.0", "", "v 1", "../v1", "v1\n"])
def test_versions_that_cannot_be(scheme: str) -> None:
    with pytest.raises(SpecError):
        next_version(scheme, ("v1.0.0",), TODAY)


@pytest.mark.parametrize("scheme", ["auto", "date"])
def test_each_version_is_newer_for_the_host_than_all_before(scheme: str) -> None:
    """By the function that upgrade compares with, release candidates that were given by hand included."""
    made: list[str] = ["v1.0.0-rc1", "v1.0.0-rc2"]
    for _ in range(12):
        made.append(next_version(scheme, made, TODAY))
    assert_in_order(made)


@pytest.mark.parametrize(
    "versions",
    [
        "v1.0.0-alpha v1.0.0-beta.2 v1.0.0-beta.11 v1.0.0-rc1 v1.0.0 v1.0.0-1 v1.0.0-hotfix v1.0.1-rc.1 v1.0.1 v1.10.0",
        "1.0.0.dev3 1.0.0rc1 1.0.0RC2 1.0.0 1.0.0-device 1.0.1",
        "v2026.11.27-pre v2026.11.27 v2026.11.27.1 v2026.12.1",
    ],
)
def test_a_release_candidate_is_older_than_its_release(versions: str) -> None:
    assert_in_order(versions.split())


def assert_in_order(versions: list[str]) -> None:
    pairs = [pair for one, other in itertools.pairwise(versions) for pair in ((one, other), (other, one), (one, one))]
    script = '. "$0"; while read -r one other; do is_older "$one" "$other" && echo older || echo not; done'
    said = subprocess.run(
        ["bash", "-c", script, str(REPOSITORY / "scripts/lib/verbs/upgrade.sh")],
        input="".join(f"{one} {other}\n" for one, other in pairs), capture_output=True, text=True, check=True,
    )  # fmt: skip
    wrong = [
        pair for pair, word, right in zip(pairs, said.stdout.split(), itertools.cycle(("older", "not", "not"))) if word != right
    ]
    assert not wrong


@given(some.lists(some.booleans(), min_size=1, max_size=12), some.integers(1, 5))
def test_what_a_kept_delta_needs_is_kept(fulls: list[bool], keep: int) -> None:
    made: list[Release] = []
    for number, full in enumerate(fulls):
        made.append(release(f"v{number}", None if full or not made else made[-1].version))
    left = split_off(Releases(name="kit", releases=tuple(made)), keep)
    versions = {entry.version for entry in left.releases}
    assert left.releases[-keep:] == tuple(made)[-keep:]
    assert all(entry.base is None or entry.base in versions for entry in left.releases)
    assert set(left.pruned) == {entry.version for entry in made} - versions
    needed = {entry.base for entry in left.releases}
    assert versions - {entry.version for entry in made[-keep:]} <= needed, "nothing else is kept"
    assert not set(left.versions) ^ {entry.version for entry in made}


def test_pruning_removes_the_files_that_are_listed_and_no_other(tmp_path: Path) -> None:
    index = Releases(name="kit", releases=(release("v1"), release("v2"), release("v3", "v2")))
    for entry in index.releases:
        for name in entry.files:
            (tmp_path / name).write_bytes(b"x")
    (tmp_path / "kit-v1.mine").write_bytes(b"x")
    write_index(tmp_path, index)
    assert prune(tmp_path, index, 1, Silent()) == read_index(tmp_path, "kit")
    assert read_index(tmp_path, "kit").pruned == ("v1",)
    assert {path.name for path in tmp_path.iterdir()} == {
        "releases.json",
        "kit-v1.mine",
        *(name for entry in index.releases[1:] for name in entry.files),
    }


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", "..", "a/b", "a\0b"])
def test_the_index_names_no_file_elsewhere(tmp_path: Path, name: str) -> None:
    text = Releases(name="kit", releases=(release("v1"),)).model_dump_json()
    (tmp_path / "releases.json").write_text(text.replace("kit-v1.sha256", name.replace("\0", "\\u0000")))
    with pytest.raises(SpecError, match="not the name of a file of this folder"):
        read_index(tmp_path, "kit")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"releases_format": 2, "name": "kit"}', "[" * 100_000])
def test_an_index_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "releases.json").write_text(text)
    with pytest.raises(SpecError, match=r"releases\.json"):
        read_index(tmp_path, "kit")
    (tmp_path / "releases.json").write_text(Releases(name="other").model_dump_json())
    with pytest.raises(SpecError, match="is of the kit 'other'"):
        read_index(tmp_path, "kit")


def test_what_can_be_no_version_is_refused_and_an_older_one_known() -> None:
    for wrong in ("", "../x", "a b", "x" * 64):
        with pytest.raises(SpecError, match="not a version"):
            check_scheme(wrong)
    check_scheme("auto")
    assert is_older("v1.9.0", "v1.10.0") and not is_older("v1.10.0", "v1.9.0") and not is_older("v1.0.0", "v1.0.0")
    assert not is_older("rc", "v1.0.0"), "nobody can tell"
