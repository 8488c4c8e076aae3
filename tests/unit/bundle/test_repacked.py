"""A kit that somebody packed anew with tar, in whatever order: told as a damaged bundle, not as somebody else's file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from offline_kit.bundle import unpack
from offline_kit.bundle.extract import extract
from offline_kit.bundle.verify.verify import verify
from offline_kit.common.errors import BundleDamaged
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import make_sample

TOP = "kit-v1.0.0"


@pytest.fixture(params=["models", "images", "files", "runtime"])
def repacked(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Over a MiB of one folder comes before everything else."""
    sample = make_sample(tmp_path / "blobs", weights=2 << 20)
    sample.image("large", None, {"large": bytes(range(256)) * 8192})
    sample.extra("large.bin", bytes(range(256)) * 8192)
    subprocess.run(["tar", "-xzf", sample.pack(tmp_path / "first.tar.gz")], cwd=tmp_path, check=True)
    if request.param == "runtime":
        (tmp_path / TOP / "runtime").mkdir(exist_ok=True)
        (tmp_path / TOP / "runtime/large").write_bytes(bytes(2 << 20))
    out = tmp_path / "kit.tar.gz"
    rest = sorted(path.name for path in (tmp_path / TOP).iterdir() if path.name != request.param)
    names = [f"{TOP}/{name}" for name in (request.param, *rest)]
    subprocess.run(["tar", "-czf", out, "--no-recursion", TOP, "--recursion", *names], cwd=tmp_path, check=True)
    return out


def test_it_is_told_by_any_name_of_a_kit(repacked: Path, tmp_path: Path) -> None:
    report = verify(repacked, progress=Silent())
    assert [finding for finding in report.findings if "not in the one form that a bundle has" in str(finding)]
    with pytest.raises(BundleDamaged):
        extract(repacked, tmp_path / "out", progress=Silent())
    command = [sys.executable, "-I", unpack.__file__, str(repacked), str(tmp_path / "alone")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 20
