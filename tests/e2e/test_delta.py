"""A changed configuration travels as a delta of well under 1 MB, and ends as the full kit, beside the one that serves."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.e2e.conftest import Built, Installed

OLD, NEW = "demo-v1.0.0", "demo-v1.1.0"


@dataclass(frozen=True)
class Next:
    """The next version, with another configuration: in full and as a delta."""

    full: Path
    delta: Path


@pytest.fixture(scope="module")
def following(built: Built, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Next:
    """Registry and hub are gone: the lock of the earlier version and the store are enough."""
    work = tmp_path_factory.mktemp("next")
    shutil.copytree(
        built.manifest.parent.parent, work, dirs_exist_ok=True, ignore=shutil.ignore_patterns("store", "out", "registry")
    )
    services = work / "config/demo/models.json"
    document = json.loads(services.read_text())
    document["models"]["chat"]["max_model_len"] = 192
    services.write_text(json.dumps(document, indent=2))
    manifest = work / "manifests" / built.manifest.name
    common = ("build", "--version", "v1.1.0", "-m", manifest, "--store", built.store, "-o", work / "out")
    made = [offline_kit(*common, *more) for more in ((), ("--base", built.bundle))]
    for done in made:
        assert done.returncode == 0, done.stderr
    return Next(*(Path(done.stdout.strip()) for done in made))


def test_it_is_small_and_says_what_it_needs(built: Built, following: Next, offline_kit: Kit) -> None:
    assert following.delta.name == f"{NEW}.delta.tar.gz"
    size, full = following.delta.stat().st_size, following.full.stat().st_size
    assert (size < 2_000_000, full > 100_000_000) == (True, True), (size, full)
    done = offline_kit("verify", following.delta)
    assert (done.returncode, f"are to come from {OLD}" in done.stdout) == (0, True), done.stderr
    difference = json.loads(offline_kit("diff", "--json", built.bundle, following.full).stdout)
    assert (difference["same"], difference["travels"]) == (False, 0)
    assert {"kind": "file", "name": "config/models.json", "how": "changed", "what": "", "bytes": 0} in difference["changes"]


def test_it_installs_over_the_earlier_kit_and_is_the_full_one(
    installed: Installed, following: Next, offline_kit: Kit, tmp_path: Path
) -> None:
    folder, host = installed.kit.parent, installed.host
    kit = folder / NEW
    serving = host.containers()
    assert host.run("tar", "-xzf", following.delta, cwd=folder).returncode == 0
    assert offline_kit("verify", kit).returncode == 20
    alone = host.run("./install.sh", "--yes", cwd=kit)
    assert (alone.returncode, f"--base ../{OLD}" in alone.stderr) == (2, True), alone.stderr
    done = host.run("./install.sh", "--yes", "--no-start", "--base", f"../{OLD}", cwd=kit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.containers() == serving, "with --no-start, what serves goes on"

    assert host.run("tar", "-xzf", following.full, cwd=tmp_path).returncode == 0
    assert contents(kit) == contents(tmp_path / NEW)
    for whole in (following.full, kit, tmp_path / NEW):
        assert offline_kit("verify", whole).returncode == 0
    assert host.run("./scripts/verify.sh", cwd=kit).returncode == 0
    weights = "models/chat/model.safetensors"
    assert (kit / weights).samefile(installed.kit / weights)
    assert f"VLLM_API_KEY={installed.key}" in (kit / ".env").read_text().splitlines()


def contents(kit: Path) -> dict[str, bytes]:
    files = (path.relative_to(kit) for path in kit.rglob("*") if path.is_file())
    return {str(path): (kit / path).read_bytes() for path in files if path.parts[0] not in (".env", ".state")}
