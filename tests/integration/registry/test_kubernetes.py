"""What is rendered for Kubernetes against what was pushed to a real registry: digests that are there, weights that arrive."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from offline_kit.cli.main import cli
from offline_kit.runtime import fetch_models
from tests.support.bundle_sample import Sample
from tests.testbed.servers.registry import Registry
from tests.unit.kubernetes.test_render_command import TWO, sample_of

LOGIN = "tester:a-password-of-the-site"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sample_of(tmp_path_factory.mktemp("cluster") / "blobs", TWO)


@pytest.fixture(scope="module")
def bundle(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.pack(tmp_path_factory.mktemp("bundle") / "kit-v1.0.0.tar.gz")


@pytest.fixture(scope="module")
def site(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("site")
    with Registry(folder / "storage", folder / "registry") as running:
        assert CliRunner().invoke(cli, ["push", str(bundle), f"{running.host}/site/ai", "--quiet"]).exit_code == 0
        yield running


def rendered(bundle: Path, site: Registry, output: Path, weights: str) -> dict[str, list[dict[str, Any]]]:
    words = ["--registry", f"{site.host}/site/ai", "--namespace", "ai", "--output", str(output), "--weights", weights]
    result = CliRunner().invoke(cli, ["render", "kubernetes", str(bundle), *words, "--insecure", "--quiet"])
    assert result.exit_code == 0, result.output
    return {path.name: list(yaml.safe_load_all(path.read_text())) for path in output.glob("*.yaml")}


def references(value: Any) -> Iterator[str]:
    """Every string that names something by digest."""
    if isinstance(value, str):
        if "@sha256:" in value:
            yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from references(item)


def test_every_digest_is_in_the_registry(bundle: Path, site: Registry, tmp_path: Path) -> None:
    found = set(references(rendered(bundle, site, tmp_path, "image")))
    assert {name.partition("@")[0].rpartition("ai/")[2] for name in found} == {
        "images/engine",
        "images/gateway",
        "models/chat",
        "models/embedding",
    }
    for name in found:
        repository, _, digest = name.removeprefix(f"{site.host}/").partition("@")
        request = urllib.request.Request(f"http://{site.host}/v2/{repository}/manifests/{digest}")
        request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
        with urllib.request.urlopen(request) as answer:
            assert answer.status == 200


def fill(bundle: Path, site: Registry, folder: Path) -> tuple[list[str], Path]:
    """The command of the Job, outside of a cluster, and the folder that stands for the claim."""
    job = next(item for item in rendered(bundle, site, folder / "out", "pvc")["weights.yaml"] if item["kind"] == "Job")
    listed = next(item for item in yaml.safe_load_all((folder / "out/weights.yaml").read_text()) if item["kind"] == "ConfigMap")
    (folder / "models.json").write_text(listed["data"]["models.json"])
    claim = folder / "claim"
    claim.mkdir()
    places = {"/etc/weights/models.json": str(folder / "models.json"), "/claim": str(claim)}
    words = [places.get(word, word) for word in job["spec"]["template"]["spec"]["containers"][0]["command"]]
    assert words[:3] == ["python3", "-m", "runtime.fetch_models"]
    return words[3:], claim


def run(words: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    around = {**os.environ, "PYTHONPATH": str(Path(fetch_models.__file__).parents[1])}
    command = [sys.executable, "-m", "runtime.fetch_models", *words]
    return subprocess.run(command, env=around, capture_output=True, text=True, check=check)


def test_the_job_brings_every_file_under_the_name_that_engines_mount(
    bundle: Path, sample: Sample, site: Registry, tmp_path: Path
) -> None:
    words, claim = fill(bundle, site, tmp_path)
    run(words)
    for key in ("chat", "embedding"):
        engine = yaml.safe_load_all((tmp_path / f"out/engine-{key}.yaml").read_text())
        pod = next(item for item in engine if item["kind"] == "Deployment")["spec"]["template"]["spec"]
        mount = next(item for item in pod["containers"][0]["volumeMounts"] if item["mountPath"] == f"/models/{key}")
        folder = claim / mount["subPath"]
        assert pod["initContainers"][0]["command"][-1] == f"/claim/{mount['subPath']}"
        assert {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == {
            file.path: sample.path_of(file.sha256).read_bytes() for file in sample.models[key].files
        }
    assert sorted(path.name for path in claim.iterdir()) == sorted(json.loads((tmp_path / "models.json").read_text()))
    assert "is there" in run(words).stderr
    assert run(["--wait", *(str(path) for path in claim.iterdir())]).returncode == 0


def test_the_job_goes_on_and_mends_what_is_damaged(bundle: Path, sample: Sample, site: Registry, tmp_path: Path) -> None:
    words, claim = fill(bundle, site, tmp_path)
    name = next(name for name in json.loads((tmp_path / "models.json").read_text()) if name.startswith("chat-"))
    weights = next(file for file in sample.models["chat"].files if file.path == "model.safetensors")
    content = sample.path_of(weights.sha256).read_bytes()
    partial = claim / f".partial-{name}"
    partial.mkdir()
    (partial / "model.safetensors").write_bytes(content[:1000])
    (partial / "config.json").write_bytes(b"xxx")  # as long as it should be, and not what it should be
    run(words)
    assert (claim / name / "model.safetensors").read_bytes() == content
    assert (claim / name / "config.json").read_bytes() == b"{}\n" and not partial.exists()


def test_the_job_names_what_is_not_there(bundle: Path, site: Registry, tmp_path: Path) -> None:
    words, claim = fill(bundle, site, tmp_path)
    listed = json.loads((tmp_path / "models.json").read_text())
    for model in listed.values():
        model["repository"] = "nobody/pushed/this"
    (tmp_path / "models.json").write_text(json.dumps(listed))
    done = run(words, check=False)
    assert done.returncode == 1 and "nobody/pushed/this: HTTP 404" in done.stderr and "Traceback" not in done.stderr
    assert not [path for path in claim.iterdir() if not path.name.startswith(".partial-")]


def test_a_login_is_that_of_the_registry_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    auth = base64.b64encode(LOGIN.encode()).decode()
    path.write_text(json.dumps({"auths": {"https://other.example": {"auth": auth}, "site.example:5000/ai": {"auth": auth}}}))
    assert fetch_models.login_of(path, "site.example:5000") == LOGIN and fetch_models.login_of(path, "site.example") == ""
