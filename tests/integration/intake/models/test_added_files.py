"""``chat_template`` and ``add`` of a model: files that its folder gets beside those of the hub, by the whole command line."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from tests.conftest import Kit
from tests.support import intake_samples as parts
from tests.support.projects.demo import MODELS, Project, write_project
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

TEMPLATE = b"{% for message in messages %}{{ message.content }}{% endfor %}"
VOCABULARY = b"IQ== 0\nIg== 1\n" * 5000
CONFIG = {"architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss"}
WEIGHTS = parts.safetensors({"w": b"x" * 900})
PLACE = "encodings/o200k_base.tiktoken"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        for name in ("engine", "gateway"):
            parts.push(running.url, name, "v1", parts.image("gzip", content=name))
        yield running


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        for key in MODELS:
            files = {"config.json": json.dumps(CONFIG).encode(), "tokenizer.json": b"{}", "model.safetensors": WEIGHTS}
            hub.add(f"o/{key}", parts.write(tmp_path / key, files))
        hub.add("o/vocabularies", parts.write(tmp_path / "vocabularies", {PLACE: VOCABULARY}))
        yield hub


@pytest.fixture
def project(tmp_path: Path, registry: Registry, hub: Hub, offline_kit: Kit) -> Project:
    written = write_project(tmp_path / "project", registry, hub)
    parts.write(written, {"templates/chat.jinja": TEMPLATE})
    return Project(written, offline_kit)


def change(project: Project, **chat: Any) -> None:
    """The manifest with these fields of the model chat."""
    content = json.loads(project.manifest.read_text())
    content["models"]["chat"].update(chat)
    project.manifest.write_text(json.dumps(content))


def template(data: bytes = TEMPLATE) -> dict[str, str]:
    return {"source": "file://../templates/chat.jinja", "sha256": Digest.of(data).hex}


def vocabulary(hub: Hub) -> dict[str, Any]:
    address = f"{hub.url}/o/vocabularies/resolve/main/{PLACE}"
    return {"o200k_base.tiktoken": {"source": address, "sha256": Digest.of(VOCABULARY).hex}}


def held(project: Project, path: str) -> bytes:
    listed = subprocess.run(["tar", "-xOzf", project.bundle, f"demo-v1/{path}"], capture_output=True, check=True)
    return listed.stdout


def test_what_a_model_lacks_is_carried_in_its_folder(project: Project, hub: Hub) -> None:
    done = project.build()
    said = [line for line in done.stderr.splitlines() if line.startswith("warning: chat ")]
    assert len(said) == 2 and "needs the vocabulary o200k_base.tiktoken" in said[0] and "has no chat template" in said[1], said
    change(project, chat_template=template(), add=vocabulary(hub))
    done = project.build("--replace")
    assert done.returncode == 0 and "warning: chat " not in done.stderr, done.stderr
    assert held(project, "models/chat/chat_template.jinja") == TEMPLATE
    assert held(project, "models/chat/o200k_base.tiktoken") == VOCABULARY
    assert "models/chat/chat_template.jinja" in held(project, "SHA256SUMS").decode()
    assert project.kit("verify", project.bundle).returncode == 0
    first = project.bundle.read_bytes()
    shutil.rmtree(project.folder / "store")
    again = project.build("--locked")
    assert again.returncode == 0 and project.bundle.read_bytes() == first, "from the lock alone, the same bytes"
    assert project.build().returncode == 0 and project.bundle.read_bytes() == first


def test_a_file_that_is_not_the_demanded_one_is_refused(project: Project, hub: Hub) -> None:
    change(project, chat_template=template(b"another"))
    done = project.build()
    assert done.returncode == 8 and "models.chat/chat_template.jinja" in done.stderr and "the manifest demands" in done.stderr
    change(project, chat_template=template())
    assert project.build().returncode == 0
    (project.folder / "templates/chat.jinja").write_bytes(TEMPLATE + b"\n")
    done = project.build()
    assert done.returncode == 8 and Digest.of(TEMPLATE + b"\n").hex in done.stderr, "edited after it was locked"


@pytest.mark.parametrize(
    ("chat", "files", "said"),
    [
        ({"chat_template": template()}, {"chat_template.jinja": b"its own"}, "has chat_template.jinja itself -> exclude"),
        ({"chat_template": template(b"Hello")}, {}, "is no chat template: it has no place for a message"),
        ({"chat_template": template(), "add": {"chat_template.jinja": template()}}, {}, "both name chat_template.jinja"),
        ({"add": {"model.safetensors": template()}}, {}, "configuration and weights are the source's own"),
        ({"add": {"../x": template()}}, {}, "../x"),
    ],
)
def test_what_cannot_be_added(
    project: Project, hub: Hub, tmp_path: Path, chat: dict[str, Any], files: dict[str, bytes], said: str
) -> None:
    if "place for a message" in said:
        (project.folder / "templates/chat.jinja").write_bytes(b"Hello")
    hub.add("o/chat", parts.write(tmp_path / "chat", files))
    change(project, **chat)
    done = project.build()
    assert done.returncode == 3 and said in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_a_local_folder_is_given_files_too(project: Project, tmp_path: Path) -> None:
    folder = parts.write(tmp_path / "mine", {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS})
    change(project, source=f"dir://{folder}", endpoint=None, chat_template=template())
    assert project.build().returncode == 0 and held(project, "models/chat/chat_template.jinja") == TEMPLATE
    done = project.build("--locked")
    assert done.returncode == 0 and "changed since" not in done.stderr, "the folder itself is as it was"
    assert not (folder / "chat_template.jinja").exists()
