"""offline-kit rehearse: real engine image, real Docker, models that call out; the shipped demo asks nobody.

Rules: everything that can share a rehearsal does, for each loads vLLM once; the first test has its engine image loaded and
taken away, the others find it there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.runtime.rehearsal import capture
from tests.conftest import Kit
from tests.integration.rehearsal import planted_models as planted
from tests.integration.rehearsal.projects import carry_code, chats, findings
from tests.testbed import images
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.process import TestbedError
from tests.testbed.servers.registry import Registry


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def engine(dockerd: Dockerd, registry: Registry) -> Iterator[str]:
    """The engine image under the kit's tag, so that a rehearsal need not load it each time."""
    image = f"{registry.host}/{images.ENGINE}"
    dockerd.docker("pull", "--quiet", image)
    tag = tag_as_kit(dockerd, image)
    yield tag
    dockerd.docker("rmi", "--force", tag, image)


def tag_as_kit(dockerd: Dockerd, image: str) -> str:
    config = dockerd.docker("image", "inspect", "--format", "{{.Id}}", image)
    tag = f"localhost/offline-kit/engine:{config.removeprefix('sha256:')[:12]}"
    dockerd.docker("tag", image, tag)
    return tag


def test_the_shipped_demo_asks_nobody_and_the_bundle_says_so(
    dockerd: Dockerd, demo: Path, store: Path, offline_kit: Kit, tmp_path: Path
) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("rehearsal: configuration\n")
    build = ("build", "--version", "v1", "--manifest", demo, "--output", tmp_path, "--store", store, "--policy", policy)
    refused = offline_kit(*build, env=dockerd.env)
    assert refused.returncode == 23 and "build it with --rehearse" in refused.stderr, refused.stderr
    done = offline_kit(*build, "--rehearse", env=dockerd.env)
    assert done.returncode == 0, done.stderr
    bundle = Path(done.stdout.strip())
    record = json.loads(offline_kit("inspect", "--rehearsal", bundle).stdout)
    assert record["attempts"] == 0 and set(record["models"]) == {"chat", "embedding", "rerank"}
    steps = {"arguments": "accepted", "configuration": "made"}
    for key, tried in record["models"].items():
        assert steps.items() <= tried.items() and tried["tokenizer"] and tried["request"].endswith(" tokens"), tried
        assert ("template" in tried) is (key == "chat")
    # lm-format-enforcer 0.11.3 imports what this vLLM has elsewhere
    assert record["models"]["chat"]["structured outputs"].startswith("xgrammar, guidance, outlines; not lm-format-enforcer (")
    assert f"  rehearsed: {record['summary']}" in offline_kit("inspect", bundle).stdout.splitlines()
    assert "nobody asked for a network" in record["summary"]
    assert offline_kit("verify", "--policy", policy, bundle).returncode == 0
    # nothing of it stays: no container, no image, no folder
    assert dockerd.docker("ps", "--all", "--quiet") == "" and "localhost/offline-kit/engine" not in dockerd.docker("images")
    assert not list(store.glob("rehearsal-*"))


def test_downloads_of_models_are_found_and_named(
    dockerd: Dockerd, engine: str, demo: Path, store: Path, testbed: Testbed, offline_kit: Kit, tmp_path: Path
) -> None:
    chat, own = testbed.models / "tiny-chat", {"trust_remote_code": True}
    far, code = planted.with_code_elsewhere(chat, tmp_path / "far")
    models: dict[str, tuple[Path, dict[str, Any]]] = {
        "far": (far, own),
        "code": (planted.with_code(chat, tmp_path / "code"), own),
        "tokenizer": (planted.with_tokenizer(chat, tmp_path / "tokenizer"), own),
        "request": (planted.with_request(chat, tmp_path / "request"), own),
        "long": (chat, {"max_model_len": 4096}),
        "unknown": (chat, {"no_such_argument": 1}),
        "enforced": (chat, {"structured_outputs_config": {"backend": "lm-format-enforcer"}}),
        "quiet": (chat, {"structured_outputs_config": {"backend": "outlines"}}),
    }
    manifest = chats(tmp_path / "p", demo, models)
    carry_code(manifest, "far", planted.REPOSITORY, code)
    done = offline_kit("rehearse", manifest, "--store", store, env=dockerd.env)
    assert done.returncode == 25, done.stderr
    found = findings(done.stderr)
    assert set(found) == set(models) - {"quiet"}, done.stderr
    said = {
        "far": planted.ELSEWHERE_NAME,
        "code": planted.CODE_NAME,
        "tokenizer": planted.TOKENIZER_ADDRESS,
        "request": planted.REQUEST_ADDRESS,
    }
    for name, target in said.items():
        assert f" {target} (container engine, process " in found[name] and " -> carry what it asks for" in found[name], found
    assert re.search(r"^configuration: asked for .* at \S*/configuration_planted.py:\d+\)", found["code"]), found
    # found offline in the repository that is carried, with what it imports
    assert re.search(r"^configuration: asked for .* at \S*/acme/Planted\S+/[0-9a-f]{40}/configuration_far.py:", found["far"]), (
        found
    )
    assert len(found["far"].splitlines()) == 1, found
    assert re.search(r"^tokenizer: wanted to connect .* at \S*/tokenization_planted.py:\d+\)", found["tokenizer"]), found
    # a program of its own has no line in the model's process: its command is the name
    assert re.search(r"process \d+, \S*python3 -c import socket;", found["request"]), found
    assert "configuration: max_model_len is longer than this model can be: lower it" in found["long"], found
    assert found["enforced"].startswith("structured outputs: "), found
    assert "structured outputs: lm-format-enforcer: ImportError: " in found["enforced"] and " -> " in found["enforced"], found
    assert found["unknown"].startswith("arguments: ") and "take it out, or correct it" in found["unknown"], found
    assert dockerd.docker("ps", "--all", "--quiet") == "" and dockerd.docker("images", "--quiet", engine) != ""


def test_a_download_at_the_start_of_an_engine_is_found(
    dockerd: Dockerd,
    engine: str,
    demo: Path,
    store: Path,
    testbed: Testbed,
    offline_kit: Kit,
    registry: Registry,
    tmp_path: Path,
) -> None:
    name = "offline-kit/planted:demo"
    image = f"{registry.host}/{name}"
    planted.build_image(dockerd, engine, image, planted.SITECUSTOMIZE, tmp_path / "image")
    tag = tag_as_kit(dockerd, image)
    try:
        manifest = chats(tmp_path / "p", demo, {"chat": (testbed.models / "tiny-chat", {})}, name)
        done = offline_kit("rehearse", manifest, "--store", store, env=dockerd.env)
    finally:
        dockerd.docker("rmi", "--force", tag, image)
    assert done.returncode == 25, done.stderr
    assert f"asked for the address of {planted.START_NAME} (container engine, process " in findings(done.stderr)["engine"]


def test_a_capture_that_sees_nothing_passes_nothing(dockerd: Dockerd, engine: str) -> None:
    """Without the right to make its route, or with nobody's packets to see, it never says that it is ready."""
    mount = ("--volume", f"{REPOSITORY}/offline_kit/runtime:/opt/offline-kit/runtime:ro", "--network", "none", "--rm")
    for rights in ((), ("--cap-drop", "ALL", "--cap-add", "NET_RAW", "--cap-add", "NET_BIND_SERVICE")):
        with pytest.raises(TestbedError) as error:
            dockerd.docker("run", *mount, *rights, "--entrypoint", capture.START[0], engine, *capture.START[1:])
        assert "Operation not permitted" in str(error.value) and '"ready"' not in str(error.value)


def test_without_docker_it_says_so(demo: Path, store: Path, offline_kit: Kit) -> None:
    done = offline_kit("rehearse", demo, "--store", store, env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert done.returncode == 10 and "leave the rehearsal out" in done.stderr, done.stderr
