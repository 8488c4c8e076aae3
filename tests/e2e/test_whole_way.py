"""From one manifest to an answered request: real registry, real Docker, real nginx, real vLLM, no network on the host."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.intake.models import plan_facts
from tests.conftest import Kit
from tests.e2e.conftest import Built, Installed
from tests.testbed.process import TestbedError
from tests.testbed.servers.capture import Capture

ASK = """
import sys, urllib.request
body = sys.stdin.buffer.read() or None
headers = {"Authorization": "Bearer " + sys.argv[2], "Content-Type": "application/json"}
request = urllib.request.Request(sys.argv[1], body, headers)
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
ENGINES = ("engine-chat", "engine-embedding", "engine-rerank")


def test_the_bundle_verifies_and_shows_what_it_holds(built: Built, offline_kit: Kit) -> None:
    assert offline_kit("verify", built.bundle).returncode == 0
    shown = offline_kit("inspect", built.bundle).stdout
    for part in ("demo", "v1.0.0", "engine", "gateway", "chat", "embedding", "rerank"):
        assert part in shown


def test_a_second_build_asks_nobody_and_gives_the_same_bytes(built: Built, offline_kit: Kit, tmp_path: Path) -> None:
    """Registry and hub are gone by now; the lock and the store are enough."""
    done = offline_kit(
        "build", "--version", "v1.0.0", "--manifest", built.manifest, "--output", tmp_path, "--store", built.store, "--locked"
    )
    assert done.returncode == 0, done.stderr
    assert _sha256(tmp_path / built.bundle.name) == _sha256(built.bundle)


def test_the_hub_sent_each_weights_file_once(built: Built) -> None:
    """Besides their heads, which the plan reads when the model is locked."""
    weights = [access for access in built.fetched if access.method == "GET" and access.path.endswith(".safetensors")]
    whole = [access.path for access in weights if access.range is None]
    assert len(whole) == len(set(whole)) == 3
    assert all(access.sent <= plan_facts.FIRST for access in weights if access.range is not None)


def test_three_services_are_healthy(installed: Installed) -> None:
    done = installed.host.run("./scripts/deploy.sh", "status", cwd=installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    for service in (*ENGINES, "gateway"):
        assert service in done.stdout


def test_secrets_are_made_on_the_host_and_private(installed: Installed) -> None:
    assert len(installed.key) >= 32
    assert stat.S_IMODE((installed.kit / ".env").stat().st_mode) == 0o600
    assert installed.key not in installed.said
    for secret in (installed.kit / ".state/gateway/keys.conf",):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_chat_answers(installed: Installed) -> None:
    answer = installed.host.ask("chat", "--key", installed.key)
    assert answer["text"]
    assert 0 < answer["tokens"] <= 16


def test_chat_answers_as_a_stream(installed: Installed) -> None:
    answer = installed.host.ask("stream", "--key", installed.key)
    assert answer["pieces"] > 1
    assert answer["text"]


def test_embeddings_are_unit_vectors(installed: Installed) -> None:
    answer = installed.host.ask("embeddings", "--key", installed.key)
    assert (answer["vectors"], answer["width"]) == (2, 64)
    assert answer["norm"] == pytest.approx(1, abs=1e-3)


def test_rerank_ranks_three_documents(installed: Installed) -> None:
    answer = installed.host.ask("rerank", "--key", installed.key)
    assert sorted(answer["order"]) == [0, 1, 2]
    assert answer["scores"] == sorted(answer["scores"], reverse=True)


@pytest.mark.parametrize(("port", "what"), [(8001, "chat"), (8002, "embeddings"), (8003, "rerank")])
def test_each_service_has_its_own_port(installed: Installed, port: int, what: str) -> None:
    assert installed.host.ask(what, "--key", installed.key, "--base", f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("port", [8000, 8001, 8002, 8003])
def test_health_needs_no_key(installed: Installed, port: int) -> None:
    assert installed.host.ask("status", "--base", f"http://127.0.0.1:{port}")["status"] == 200


@pytest.mark.parametrize(
    ("port", "method", "path"),
    [
        (8000, "GET", "/v1/models"),
        (8000, "POST", "/v1/chat/completions"),
        (8000, "POST", "/v1/rerank"),
        (8000, "POST", "/pooling"),
        (8000, "POST", "/classify"),
        (8001, "POST", "/v1/chat/completions"),
        (8002, "POST", "/v1/embeddings"),
        (8003, "POST", "/v1/rerank"),
    ],
)
def test_without_the_key_nothing_answers(installed: Installed, port: int, method: str, path: str) -> None:
    for key in ("", "wrong", installed.key[:-1], installed.key + "x"):
        answer = installed.host.ask(
            "status", "--base", f"http://127.0.0.1:{port}", "--method", method, "--path", path, "--key", key
        )
        assert answer["status"] == 401, (key, answer)
        assert '"error"' in answer["body"]


@pytest.mark.parametrize("path", ["/page", "/v2", "/metrics", "/classify/", "/invocations", "/docs", "/openapi.json"])
@pytest.mark.parametrize("port", [8000, 8001])
def test_unknown_paths_are_refused(installed: Installed, port: int, path: str) -> None:
    answer = installed.host.ask("status", "--base", f"http://127.0.0.1:{port}", "--path", path, "--key", installed.key)
    assert answer["status"] == 404, answer


def test_the_page_is_that_of_the_kit_and_its_questions_are_answered(installed: Installed) -> None:
    shown = installed.host.ask("status", "--base", "http://127.0.0.1:8000", "--path", "/")
    assert shown["status"] == 200 and "<title>Model services</title>" in shown["body"]
    assert installed.host.ask("status", "--base", "http://127.0.0.1:8001", "--path", "/")["status"] == 404
    listed = _ask(installed, "/v1/models", None)["data"]
    told: dict[str, tuple[str, dict[str, object], str]] = {
        "chat": ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "a"}]}, "input_tokens"),
        "embedding": ("/v1/embeddings", {"input": "a"}, "data"),
        "rerank": ("/v1/rerank", {"query": "a", "documents": ["a"]}, "results"),
    }
    for model in listed:
        path, body, field = told[model["type"]]
        assert _ask(installed, path, {"model": model["id"], **body})[field], model


def _ask(installed: Installed, path: str, body: dict[str, object] | None) -> dict[str, Any]:
    """What the router answers from inside the host's network; anything but 200 fails."""
    argv = [*installed.host.docker.nsenter, sys.executable, "-c", ASK, f"http://127.0.0.1:8000{path}", installed.key]
    sent = json.dumps(body) if body else ""
    answer: dict[str, Any] = json.loads(subprocess.run(argv, input=sent, capture_output=True, text=True, check=True).stdout)
    return answer


def test_an_engine_is_reachable_through_the_gateway_only(installed: Installed, capture: Capture) -> None:
    """No published port, no address that the host has a way to, and no way out of the engine's network."""
    docker = installed.host.docker
    for name in ENGINES:
        container = f"demo-{name}-1"
        assert docker.docker("port", container) == ""
        networks = docker.docker(
            "inspect", "--format", "{{range $n, $v := .NetworkSettings.Networks}}{{$n}} {{end}}", container
        )
        assert networks.split() == [f"demo_model-{name.removeprefix('engine-')}"]
        address = docker.docker("inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", container)
        with capture.excused():  # the host has no way there, so that this client's question leaves it
            assert installed.host.ask("status", "--base", f"http://{address}:8000")["status"] == 0
        # no other engine reaches it; the control: it answers itself, by its name and by its address
        for host in (name, address):
            health = ["python3", "-I", "-S", "/opt/offline-kit/runtime/healthcheck.py", host, "8000"]
            docker.docker("exec", container, *health)
            for other in set(ENGINES) - {name}:
                with capture.excused(), pytest.raises(TestbedError):
                    docker.docker("exec", f"demo-{other}-1", *health)


def test_the_openai_client_lists_all_models(installed: Installed) -> None:
    answer = installed.host.ask("status", "--path", "/v1/models", "--key", installed.key)
    assert answer["status"] == 200
    for model in ("tiny-chat", "tiny-embed", "tiny-rerank"):
        assert f'"{model}"' in answer["body"]


def test_a_second_install_changes_nothing(installed: Installed) -> None:
    kept = [".env", ".state/compose.yaml", ".state/gateway/nginx.conf", ".state/gateway/keys.conf"]
    before = (installed.host.containers(), [(installed.kit / name).read_bytes() for name in kept])
    done = installed.host.run("./install.sh", "--yes", cwd=installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (installed.host.containers(), [(installed.kit / name).read_bytes() for name in kept]) == before


def test_the_running_kit_still_verifies(installed: Installed, offline_kit: Kit) -> None:
    done = offline_kit("verify", installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr
    done = installed.host.run("./scripts/verify.sh", cwd=installed.kit)
    assert done.returncode == 0, done.stdout + done.stderr


def _sha256(path: Path) -> str:
    return Digest.of_file(path).hex
