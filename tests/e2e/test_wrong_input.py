"""Wrong input of every kind: one clear line that says what, where and what to do; a documented exit code; nothing half-done."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Kit
from tests.e2e.conftest import project
from tests.testbed.cache import REPOSITORY
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry


@pytest.fixture
def manifest(registry: Registry, hub: Hub, tmp_path: Path) -> Path:
    """A manifest that would build a small bundle: each test breaks one thing of it."""
    path = project(tmp_path, registry.host, hub.url)
    path.write_text(path.read_text().replace("engine-cpu:demo", "tiny:demo").replace("gateway:demo", "tiny:demo"))
    return path


def refused(offline_kit: Kit, manifest: Path, code: int, *words: str, env: dict[str, str] | None = None) -> str:
    """Builds, and expects exit ``code``, every one of ``words`` on stderr, and nothing else left behind."""
    out = manifest.parent.parent / "out"
    out.mkdir(exist_ok=True)
    store = manifest.parent.parent / "store"
    done = offline_kit("build", "--version", "v1", "-m", manifest, "-o", out, "--store", store, "--quiet", env=env)
    assert done.returncode == code, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(out.iterdir()) == []
    return done.stderr


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_the_control_builds(offline_kit: Kit, manifest: Path, tmp_path: Path) -> None:
    done = offline_kit("build", "--version", "v1", "-m", manifest, "-o", tmp_path, "--store", tmp_path / "store", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_init_writes_is_built(offline_kit: Kit, registry: Registry, hub: Hub, tmp_path: Path) -> None:
    """The control of a new user: no file is touched between ``init`` and ``build``."""
    images = [f"--{role}=docker://{registry.host}/offline-kit/tiny:demo" for role in ("engine", "gateway")]
    models = ["--model", "chat=offline-kit/tiny-chat", "--model", "offline-kit/tiny-embed"]
    env, store = {"HF_ENDPOINT": hub.url}, ["--store", str(tmp_path / "store")]
    done = offline_kit("init", tmp_path / "site", "--gpus", "cpu", *images, *models, *store, "--non-interactive", env=env)
    assert done.returncode == 0, done.stderr
    for command in (["plan"], ["lock"], ["build", "--locked", "--version", "v1"]):
        done = offline_kit(*command, *store, cwd=tmp_path / "site", env=env)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/site-v1.tar.gz").exists()


def test_what_a_build_would_do_is_told_before_it_fetches(offline_kit: Kit, manifest: Path, tmp_path: Path) -> None:
    arguments: list[str | Path] = ["build", "--version", "v1", "-m", manifest, "--store", tmp_path / "store"]
    done = offline_kit(*arguments, "-o", "/proc/none")
    assert done.returncode == 9
    assert "/proc: nothing can be written there" in done.stderr and "--output" in done.stderr
    assert not list((tmp_path / "store/blobs/sha256").iterdir())
    done = offline_kit(*arguments, "--dry-run", "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^would fetch .*iB into .* free\)\nwould write \S+-v1, .*iB of images and models at most, and small files, into ",
        done.stdout,
    )
    assert not (tmp_path / "new").exists()
    lock = json.loads(manifest.with_suffix(".lock.json").read_text())
    files = [file for model in lock["models"].values() for file in model["files"]]
    weights = [file["sha256"].rpartition(":")[2] for file in files if file["path"].endswith(".safetensors")]
    assert weights and not any((tmp_path / "store/blobs/sha256" / digest).exists() for digest in weights)


def test_no_manifest(offline_kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    line = refused(offline_kit, tmp_path / "manifests/none.yaml", 3, "none.yaml: no such file", "'offline-kit init'")
    assert line.count("\n") == 1


def test_a_yaml_error_with_its_line(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest, "images:\n", "images: [\n")
    refused(offline_kit, manifest, 3, "demo.yaml, line ", "not valid YAML")


def test_an_unknown_key_with_a_suggestion(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest, "endpoint:", "endpiont:")
    refused(offline_kit, manifest, 3, "models.chat.endpiont: unknown key -> did you mean 'endpoint'?")


def test_an_unknown_model_in_models_json(offline_kit: Kit, manifest: Path) -> None:
    config = manifest.parent.parent / "config/demo/models.json"
    edit(config, "/models/rerank", "/models/rernak")
    refused(offline_kit, manifest, 3, "models.json", "rernak", "rerank")


def test_a_key_that_models_json_does_not_know(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest.parent.parent / "config/demo/models.json", "max_model_len", "max_model_length")
    refused(offline_kit, manifest, 3, "models.json", "max_model_length", "max_model_len")


def test_a_sample_that_cannot_run(offline_kit: Kit, manifest: Path) -> None:
    """Chat at 0.8, embedding at 0.3 and rerank at 0.2 on one GPU: more than there is."""
    config = manifest.parent.parent / "config/demo/models.json"
    data = json.loads(config.read_text())
    for key, share in (("chat", 0.8), ("embedding", 0.3), ("rerank", 0.2)):
        data["models"][key]["gpu_memory_utilization"] = share
        data["models"][key].pop("memory_limit")
    config.write_text(json.dumps(data))
    edit(manifest, "accelerator: cpu", "accelerator: nvidia")
    refused(offline_kit, manifest, 3, "1.30", "0.95")


def test_a_missing_revision(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest, 'tiny-chat",', 'tiny-chat", revision: v9,')
    refused(offline_kit, manifest, 5, "offline-kit/tiny-chat", "no revision 'v9'")


def test_a_missing_repository(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest, "tiny-chat", "tiny-chatt")
    refused(offline_kit, manifest, 5, "offline-kit/tiny-chatt", "no such repository")


def test_a_gated_model_without_a_token(offline_kit: Kit, manifest: Path, testbed: Testbed, hub: Hub) -> None:
    hub.add("offline-kit/gated", testbed.models / "tiny-chat", gated=True)
    edit(manifest, "tiny-chat", "gated")
    home = {"HF_HOME": str(manifest.parent), "HF_TOKEN": ""}
    refused(offline_kit, manifest, 6, "offline-kit/gated", "HF_TOKEN", f"{hub.url}/offline-kit/gated", env=home)


def test_an_unknown_tag(offline_kit: Kit, manifest: Path, registry: Registry) -> None:
    edit(manifest, "tiny:demo", "tiny:dmeo")
    refused(offline_kit, manifest, 5, f"{registry.host}/offline-kit/tiny:dmeo")


def test_no_registry(offline_kit: Kit, manifest: Path, registry: Registry) -> None:
    edit(manifest, registry.host, "127.0.0.1:9")
    refused(offline_kit, manifest, 7, "127.0.0.1:9")


def test_no_docker_daemon(offline_kit: Kit, manifest: Path, registry: Registry, tmp_path: Path) -> None:
    edit(manifest, f"docker://{registry.host}/offline-kit/tiny:demo", "docker-daemon://mine:v1")
    refused(offline_kit, manifest, 10, "docker", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})


def test_a_checksum_that_the_manifest_demands(offline_kit: Kit, manifest: Path) -> None:
    edit(manifest, 'tiny-chat",', 'tiny-chat", sha256: {model.safetensors: ' + "a" * 64 + "},")
    refused(offline_kit, manifest, 8, "model.safetensors", "a" * 64)


def test_locked_without_a_lock(offline_kit: Kit, manifest: Path, tmp_path: Path) -> None:
    done = offline_kit(
        "build", "--version", "v1", "-m", manifest, "-o", tmp_path / "out", "--store", tmp_path / "s", "--locked"
    )
    assert done.returncode == 4
    assert "offline-kit lock" in done.stderr


def test_locked_with_a_stale_lock(offline_kit: Kit, manifest: Path, tmp_path: Path) -> None:
    assert offline_kit("lock", "-m", manifest, "--store", tmp_path / "s").returncode == 0
    edit(manifest.parent.parent / "config/demo/vllm_config.yaml", "max_num_seqs: 4", "max_num_seqs: 8")
    done = offline_kit(
        "build", "--version", "v1", "-m", manifest, "-o", tmp_path / "out", "--store", tmp_path / "s", "--locked"
    )
    assert done.returncode == 4
    assert "config/vllm_config.yaml changed" in done.stderr


@pytest.mark.parametrize("version", ["", "../v1", "v 1", "v1/2"])
def test_a_version_that_is_no_file_name(offline_kit: Kit, manifest: Path, version: str, tmp_path: Path) -> None:
    done = offline_kit("build", "--version", version, "-m", manifest, "-o", tmp_path, "--store", tmp_path / "s")
    assert done.returncode == 3
    assert "not a version" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_disk_too_small_for_the_bundle(offline_kit: Kit, manifest: Path, small_disk: Path, tmp_path: Path) -> None:
    done = offline_kit("build", "--version", "v1", "-m", manifest, "-o", small_disk, "--store", tmp_path / "s", "--quiet")
    assert done.returncode == 9, done.stderr
    assert str(small_disk) in done.stderr
    assert list(small_disk.iterdir()) == []


def test_a_disk_too_small_for_the_store(offline_kit: Kit, manifest: Path, small_disk: Path, tmp_path: Path) -> None:
    done = offline_kit("build", "--version", "v1", "-m", manifest, "-o", tmp_path, "--store", small_disk / "s", "--quiet")
    assert done.returncode == 9, done.stderr
    assert f"{small_disk / 's'}: not enough space for what is to be fetched: it needs " in done.stderr
    assert not list(tmp_path.glob("*.tar.gz"))


@pytest.mark.parametrize(("content", "code"), [(None, 21), (b"", 21), (b"hello", 21), (b"\x1f\x8b\x08\x00", 20)])
def test_what_is_no_bundle(offline_kit: Kit, tmp_path: Path, content: bytes | None, code: int) -> None:
    path = tmp_path / "x.tar.gz"
    if content is not None:
        path.write_bytes(content)
    for command in ("verify", "inspect"):
        done = offline_kit(command, path)
        assert done.returncode in (code, 21), done.stderr
        assert "Traceback" not in done.stderr
        assert "x.tar.gz" in done.stderr + done.stdout


def test_wrong_usage(offline_kit: Kit) -> None:
    for arguments in (["bild"], ["build"], ["verify"], ["build", "--version", "v1", "--nope"]):
        assert offline_kit(*arguments).returncode == 2


def test_the_committed_schema_is_current(offline_kit: Kit) -> None:
    assert offline_kit("schema").stdout == (REPOSITORY / "manifests/manifest.schema.json").read_text()


def test_every_command_explains_itself(offline_kit: Kit) -> None:
    for command in ("init", "lock", "build", "verify", "inspect", "schema"):
        done = offline_kit(command, "--help")
        assert done.returncode == 0
        assert len(done.stdout) > 100
