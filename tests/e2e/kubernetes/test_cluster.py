"""A kit on a real Kubernetes, from the site's registry: the engine becomes ready and answers through the gateway's Service.

Rules: the node has no way out; the registry is the one that `push` filled; the objects are those of `render` but for what a
server of 1.20 does not know (``for_version_1_20``), and for names, which this cluster without DNS has in /etc/hosts.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import Kit
from tests.testbed.cluster.cluster import Cluster
from tests.testbed.servers.registry import Registry

pytestmark = [pytest.mark.long, pytest.mark.root]

ENGINE, GATEWAY = "10.96.0.50", "10.96.0.51"
QUESTION = {"model": "demo-chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}


def for_version_1_20(item: dict[str, Any]) -> dict[str, Any]:
    """The object as a server of 1.20 takes it: an earlier version of budgets, and no ``sleep`` as a hook."""
    changed: dict[str, Any] = json.loads(json.dumps(item))
    if changed["apiVersion"] == "policy/v1":
        changed["apiVersion"] = "policy/v1beta1"
    if changed["kind"] == "Deployment":
        for container in changed["spec"]["template"]["spec"]["containers"]:
            container.pop("lifecycle", None)
    return changed


def with_fixed_addresses(item: dict[str, Any]) -> dict[str, Any]:
    """What a cluster's DNS would do: Services at addresses that are known, and the gateway's hosts file with the engine's."""
    fixed = {"engine-chat": ENGINE, "gateway": GATEWAY}
    if item["kind"] == "Service":
        item["spec"]["clusterIP"] = fixed[item["metadata"]["name"]]
    if item["kind"] == "Deployment" and item["metadata"]["name"] == "gateway":
        item["spec"]["template"]["spec"]["hostAliases"] = [{"ip": ENGINE, "hostnames": ["engine-chat"]}]
    return item


@dataclass(frozen=True)
class Running:
    """The cluster, and the key of its clients."""

    cluster: Cluster
    key: str

    def ask(self, path: str, key: str | None, body: Any = None) -> tuple[int, str]:
        """Status and text of the answer, asked in the node's network at the Service of the gateway."""
        words = ["curl", "-s", "-w", "\n%{http_code}", "--max-time", "120", f"http://{GATEWAY}:8000{path}"]
        words += ["-H", f"Authorization: Bearer {key}"] if key else []
        words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)] if body is not None else []
        done = subprocess.run([*self.cluster.inside, *words], capture_output=True, text=True, check=True)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text


@pytest.fixture(scope="module")
def running(chat_bundle: Path, offline_kit: Kit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The chat model's kit: pushed, rendered with weights on the node, applied, ready."""
    folder = tmp_path_factory.mktemp("cluster")
    with Registry(folder / "storage", folder / "outside") as outside:
        place = f"{outside.host}/site/ai"
        pushed = offline_kit("push", chat_bundle, place, "--quiet")
        assert pushed.returncode == 0, pushed.stderr
    unpacked = offline_kit("unpack", chat_bundle, "--quiet", cwd=folder)
    assert unpacked.returncode == 0, unpacked.stderr
    kit = next(folder.glob("demo-*"))
    for path in (folder, kit, kit / "models"):
        path.chmod(0o755)
    words = ["--registry", place, "--namespace", "ai", "--weights", "hostpath", "--host-path", str(kit / "models")]
    rendered = offline_kit("render", "kubernetes", chat_bundle, *words, "--output", folder / "out", "--quiet")
    assert rendered.returncode == 0, rendered.stderr
    listed = yaml.safe_load((folder / "out/kustomization.yaml").read_text())["resources"]
    objects = [item for name in listed for item in yaml.safe_load_all((folder / "out" / name).read_text())]
    with (
        Cluster(folder / "node", outside.host) as cluster,
        Registry(folder / "storage", folder / "inside", port=outside.port, prefix=cluster.inside),
    ):
        cluster.apply([with_fixed_addresses(for_version_1_20(item)) for item in objects])
        for name in ("engine-chat", "gateway"):
            try:
                cluster.kubectl("-n", "ai", "rollout", "status", f"deployment/{name}", "--timeout=400s", timeout=420)
            except Exception:
                print(cluster.kubectl("-n", "ai", "describe", "pods"))
                print(cluster.kubectl("-n", "ai", "logs", f"deployment/{name}", "--tail=50"))
                raise
        yield Running(cluster, (folder / "out/keys").read_text().split()[-1])


def test_the_engine_answers_through_the_service_on_1_20_with_older_versions_of_budgets_and_no_sleep(running: Running) -> None:
    status, text = running.ask("/v1/models", running.key)
    name = json.loads(text)["data"][0]["id"]
    assert status == 200
    status, text = running.ask("/v1/chat/completions", running.key, {**QUESTION, "model": name})
    assert status == 200 and json.loads(text)["usage"]["completion_tokens"] >= 1, text


def test_the_key_is_asked_for(running: Running) -> None:
    for key in (None, "a-key-of-nobody-0123456789"):
        status, text = running.ask("/v1/chat/completions", key, QUESTION)
        assert status == 401 and json.loads(text)["error"]["type"] == "authentication_error"
    assert running.ask("/health", None)[0] == 200
