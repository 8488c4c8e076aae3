"""The command itself, with secrets in every place that has one, and servers that give them back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from tests.support.loopback import Hub, Registry, Request, serving

EXTRA = b"a further file"
SECRET = "CANARY7secret"


class Place:
    """A manifest over a hub, a registry and a server of further files, all on the loopback."""

    def __init__(self, folder: Path, hub: str, registry: str, files: str) -> None:
        self.folder, self.hub, self.files = folder, hub, files
        image = {"source": f"docker://{registry.removeprefix('http://')}/app:1"}
        self.manifest = {
            "apiVersion": "offline-kit/v1", "name": "kit", "accelerator": "cpu", "images": {"engine": image, "gateway": image},
            "models": {"chat": {"source": "hf://o/m"}}, "services": "models.json", "engine_config": "vllm_config.yaml",
        }  # fmt: skip
        model = {"name": "m", "path": "/models/chat", "type": "chat", "port": 8001, "gpu_memory_utilization": 0.8,
                 "max_model_len": 256, "tensor_parallel_size": 1, "dtype": "auto"}  # fmt: skip
        (folder / "models.json").write_text(json.dumps({"models": {"chat": model}}))
        (folder / "vllm_config.yaml").write_text("{}\n")

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "kit.yaml").write_text(json.dumps(self.manifest))
        command = [sys.executable, "-c", "from offline_kit.cli.main import main; main()", *arguments]
        clean = {"PATH": os.environ["PATH"], "HOME": str(self.folder / "home"), "HF_ENDPOINT": self.hub, **environment}
        options = ["--manifest", str(self.folder / "kit.yaml"), "--store", str(self.folder / "store")]
        return subprocess.run([*command, *options], capture_output=True, text=True, env=clean, check=False, timeout=120)

    def build(self, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("build", "--version", "v1", "--output", str(self.folder / "out"), **environment)

    def everything(self) -> Iterator[tuple[str, bytes]]:
        """What was written, but for the manifest itself, and what is in the bundle."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.name != "kit.yaml":
                yield path.name, path.read_bytes()
        for bundle in self.folder.glob("out/*.tar.gz*"):
            with tarfile.open(bundle) as archive:
                for member in archive:
                    if (stream := archive.extractfile(member)) is not None:
                        yield member.name, stream.read()


@pytest.fixture
def hub() -> Hub:
    return Hub()


@pytest.fixture
def place(tmp_path: Path, hub: Hub) -> Iterator[Place]:
    with (
        serving(hub) as where,
        serving(Registry()) as registry,
        serving(lambda request: request.reply(EXTRA)) as files,
    ):
        yield Place(tmp_path, where, registry, files)


def test_a_signed_url_brings_its_file_and_leaves_no_signature(place: Place) -> None:
    url = f"{place.files}/a?X-Amz-Signature={SECRET}&x=1"
    place.manifest["files"] = {"a.bin": {"source": url, "sha256": Digest.of(EXTRA).hex}}
    done = place.run("build", "--version", "v1", "--output", str(place.folder / "out"), "--medium", "DVD", "--record")
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert {"kit-v1.transfer.pdf", "kit-v1.transfer.csv", "kit-v1.transfer.json"} < {name for name, _ in place.everything()}
    assert [name for name, content in place.everything() if SECRET.encode() in content] == []
    lock = json.loads((place.folder / "kit.lock.json").read_text())
    assert lock["files"]["a.bin"]["source"] == f"{place.files}/a?X-Amz-Signature=...&x=1"
    again = place.run("build", "--version", "v1", "--output", str(place.folder / "out"), "--locked")
    assert again.returncode == 0, "such a lock fits its manifest"


@pytest.mark.parametrize("where", ["HF_ENDPOINT", "endpoint", "files"])
def test_a_password_in_an_url_is_refused_and_shown_nowhere(place: Place, where: str) -> None:
    inside = place.hub.replace("//", f"//joe:{SECRET}@")
    if where == "endpoint":
        place.manifest["models"] = {"chat": {"source": "hf://o/m", "endpoint": inside}}
    if where == "files":
        source = place.files.replace("//", f"//joe:{SECRET}@") + "/a"
        place.manifest["files"] = {"a.bin": {"source": source, "sha256": Digest.of(EXTRA).hex}}
    done = place.build(HF_ENDPOINT=inside) if where == "HF_ENDPOINT" else place.build()
    assert done.returncode == 3 and "holds a name or a password" in done.stderr
    assert SECRET not in done.stderr and [name for name, content in place.everything() if SECRET.encode() in content] == []


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("debug", ["", "1"])
def test_what_a_server_gives_back_is_not_shown(place: Place, hub: Hub, form: str, debug: str) -> None:
    def answer(request: Request) -> None:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        request.reply(b"{}", 302, {"Location": f"ftp://{token}@x/?token={token}\x1b[31m"})

    hub.instead["/api/"] = answer
    done = place.run("lock", "--log-format", form, HF_TOKEN=SECRET, OFFLINE_KIT_DEBUG=debug)
    assert done.returncode == 7 and SECRET not in done.stderr and "\x1b" not in done.stderr


def test_a_token_in_a_file_of_the_kit_ends_the_build(place: Place) -> None:
    (place.folder / "vllm_config.yaml").write_text(f"served_by: {SECRET}\n")
    done = place.build(HF_TOKEN=SECRET)
    assert done.returncode == 3 and "vllm_config.yaml: " in done.stderr and SECRET not in done.stderr
    assert not list((place.folder / "out").glob("kit-*"))


def test_what_does_not_fit_is_said_before_anything_is_fetched(place: Place, hub: Hub) -> None:
    assert place.run("lock").returncode == 0
    path = place.folder / "kit.lock.json"
    lock = json.loads(path.read_text())
    for file in lock["models"]["chat"]["files"]:
        file["size"] = 4 << 50
    path.write_text(json.dumps(lock, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    hub.seen.clear()
    done = place.run("build", "--version", "v1", "--output", str(place.folder / "out"), "--locked")
    assert done.returncode == 9 and "are free" in done.stderr and hub.seen == []


@pytest.mark.root
def test_a_user_without_a_home_is_told_so() -> None:
    child = (
        "import os; os.environ.pop('HOME', None); from offline_kit.intake.store.store import Store; "
        "os.setuid(54321); Store.default_root()"
    )
    done = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=False)
    assert "this user has no home folder -> name a folder with --store" in done.stderr
