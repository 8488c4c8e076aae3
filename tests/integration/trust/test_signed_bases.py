"""A policy's ``signed_bases``: no delta is made, released or accepted on a base that its signers did not sign."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.bundle.signature.keys import generate_key_pair
from tests.support.projects.release_job import Job, job

__all__ = ["job"]


@pytest.fixture
def site(job: Job) -> Path:
    """A folder with two key pairs and the policy of a site, which trusts ``site.pub``."""
    folder = job.folder / "site"
    folder.mkdir()
    for name in ("site", "other"):
        generate_key_pair(folder / f"{name}.key", folder / f"{name}.pub", None)
    (folder / "policy.yaml").write_text("signers: [site.pub]\nsigned_bases: true\n")
    return folder


def build(job: Job, version: str, *more: str | Path) -> tuple[int, str]:
    places = ("--manifest", job.folder / "manifests/demo.yaml", "--output", job.out, "--store", job.folder / "store")
    done = job.kit("build", "--version", version, *places, *more, cwd=job.folder)
    return done.returncode, done.stderr


def test_a_delta_needs_a_base_that_was_approved(job: Job, site: Path) -> None:
    kit, policy = job.kit, ("--policy", site / "policy.yaml")
    base, delta = job.out / "demo-v1.tar.gz", job.out / "demo-v2.delta.tar.gz"
    assert build(job, "v1", *policy)[0] == 0, "a full bundle has no base"
    job.new_model(1)
    for sign_by in (None, "other"):
        if sign_by:
            assert kit("sign", base, "--key", site / f"{sign_by}.key").returncode == 0
        code, said = build(job, "v2", "--base", base, *policy)
        assert code == 22 and "demands 'signed_bases'" in said and not delta.exists()
    code, said = build(job, "v2", "--base", job.folder / "manifests/demo.lock.json", *policy)
    assert code == 22 and "is a lock, which nobody signs" in said
    assert kit("sign", base, "--key", site / "site.key").returncode == 0
    code, said = build(job, "v2", "--base", base, "--sign", site / "site.key", *policy)
    assert code == 0, said

    done = kit("verify", delta, *policy)
    assert done.returncode == 22 and "nothing shows who signed demo-v1" in done.stderr
    assert kit("verify", delta, "--base", base, *policy).returncode == 0
    assert kit("verify", base, *policy).returncode == 0, "a full bundle needs no base"
    done = kit("verify", delta, "--base", delta, *policy)
    assert done.returncode == 22 and "is not demo-v1, which completes demo-v2" in done.stderr
    for signature in job.out.glob("demo-v1.SHA256SUMS.*"):
        signature.unlink()
    assert kit("verify", delta, "--base", base, *policy).returncode == 22
    assert kit("verify", delta, "--base", base).returncode == 0, "who asks for no signature gets the right base proven"


def test_releases_become_full_where_the_one_before_is_not_signed(job: Job, site: Path) -> None:
    manifest = job.folder / "manifests/demo.yaml"
    policy = {"signers": ["../site/site.pub"], "signed_bases": True}
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "policy": policy}))
    assert job.run().returncode == 0
    for number in (1, 2):
        job.new_model(number)
        done = job.run("--sign", str(site / "site.key"))
        assert done.returncode == 0, done.stderr
    assert [entry["base"] for entry in job.releases] == [None, None, "v1.0.1"]


@pytest.mark.parametrize("words", [(), ("--split", "2MiB")])
def test_signatures_of_an_earlier_bundle_of_this_name_go(job: Job, site: Path, words: tuple[str, ...]) -> None:
    """Signed twice, made again: the same bytes keep both signatures, other bytes have none."""
    path = job.out / ("demo-v1.parts.json" if words else "demo-v1.tar.gz")
    assert build(job, "v1", *words, "--sign", site / "site.key")[0] == 0
    assert job.kit("sign", path, "--key", site / "other.key").returncode == 0
    signed = sorted(file.name for file in job.out.iterdir() if "SHA256SUMS" in file.name or "json." in file.name)
    assert len(signed) == 5 + 4 * bool(words)
    assert build(job, "v1", *words)[0] == 0
    assert [name for name in signed if not (job.out / name).exists()] == []
    (job.folder / "config/demo/vllm_config.yaml").write_text("seed: 7\n")
    code, said = build(job, "v1", *words, "--replace")
    assert code == 0 and "belonged to an earlier bundle of this name" in said
    assert [name for name in signed if (job.out / name).exists()] == []


def test_each_release_has_its_record(job: Job, site: Path) -> None:
    """With its signature and the media that it fills in it; listed, and pruned with its release."""
    for number in range(2):
        job.new_image(number)
        done = job.run("--sign", str(site / "site.key"), "--medium", "2MiB", "--record", "--keep", "1", "--full-every", "1")
        assert done.returncode == 0, done.stderr
    (entry,) = job.releases
    stem = f"demo-{entry['version']}"
    names = {f"{stem}.transfer.{form}" for form in ("pdf", "csv", "json")}
    assert names <= set(entry["files"]) and {path.name for path in job.out.glob("*.transfer.*")} == names
    told = json.loads((job.out / f"{stem}.transfer.json").read_text())
    assert told["signed_by"] == entry["signed_by"] and told["medium"]["count"] >= 2
    carried = {file["file"]: file["sha256"] for file in told["carried"]}
    assert {"verify-kit.sh", f"{stem}.SHA256SUMS.sig"} <= set(carried) and entry["sha256"].items() <= carried.items()
    again = job.run("--sign", str(site / "site.key"), "--medium", "2MiB", "--split", "2MiB")
    assert again.returncode == 2 and "not both" in again.stderr
