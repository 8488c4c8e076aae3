"""scripts/build.sh and scripts/build_offline_package.sh: their options, and the Dockerfile by the real classic builder."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd

NOT_TOGETHER = [
    ["--locked"],
    ["--policy", "x"],
    ["--unified", "--build-arg", "WHEELS_URL=x"],
    ["--build-arg", "DOWNLOAD_MODELS=yes"],
]
BUILD, PACKAGE = REPOSITORY / "scripts/build.sh", REPOSITORY / "scripts/build_offline_package.sh"


def run(script: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    around = {**os.environ, **env}
    return subprocess.run([str(script), *arguments], env=around, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("script", [BUILD, PACKAGE], ids=lambda path: path.name)
def test_help_and_usage(script: Path) -> None:
    told = run(script, "--help")
    assert told.returncode == 0 and told.stdout.startswith("Usage: ") and not told.stderr
    assert run(script, "--tag" if script == BUILD else "--version").returncode == 2


@pytest.mark.parametrize(
    "words",
    [["--device", "tpu"], ["--tag", "a b"], ["--tag="], ["--build-arg", "x"], ["--nonsense"], ["a-word"], *NOT_TOGETHER],
)
def test_what_cannot_be_built_is_wrong_usage(words: list[str]) -> None:
    done = run(BUILD, *words)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and not done.stdout


@pytest.mark.parametrize(
    ("words", "name", "parts"),
    [
        ([], "offline-kit/engine:latest", ["ACCELERATOR=cuda", "VERSION=latest"]),
        (["--tag", "v1.0.0", "--skip-models"], "offline-kit/engine:v1.0.0", ["VERSION=v1.0.0"]),
        (["--device=cpu"], "offline-kit/engine-cpu:latest", ["ACCELERATOR=cpu", "BASE=debian:bookworm-slim"]),
        (["--name", "knowflow/vllm-unified", "--push"], "knowflow/vllm-unified:latest", ["docker push knowflow/vllm-unified"]),
        (
            ["--device=cpu", "--base", "x:1", "--build-arg", "WHEELS_URL=y"],
            "offline-kit/engine-cpu:latest",
            ["BASE=x:1", "URL=y"],
        ),
    ],
)
def test_a_dry_run_prints_the_command(words: list[str], name: str, parts: list[str]) -> None:
    done = run(BUILD, *words, "--dry-run", DOCKER_HOST="unix:///nonexistent.sock")
    assert done.returncode == 0 and done.stdout == f"{name}\n", done.stderr
    assert "would run: docker build " in done.stderr and all(part in done.stderr for part in parts), done.stderr
    assert ("docker push" in done.stderr) is ("--push" in words) and "DOWNLOAD_MODELS" not in done.stderr


@pytest.mark.parametrize(
    ("words", "name", "context"),
    [
        (["--unified", "--tag", "v1"], "offline-kit/vllm-unified:v1", "--version v1"),
        (["--build-arg", "DOWNLOAD_MODELS=true", "--name=x/y"], "x/y:latest", "--version latest"),
        (
            ["--build-arg=DOWNLOAD_MODELS=false", "--base=e:1"],
            "offline-kit/vllm-unified:latest",
            "--base e:1 --skip-models",
        ),
        (
            ["--unified", "--device=cpu", "--locked", "--policy=p.yaml"],
            "offline-kit/vllm-unified:latest",
            "--locked --policy p.yaml --base offline-kit/engine-cpu:latest",
        ),
    ],
)
def test_a_unified_image_is_made_of_a_context_and_proven(words: list[str], name: str, context: str) -> None:
    done = run(BUILD, *words, "--dry-run", DOCKER_HOST="unix:///nonexistent.sock")
    assert done.returncode == 0 and done.stdout == f"{name}\n", done.stderr
    lines = done.stderr.splitlines()
    assert ("--entrypoint vllm IMAGE-ID --version" in lines[1]) is ("--device=cpu" in words)
    made, built, read, started, tagged = lines[-5:]
    assert "offline-kit context ./.build-context/context --version " in made and made.endswith(context)
    assert built.startswith("would run: docker build --iidfile ") and "--tag" not in built and "sha256sum" in read
    assert started.endswith("--cap-drop ALL IMAGE-ID --check") and tagged == f"would run: docker tag IMAGE-ID {name}"


@pytest.fixture
def base(dockerd: Dockerd, tmp_path: Path) -> Path:
    """The root of ``guide/base:1``, which has a shell and a program called vllm; and that image without: ``guide/empty:1``."""
    root = tmp_path / "base"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "mkdir", "chmod"):
        (root / f"bin/{name}").symlink_to("busybox")
    for tag, program in (("empty", "other"), ("base", "vllm")):
        (root / f"bin/{program}").symlink_to("busybox")
        archive = subprocess.run(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE, check=True).stdout
        dockerd.docker("import", "-", f"guide/{tag}:1", stdin=archive)
    return root


def test_an_image_that_does_not_start_gets_no_tag(dockerd: Dockerd, base: Path) -> None:
    assert base
    env = {**dockerd.env, "DOCKER_BUILDKIT": "0"}
    for words in (
        ["--base", "guide/empty:1"],
        ["--base", "guide/base:1", "--device", "cpu", "--build-arg", "ACCELERATOR=cuda"],
    ):
        done = run(BUILD, "--name", "guide/broken", *words, **env)
        assert done.returncode == 6 and "guide/broken:latest does not start" in done.stderr and not done.stdout, done.stderr
    assert dockerd.docker("image", "ls", "--quiet", "guide/broken") == ""


@pytest.mark.parametrize("models", ["true", "false"])
def test_the_dockerfile_alone_says_what_makes_the_image_with_models(dockerd: Dockerd, base: Path, models: str) -> None:
    """The guide's own command."""
    assert base
    words = [
        "--build-arg",
        f"DOWNLOAD_MODELS={models}",
        "-t",
        "knowflow/vllm-unified:latest",
        "--build-arg",
        "BASE=guide/base:1",
    ]
    done = dockerd.run(["docker", "build", *words, "."], cwd=REPOSITORY, env={"DOCKER_BUILDKIT": "0"})
    told = f"scripts/build.sh --build-arg DOWNLOAD_MODELS={models} --name knowflow/vllm-unified"
    assert done.returncode != 0 and told in done.stdout + done.stderr
    dry = run(BUILD, *told.split()[1:], "--dry-run")
    assert dry.returncode == 0 and dry.stdout == "knowflow/vllm-unified:latest\n", "what it tells is a command"


def test_the_dockerfile_is_built_on_any_base(dockerd: Dockerd, base: Path) -> None:
    """The classic builder, with a base that has a shell and a vllm and nothing else: labels, offline defaults, entrypoint."""
    assert base
    env = {**dockerd.env, "DOCKER_BUILDKIT": "0"}
    done = run(BUILD, "--tag", "v1.0.0", "--name", "guide/engine", "--base", "guide/base:1", "--skip-models", **env)
    assert done.returncode == 0 and done.stdout == "guide/engine:v1.0.0\n", done.stderr
    form = '{{index .Config.Labels "org.opencontainers.image.version"}} {{.Config.Entrypoint}} {{.Config.Env}}'
    said = dockerd.docker("image", "inspect", "--format", form, "guide/engine:v1.0.0")
    assert said.startswith("v1.0.0 [vllm serve] ") and "HF_HUB_OFFLINE=1" in said
    pushed = run(BUILD, "--name", "127.0.0.1:9/guide", "--base", "guide/base:1", "--push", **env)
    assert pushed.returncode == 10 and "built and not pushed" in pushed.stderr


def test_a_package_is_a_bundle(tmp_path: Path) -> None:
    out = tmp_path / "out of here"
    done = run(PACKAGE, "--version", "v1.0.0", "--output", str(out), "--locked", "--dry-run")
    assert done.returncode == 0 and "offline-kit build --version v1.0.0 --output" in done.stderr and not out.exists()
    assert done.stderr.endswith("--locked\n")
    missing = run(PACKAGE, "--version=v1.0.0", "--output", str(out), "--manifest", str(tmp_path / "none.yaml"))
    assert missing.returncode == 3 and "none.yaml" in missing.stderr and out.is_dir()


def test_without_a_version_there_is_no_bundle() -> None:
    done = run(PACKAGE, "--output", "/tmp")
    assert done.returncode == 2 and "--version is missing" in done.stderr
