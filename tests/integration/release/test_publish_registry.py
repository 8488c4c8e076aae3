"""Releases in an OCI registry: a real one, pulled by the ORAS client, by skopeo and by our own reader."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oras.client
import pytest

from offline_kit.common.errors import SpecError
from offline_kit.release.publish.publish import open_destination
from tests.support.projects.release_job import Job
from tests.testbed.servers.registry import Registry
from tests.testbed.servers.relay import Relay


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "published", tmp_path / "registry") as server:
        yield server


def pulled(registry: Registry, tag: str, folder: Path) -> dict[str, bytes]:
    client = oras.client.OrasClient(insecure=True)
    client.pull(target=f"{registry.host}/kits/demo:{tag}", outdir=str(folder))
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def tags(registry: Registry) -> set[str]:
    with urllib.request.urlopen(f"{registry.url}/v2/kits/demo/tags/list") as reply:
        return set(json.load(reply)["tags"] or ())


def manifest(registry: Registry, tag: str) -> dict[str, Any]:
    place = f"docker://{registry.host}/kits/demo:{tag}"
    shown = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", place], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_oras_pull_gets_a_release(job: Job, registry: Registry, tmp_path: Path) -> None:
    place = f"oci://{registry.host}/kits/demo"
    for number, more in enumerate([(), ("--split", "2M"), ("--keep", "1", "--full-every", "1")]):
        job.new_model(number)
        done = job.run("--publish", place, *more)
        assert done.returncode == 0 and done.stdout.strip() == str(job.out / job.releases[-1]["file"]), done.stderr
        version = job.versions[-1]
        got = pulled(registry, version, tmp_path / f"pulled-{number}")
        assert got == {name: job.content[name] for name in (*job.releases[-1]["files"], "unpack.py")}
        assert pulled(registry, "releases", tmp_path / f"index-{number}") == {"releases.json": job.content["releases.json"]}
        shown = manifest(registry, version)
        assert shown["artifactType"] == "application/vnd.offline-kit.release.v1"
        assert shown["annotations"]["org.opencontainers.image.version"] == version
    assert tags(registry) == {"v1.0.2", "releases"}, "the others are pruned, here and there"
    assert job.run("--publish", place).returncode == 11
    copied = [
        "skopeo",
        "copy",
        "--src-tls-verify=false",
        f"docker://{registry.host}/kits/demo:v1.0.2",
        f"dir:{tmp_path / 'dir'}",
    ]
    subprocess.run(copied, check=True, capture_output=True)


@pytest.mark.long
def test_a_cut_upload_is_sent_anew(job: Job, registry: Registry) -> None:
    job.new_model(1, 30 << 20)
    assert job.run().returncode == 0
    size = job.releases[0]["size"]
    with Relay(registry.port, cut=20 << 20) as relay:
        done = job.run("--publish", f"oci://{relay.host}/kits/demo")
        assert done.returncode == 0, done.stderr
        assert size + (20 << 20) < relay.sent < size + (22 << 20), "once, and what was cut off"
    assert tags(registry) == {"v1.0.0", "releases"}


@pytest.mark.long
def test_damaged_bytes_are_never_published(job: Job, registry: Registry) -> None:
    assert job.run().returncode == 0
    bundle = job.out / job.releases[0]["file"]
    data = bytearray(bundle.read_bytes())
    data[-1000] ^= 1
    bundle.write_bytes(data)
    done = job.run("--publish", f"oci://{registry.host}/kits/demo")
    assert done.returncode == 8 and bundle.name in done.stderr and "Traceback" not in done.stderr, done.stderr
    with urllib.request.urlopen(f"{registry.url}/v2/_catalog") as reply:
        assert json.load(reply) == {"repositories": []}


@pytest.mark.long
def test_who_is_not_known_is_told_before_any_work(job: Job, tmp_path: Path) -> None:
    config = tmp_path / "docker"
    config.mkdir()
    with Registry(tmp_path / "closed", tmp_path / "closed-work", user=("team", "pass-word")) as closed:
        place = f"oci://{closed.host}/kits/demo"
        for password, code in (("wrong-word", 6), ("pass-word", 0)):
            secret = base64.b64encode(f"team:{password}".encode()).decode()
            (config / "config.json").write_text(json.dumps({"auths": {closed.host: {"auth": secret}}}))
            done = job.run("--publish", place, env={"DOCKER_CONFIG": str(config)})
            assert done.returncode == code and password not in done.stderr, done.stderr
            assert bool(list(job.out.glob("demo-*"))) == (code == 0), "said first"
    for address, kind in (
        ("oci://team:pass-word@r.example/x", SpecError),
        ("oci://r.example/x:v1", SpecError),
        ("oci://x", SpecError),
    ):
        with pytest.raises(kind) as refused:
            open_destination(address, 1)
        assert "pass-word" not in str(refused.value)
