"""The first builds of a new user's own folders: what is said while and after, and what the kit says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.testbed.servers.registry import Registry
from tests.unit.start.model_folders import ENCODER, make_model_folder


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        for name in ("engine", "gateway"):
            parts.push(running.url, name, "v1", parts.image("gzip", content=name))
        yield running


@pytest.fixture(scope="module")
def site(registry: Registry, tmp_path_factory: pytest.TempPathFactory, offline_kit: Kit) -> Path:
    """A project of two folders with the same files, its first bundle and the talk of that build in ``talk``."""
    work = tmp_path_factory.mktemp("first")
    make_model_folder(work / "one", ENCODER, 1 << 20)
    shutil.copytree(work / "one", work / "two")
    images = [f"--{role}=docker://{registry.host}/{role}:v1" for role in ("engine", "gateway")]
    models = ["--model", str(work / "one"), "--model", str(work / "two")]
    done = offline_kit("init", work / "site", *models, *images, "--gpus", "1x24GiB", "--non-interactive", cwd=work)
    assert done.returncode == 0, done.stderr
    (work / "site/offline-kit.toml").write_text('store = "../store"\n')
    assert offline_kit("lock", cwd=work / "site").returncode == 0
    shutil.rmtree(work / "store")
    done = offline_kit("build", "--version", "v1", "--locked", cwd=work / "site")
    assert done.returncode == 0, done.stderr
    (work / "talk").write_text(done.stderr)
    return work / "site"


def test_what_is_said_of_a_build_in_the_log_of_a_job(site: Path) -> None:
    lines = (site.parent / "talk").read_text().splitlines()
    for step in ("fetch", "pack site-v1", "verify"):
        assert any(re.fullmatch(rf"{step}: [0-9.]+ [KM]iB", line) for line in lines), step
    fetched = next(line for line in lines if line.startswith("fetched "))
    assert re.fullmatch(r"fetched [0-9.]+ \w+, reused [0-9.]+ \w+, retried 0", fetched), "two models share their files"
    bundle = site / "site-v1.tar.gz"
    *_, made, digest, after = lines
    assert re.fullmatch(r"site-v1\.tar\.gz: [0-9.]+ MiB, made in [0-9]+ s", made)
    assert digest == f"sha256 {Digest.of_file(bundle).hex}  {bundle.name}"
    assert after == "carry site-v1.sha256 with it; where it arrives: sha256sum -c site-v1.sha256, unpack it, ./install.sh"
    subprocess.run(["sha256sum", "--check", "--strict", "site-v1.sha256"], cwd=site, check=True, capture_output=True)


def test_a_build_can_be_looked_at_before_and_its_fingerprint_after(site: Path, offline_kit: Kit) -> None:
    done = offline_kit("build", "--version", "v2", "--dry-run", cwd=site)
    assert re.search(r"^would fetch 0 B into \S+ \(.* free\)\nwould write site-v2, .* into \S+ \(.* free\)$", done.stdout, re.M)
    line = next(line for line in (site.parent / "talk").read_text().splitlines() if line.startswith("fingerprint "))
    assert line in offline_kit("verify", "site-v1.tar.gz", cwd=site).stdout


def test_a_delta_says_everywhere_what_completes_it(site: Path, offline_kit: Kit) -> None:
    done = offline_kit("build", "--version", "v1.1", "--base", "site-v1.tar.gz", cwd=site)
    assert done.stderr.splitlines()[-1].endswith("unpack it, ./install.sh --base ../site-v1")
    shown = offline_kit("inspect", "site-v1.1.delta.tar.gz", cwd=site).stdout
    assert "  a delta: " in shown and "  on the host: ./install.sh --base ../site-v1\n" in shown
    assert "a delta" not in offline_kit("inspect", "site-v1.tar.gz", cwd=site).stdout
    subprocess.run(["tar", "-xzf", "site-v1.1.delta.tar.gz"], cwd=site, check=True)
    assert "./install.sh --base ../" in (site / "site-v1.1/README.md").read_text()
    verified = subprocess.run(["scripts/verify.sh"], cwd=site / "site-v1.1", capture_output=True, text=True, check=False)
    assert "this kit is a delta and not complete" in verified.stderr and "finding" not in verified.stderr


def test_the_store_calls_things_by_their_names(site: Path, offline_kit: Kit) -> None:
    listed = offline_kit("store", "ls", cwd=site).stdout
    assert "  image engine\n" in listed and "  image gateway\n" in listed


def test_the_manuals_know_nothing_of_the_builder(site: Path) -> None:
    for name in ("README.md", "README.zh.md"):
        text = subprocess.run(
            ["tar", "-xOzf", "site-v1.tar.gz", f"site-v1/{name}"], cwd=site, check=True, capture_output=True, text=True
        ).stdout
        assert "dir://" not in text and str(site.parent) not in text
        assert ("local folder" in text) == (name == "README.md"), "of a commit, in the language of the page"
        assert "| `engine-one` | 0 | " in text, "the plan that it speaks of"
