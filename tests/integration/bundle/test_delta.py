"""A delta on the host, with the real scripts and no Docker: completed from an earlier kit it is the full kit, byte for byte."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.bundle import delta
from offline_kit.bundle.read.inspect import read_head
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.pack import pack
from offline_kit.common.progress import Silent
from offline_kit.host import assets
from tests.support.bundle_sample import Sample, make_sample, safetensors

OLD, NEW = "kit-v1.0.0", "kit-v1.1.0"
# What install.sh does before it looks at the host; the rest of it needs Docker and is tested elsewhere.
COMPLETE = """
. "$1/scripts/lib/kit/delta.sh"
open_kit "$1/install.sh"
[[ -z "${2:-}" ]] || base_argument --base "$2"
[[ -z "${3:-}" ]] || DRY_RUN=$3
lock_kit
base_complete
[[ -n "$BASE_PENDING" ]] || sums_check remember
"""


def a_sample(folder: Path, config: bytes) -> Sample:
    sample = make_sample(folder, weights=2_000_000)
    scripts, executables = assets.scripts()
    sample.texts |= scripts | {"config/models.json": config}
    sample.executables = tuple(executables)
    return sample


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """v1.0.0 and v1.1.0 in full, and the delta between them: other configuration, one model renamed, one file new."""
    folder = tmp_path_factory.mktemp("bundles")
    sample = a_sample(folder / "blobs", b'{"models": {}}\n')
    old = sample.pack(folder / f"{OLD}.tar.gz")
    sample.texts["config/models.json"] = b'{"models": {"x": 1}}\n'
    sample.models["vectors"] = sample.models.pop("embedding")
    sample.model("new", {"config.json": b"{}\n", "model.safetensors": safetensors(3000, seed=7)})
    full = sample.entries("v1.1.0")
    base = delta.compare(sample.lock(), read_head(old))
    for name, entries in ((NEW, full), (f"{NEW}.delta", delta.omit_base(full, base))):
        pack(entries, NEW, sample.path_of, folder / f"{name}.tar.gz", progress=Silent())
    return folder


@pytest.fixture
def host(bundles: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with the earlier kit, and the delta unpacked beside it."""
    for name in (OLD, f"{NEW}.delta"):
        subprocess.run(["tar", "-xzf", bundles / f"{name}.tar.gz"], cwd=tmp_path, check=True)
    yield tmp_path


def complete(host: Path, base: str = f"../{OLD}", dry: str = "") -> subprocess.CompletedProcess[str]:
    arguments = ["bash", "-c", COMPLETE, "complete", str(host / NEW), base, dry]
    return subprocess.run(arguments, cwd=host / NEW, capture_output=True, text=True, timeout=60, check=False)


def contents(kit: Path) -> dict[str, bytes]:
    files = (path for path in kit.rglob("*") if path.is_file() and ".state" not in path.relative_to(kit).parts)
    return {str(path.relative_to(kit)): path.read_bytes() for path in files}


def test_completed_it_is_the_full_kit(host: Path, bundles: Path) -> None:
    assert verify(host / NEW, progress=Silent()).incomplete
    done = complete(host)
    assert done.returncode == 0, done.stderr
    (host / "full").mkdir()
    subprocess.run(["tar", "-xzf", bundles / f"{NEW}.tar.gz"], cwd=host / "full", check=True)
    assert contents(host / NEW) == contents(host / "full" / NEW)
    assert not (host / NEW / "delta").exists()
    for kit in (NEW, OLD):
        report = verify(host / kit, progress=Silent())
        assert (report.whole, report.base) == (True, ""), report.findings
    weights = "models/chat/model.safetensors"
    assert (host / NEW / weights).samefile(host / OLD / weights)
    assert (host / NEW / "models/vectors/weights.bin").samefile(host / OLD / "models/embedding/weights.bin")
    assert "linked, 0 copied" in done.stderr
    # What was linked was read a moment ago: the check of all files reads the others only.
    assert "proven earlier" in done.stderr
    again = complete(host)
    assert again.returncode == 0 and "this kit is complete" in again.stderr


def test_settings_and_key_go_on(host: Path) -> None:
    """From a kit that this host knows; what lies in a folder that was carried here, whoever carried it wrote."""
    settings = host / OLD / ".env"
    settings.write_text("VLLM_API_KEY=known-to-whoever-carried-it\n")
    dry = complete(host, dry="yes")
    assert "was not made by an installation on this host" in dry.stderr and "come from" not in dry.stderr
    settings.unlink()
    known = subprocess.run([host / OLD / "scripts/verify.sh"], capture_output=True, text=True, check=False)
    assert (host / OLD / ".state/record").exists(), known.stderr
    settings.write_text("VLLM_API_KEY=from-before\n")
    assert f"settings and API key come from {settings}" in complete(host).stderr


def test_it_goes_on_after_an_interruption(host: Path) -> None:
    weights = host / NEW / "models/chat/model.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"half a copy")
    (host / NEW / "delta/copy").write_bytes(b"half a copy")
    assert complete(host).returncode == 0
    assert verify(host / NEW, progress=Silent()).whole


def test_across_file_systems_files_are_copied_and_read_again(host: Path, bundles: Path) -> None:
    elsewhere = Path("/dev/shm") / f"offline-kit-test-{os.getpid()}"
    assert Path("/dev/shm").stat().st_dev != host.stat().st_dev, "this test needs a second file system"
    try:
        shutil.copytree(host / OLD, elsewhere)
        done = complete(host, str(elsewhere))
        assert done.returncode == 0, done.stderr
        assert "0 linked" in done.stderr
        assert verify(host / NEW, progress=Silent()).whole
        assert not (host / NEW / "models/chat/model.safetensors").samefile(elsewhere / "models/chat/model.safetensors")
    finally:
        shutil.rmtree(elsewhere)


@pytest.mark.parametrize("whose", ["another user's", "writable by others", "writable by its group", "linked by an earlier run"])
def test_what_somebody_else_could_change_is_copied(host: Path, bundles: Path, whose: str) -> None:
    """A hard link is one file with two names: who owns it would own the new kit, too, after it was proven."""
    weights = "models/chat/model.safetensors"
    path = host / OLD / weights
    if whose == "linked by an earlier run":
        (host / NEW / weights).parent.mkdir(parents=True)
        os.link(path, host / NEW / weights)
    if "writable" in whose:
        path.chmod(0o666 if "others" in whose else 0o664)
    else:
        os.chown(path, 65534, 65534)
    done = complete(host)
    assert done.returncode == 0 and "1 copied" in done.stderr, done.stderr
    state = (host / NEW / weights).stat()
    assert not (host / NEW / weights).samefile(path) and state.st_uid == os.geteuid() and not state.st_mode & 0o022
    assert verify(host / NEW, progress=Silent()).whole


def test_settings_of_another_user_are_not_taken(host: Path) -> None:
    assert subprocess.run([host / OLD / "scripts/verify.sh"], capture_output=True, check=False)
    env = host / OLD / ".env"
    env.write_text("VLLM_API_KEY=known-to-somebody-else\n")
    os.chown(env, 65534, 65534)
    done = complete(host)
    assert done.returncode == 0 and "another user's" in done.stderr and "settings and API key come from" not in done.stderr


def test_dry_run_reads_and_changes_nothing(host: Path) -> None:
    before = contents(host / NEW)
    done = complete(host, dry="yes")
    assert done.returncode == 0 and "would take" in done.stderr
    assert contents(host / NEW) == before


def test_refusals(host: Path, bundles: Path) -> None:
    def refused(code: int, text: str, base: str = f"../{OLD}") -> None:
        before = contents(host / NEW)
        done = complete(host, base)
        assert (done.returncode, contents(host / NEW) == before) == (code, True), done.stderr
        assert text in done.stderr, done.stderr

    refused(2, f"needs files of {OLD}", base="")
    refused(2, "is not a folder", base="../nowhere")
    refused(2, "is not an unpacked kit", base="..")
    refused(2, "that is this kit itself", base=".")
    weights = host / OLD / "models/chat/model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + b"\xff")
    (host / OLD / "models/embedding/empty").unlink()
    refused(20, "changed: models/chat/model.safetensors")
    refused(20, "missing: models/embedding/empty")
    refused(20, f"is not {OLD} as this delta needs it: 2 finding(s)")
    weights.write_bytes(data[:-1])
    refused(20, "of another size: models/chat/model.safetensors")
    weights.rename(weights.with_name("elsewhere"))
    weights.symlink_to("elsewhere")
    refused(20, "not a plain file: models/chat/model.safetensors")
    (host / NEW / "delta/needs").write_text("3\t../../etc/passwd\tmodels/chat/model.safetensors\n")
    refused(20, "delta/needs cannot be read")


def test_damage_to_the_delta_itself_is_found(host: Path) -> None:
    needs = host / NEW / "delta/needs"
    needs.write_text("".join(needs.read_text().splitlines(keepends=True)[1:]))
    done = complete(host)
    assert done.returncode == 20 and "missing: " in done.stderr


def test_before_it_is_complete_what_is_here_is_checked(host: Path) -> None:
    def check() -> subprocess.CompletedProcess[str]:
        return subprocess.run([host / NEW / "scripts/verify.sh"], capture_output=True, text=True, timeout=60, check=False)

    done = check()
    assert done.returncode == 20 and f"are to come from {OLD}" in done.stderr and "missing: " not in done.stderr, done.stderr
    config = host / NEW / "config/models.json"
    config.write_bytes(config.read_bytes().replace(b"1", b"2"))
    (host / NEW / "delta/bundle.json").write_text("{}")
    done = check()
    assert (
        done.returncode == 20 and "changed: config/models.json" in done.stderr and "changed: delta/bundle.json" in done.stderr
    )
