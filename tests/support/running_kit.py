"""A kit on the air-gapped engine with everything switched on: real vLLM, nginx, Prometheus and exporters.

Rules: what a bundle would carry lies where it would lie, and apply runs inside the engine image as the scripts run it; only a
recorded page stands for the exporter of GPUs, because there is none here. Whoever asks the kit does so from the host's network.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.testbed import images
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.servers.registry import Registry, clone

KEY = "a-key-of-this-test-0123456789"
IMAGES = {
    "engine": images.ENGINE,
    "gateway": images.GATEWAY,
    **{name.split("/")[1].split(":")[0]: name for name in images.MONITORING},
}
PORTS = {"router": 8000, "http": 80, "https": 443, "prometheus": 9090}
GPU_PAGE = Path(__file__).parent.parent / "integration/data/dcgm-exporter.prom"
# A client on the host: reads requests as JSON, prints status, seconds and text of each answer as JSON.
CLIENT = r"""
import concurrent.futures, json, ssl, sys, time, urllib.error, urllib.request
trust = ssl.create_default_context(cafile=sys.argv[2]) if len(sys.argv) > 2 else None
def ask(question):
    url, body, headers = question
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json", **headers})
    start = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60, context=trust) as answer:
            return answer.status, time.monotonic() - start, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, time.monotonic() - start, error.read().decode()
    except OSError as error:
        return 0, time.monotonic() - start, str(error)
with open(sys.argv[1]) as stream, concurrent.futures.ThreadPoolExecutor(8) as crowd:
    json.dump(list(crowd.map(ask, json.load(stream))), sys.stdout)
"""
Answer = tuple[int, float, str]


class RunningKit:
    """The kit; ``up()`` starts it."""

    name = "watched-kit"

    def __init__(self, folder: Path, testbed: Testbed, dockerd: Dockerd) -> None:
        self.folder, self.dockerd, self._testbed = folder, dockerd, testbed
        for place in ("deploy", ".state/tls", "config"):
            (folder / place).mkdir(parents=True)
        shutil.copytree(REPOSITORY / "offline_kit/runtime", folder / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(REPOSITORY / "config/monitoring", folder / "config/monitoring")
        shutil.copytree(testbed.models / "tiny-chat", folder / "models/chat")
        demo = json.loads((REPOSITORY / "config/demo/models.json").read_text())["models"]["chat"]
        models = {"chat": {**demo, "replicas": 2}, "other": {**demo, "name": "other-chat", "port": 8002}}
        (folder / "config/models.json").write_text(json.dumps({"models": models}))
        shutil.copy(REPOSITORY / "config/demo/vllm_config.yaml", folder / "config")
        facts = [
            "KIT_FORMAT=1",
            f"KIT_NAME={self.name}",
            "KIT_VERSION=v1",
            "KIT_ACCELERATOR=cpu",
            f"KIT_IMAGES={','.join(IMAGES)}",
        ]
        facts += [f"KIT_IMAGE_{key.replace('-', '_')}={tag(key)}" for key in IMAGES]
        (folder / "deploy/kit.env").write_text("\n".join(facts) + "\n")
        (folder / ".env").write_text(f"VLLM_API_KEY={KEY}\nOFFLINE_KIT_WITH=monitoring,nginx\n")
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        where = ["-keyout", str(folder / ".state/tls/server.key"), "-out", str(folder / ".state/tls/server.crt")]
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "20", *subject, *where]
        subprocess.run(command, check=True, capture_output=True)

    def load(self) -> None:
        """Brings the images onto the host, under the kit's own tags."""
        work = self.folder.parent / "registry"
        storage = clone(self._testbed.storage, work / "storage")
        with Registry(storage, work, prefix=self.dockerd.nsenter) as registry:
            for key, name in IMAGES.items():
                self.dockerd.docker("pull", "--quiet", f"{registry.host}/{name}")
                self.dockerd.docker("tag", f"{registry.host}/{name}", tag(key))

    def apply(self) -> list[str]:
        """As the scripts do it; a line for each file that changed."""
        script = '. "$1" && open_kit "$0/x" && service_apply && printf "%s" "$APPLIED"'
        library = REPOSITORY / "scripts/lib/services/engine.sh"
        done = self.dockerd.run(["bash", "-c", script, str(self.folder), str(library)])
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def attest(self, findings: str) -> None:
        """What ``deploy.sh attest`` tells Prometheus after it found this: a call of ``finding`` each."""
        script = f'. "$1" && open_kit "$0/x" && {findings or ":"} && attest_tell ""'
        library = REPOSITORY / "scripts/lib/verbs/attest.sh"
        done = self.dockerd.run(["bash", "-c", script, str(self.folder), str(library)])
        assert done.returncode == 0, done.stderr

    def compose(self, *arguments: str) -> str:
        where = ("-p", self.name, "--project-directory", str(self.folder), "--env-file", "/dev/null")
        return self.dockerd.docker("compose", *where, "-f", str(self.folder / ".state/compose.yaml"), *arguments)

    def up(self) -> None:
        """Group by group, each waited for."""
        for group in (self.folder / ".state/start-order").read_text().splitlines():
            services = group.split(",")
            self.compose("up", "-d", "--no-deps", *services)
            self.wait(*services)

    def wait(self, *services: str, seconds: float = 420) -> None:
        """Until each service runs and, where it has a health check, is healthy."""
        form = "{{.State.Status}} {{if .State.Health}}{{.State.Health.Status}}{{else}}healthy{{end}}"
        deadline = time.monotonic() + seconds
        for service in services:
            while self.dockerd.docker("inspect", "--format", form, self.container(service)) != "running healthy":
                assert time.monotonic() < deadline, self.compose("logs", "--tail", "20", service)
                time.sleep(0.5)

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def ask(self, *questions: tuple[str, Any], key: str = KEY) -> list[Answer]:
        """Answers to (URL, JSON body or None) in that order, eight at a time, with the key."""
        (self.folder / ".state/client.py").write_text(CLIENT)
        asked = [[url, body, {"Authorization": f"Bearer {key}"}] for url, body in questions]
        (self.folder / ".state/questions.json").write_text(json.dumps(asked))
        files = [str(self.folder / name) for name in (".state/client.py", ".state/questions.json", ".state/tls/server.crt")]
        done = self.dockerd.run([sys.executable, *files])
        assert done.returncode == 0, done.stderr
        return [(status, seconds, text) for status, seconds, text in json.loads(done.stdout)]

    def down(self) -> None:
        self.compose("down", "--timeout", "5", "--remove-orphans")


def tag(key: str) -> str:
    """The kit's own tag of an image."""
    return f"localhost/offline-kit/{key}:watched"


def chat(model: str = "tiny-chat", port: str = "router", **more: Any) -> tuple[str, Any]:
    """A question to the router."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, **more}
    return f"http://localhost:{PORTS[port]}/v1/chat/completions", body
