"""offline-kit context: from a registry and a hub to the folder that becomes the unified image, and what it would run."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.runtime.settings.model import ConfigError
from offline_kit.unified import configuration
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, Project, write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        for key in ("engine", "gateway"):
            parts.push(running.url, key, "v1", parts.image("gzip", content=key))
        yield running


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        for key in MODELS:
            content = {"config.json": b"{}", "model.safetensors": parts.safetensors({key: b"x" * 1000})}
            hub.add(f"o/{key}", parts.write(tmp_path / f"repository-{key}", content))
        yield hub


@pytest.fixture
def project(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> Project:
    return Project(write_project(tmp_path / "project", registry, hub), offline_kit)


def context(project: Project, *more: str) -> subprocess.CompletedProcess[str]:
    words = ["--manifest", str(project.manifest), "--store", str(project.folder / "store"), *more]
    return project.kit("context", "out", *words, cwd=project.folder)


def app_of(made: Path, folder: Path) -> Path:
    """/app as the COPY lines of the Dockerfile would make it."""
    for line in (made / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "/app/" in line:
            _, source, target = line.split()
            shutil.copytree(made / source, folder / target.lstrip("/"), dirs_exist_ok=True)
    return folder / "app"


def test_a_context_holds_what_the_image_needs_each_file_proven(project: Project, tmp_path: Path) -> None:
    done = context(project, "--version", "v1.0.0")
    assert done.returncode == 0 and done.stdout == "out\n", done.stderr
    made = project.folder / "out"
    text = (made / "Dockerfile").read_text()
    assert "ARG BASE=127.0.0.1:" in text and "/engine@sha256:" in text and 'version="v1.0.0"' in text
    assert "COPY models/000/ /app/models/\n" in text and "EXPOSE 8000 8001 8002 8003\n" in text
    app = app_of(made, tmp_path)
    proven = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=app, capture_output=True, text=True, check=True)
    listed = {line.partition(":")[0] for line in proven.stdout.splitlines()}
    assert listed | {"SHA256SUMS"} == {str(path.relative_to(app)) for path in app.rglob("*") if path.is_file()}
    assert (made / "models/000/chat/model.safetensors").stat().st_nlink > 1, "a link, and no copy"
    program = made / "lib/offline_kit"
    assert (program / "unified/proxy.py").is_file() and (program / "runtime/healthcheck.py").is_file()
    assert {path.name for path in program.iterdir()} == {"__init__.py", "runtime", "unified"}

    plan = configuration.read(app, {"VLLM_API_KEY": "0123456789abcdef", "HF_TOKEN": "t", "VLLM_CHAT_PORT": "9001"}, tmp_path)
    assert plan.settings.device == "cpu" and plan.settings.api_key == "0123456789abcdef"
    (jobs,) = plan.groups
    assert [job.key for job in jobs] == list(MODELS) and plan.settings.model("chat").port == 9001
    assert "--socket" in jobs[0].command and not {"VLLM_API_KEY", "HF_TOKEN", "VLLM_CHAT_PORT"} & jobs[0].environment.keys()

    again = context(project)
    assert again.returncode == 3 and "out: is there already" in again.stderr and "Traceback" not in again.stderr


def test_without_models_none_is_fetched(project: Project, hub: Hub, tmp_path: Path) -> None:
    stale = context(project, "--locked")
    assert stale.returncode == 4 and "there is no lock" in stale.stderr and not (project.folder / "out").exists()
    assert context(project, "--skip-models", "--base", "my/engine:1").returncode == 0
    text = (project.folder / "out/Dockerfile").read_text()
    assert "ARG BASE=my/engine:1\n" in text and "COPY models/" not in text and 'io.offline-kit.models="none"' in text
    app = app_of(project.folder / "out", tmp_path / "image")
    (app / "models").mkdir()
    with pytest.raises(ConfigError, match="there is no model in it -> docker run -v FOLDER"):
        configuration.read(app, {}, tmp_path)
    assert len(configuration.read(app, {}, tmp_path, need_models=False).settings.models) == len(MODELS), "of a new image"
    for key in MODELS[:2]:
        shutil.copytree(tmp_path / f"repository-{key}", app / "models" / key)
    (app / "models/rerank").mkdir()
    with pytest.raises(ConfigError, match=r"rerank has no config\.json"):
        configuration.read(app, {}, tmp_path)
    with pytest.raises(ConfigError, match=r"a variable of the container \(docker run --env\): VLLM_API_KEY: is too short"):
        configuration.read(app, {"VLLM_API_KEY": "token-abc123"}, tmp_path)
    for lost in ("#0123456789abcdef", "   ", "", "0123456789abcdef #rest", "'0123456789abcdef'"):
        with pytest.raises(ConfigError, match="VLLM_API_KEY"):
            configuration.read(app, {"VLLM_API_KEY": lost}, tmp_path)


def test_a_policy_holds_for_a_context_as_for_a_build(project: Project) -> None:
    (project.folder / "policy.yaml").write_text("scanners: [clamav]\n")
    done = context(project, "--policy", "policy.yaml")
    assert done.returncode == 23 and "clamav" in done.stderr and not (project.folder / "out").exists(), done.stderr


@pytest.mark.parametrize(
    ("base", "policy", "code", "said"),
    [
        ("registry.example/engine:1", "registries: ['127.0.0.1:*']", 23, "base: comes from registry.example/engine"),
        ("my/engine:1", "oldest_image: '2020-01-01'", 23, "base: my/engine:1 was not looked into"),
        ("my/engine:1\nRUN id", "registries: ['*']", 3, "--base"),
        ("my/engine:1", "registries: [docker.io/my, '127.0.0.1:*']", 0, ""),
    ],
)
def test_what_it_is_built_on_is_held_to_the_policy(project: Project, base: str, policy: str, code: int, said: str) -> None:
    (project.folder / "policy.yaml").write_text(f"{policy}\n")
    done = context(project, "--skip-models", "--policy", "policy.yaml", "--base", base)
    assert done.returncode == code and said in done.stderr and (project.folder / "out").exists() is (code == 0), done.stderr
