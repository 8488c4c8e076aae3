"""A project whose every place for a secret holds one, and its servers, which want them and give them back in their answers.

Rules: whatever is run there has all secrets in its environment, and what it says is remembered.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from offline_kit.common.digest import Digest
from tests.integration.trust.canaries import files_below, found_in
from tests.support.loopback import Hub, Registry, Request, serving
from tests.testbed.servers.proxy import Proxy

EXTRA = b"a further file " * 200_000
SECRETS = {
    "hub": "Canary1HubToken",
    "modelscope": "Canary2ScopeToken",
    "other hub": "Canary3OtherToken",
    "registry": "Canary4/Login+Word",
    "proxy": "Canary5@Proxy:Word",
    "url": "Canary6Signature",
    "passphrase": "Canary7 pass phrase",
    "pin": "Canary8Pin",
    "docker": "Canary9Engine",
}
Said = subprocess.CompletedProcess[str]


class World:
    """A project and its servers; whatever is run has all secrets in its environment."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.hub, self.halt = folder, Hub(), threading.Event()
        self.half_sent = threading.Event()
        self.said: list[str] = []
        endpoint = stack.enter_context(serving(self.hub))
        self._registry = Registry()
        registry = stack.enter_context(serving(self._closed)).removeprefix("http://")
        self.files = stack.enter_context(serving(self._file))
        proxy = stack.enter_context(Proxy(user=("joe", SECRETS["proxy"])))
        login = base64.b64encode(f"joe:{SECRETS['registry']}".encode()).decode()
        self.login = f"Basic {login}"
        (folder / "docker").mkdir()
        (folder / "docker/config.json").write_text(json.dumps({"auths": {registry: {"auth": login}}}))
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(folder / "home"), "DOCKER_CONFIG": str(folder / "docker"),
            "HF_ENDPOINT": endpoint, "HF_TOKEN": SECRETS["hub"], "MODELSCOPE_API_TOKEN": SECRETS["modelscope"],
            "OFFLINE_KIT_HUB_TOKENS": f"hub.example={SECRETS['other hub']}", "OFFLINE_KIT_PIN": SECRETS["pin"],
            "HTTP_PROXY": f"http://joe:{SECRETS['proxy'].replace('@', '%40').replace(':', '%3A')}@{proxy.host}",
            "OFFLINE_KIT_KEY_PASSPHRASE": SECRETS["passphrase"], "OFFLINE_KIT_DEBUG": "1",
            "DOCKER_HOST": f"tcp://joe:{SECRETS['docker']}@127.0.0.1:1",
        }  # fmt: skip
        image = {"source": f"docker://{registry}/app:1"}
        look = "import sys, pathlib; [p.read_bytes() for p in pathlib.Path(sys.argv[1]).rglob('*') if p.is_file()]"
        self.manifest: dict[str, Any] = {
            "apiVersion": "offline-kit/v1", "name": "kit", "accelerator": "cpu", "images": {"engine": image, "gateway": image},
            "models": {"chat": {"source": "hf://o/m"}}, "services": "models.json", "engine_config": "vllm_config.yaml",
            "files": {"a.bin": {"source": f"{self.files}/a?X-Amz-Signature={SECRETS['url']}", "sha256": Digest.of(EXTRA).hex}},
            "scan": [{"name": "look", "command": [sys.executable, "-c", look, "{path}"]}],
        }  # fmt: skip
        model = {"name": "m", "path": "/models/chat", "type": "chat", "port": 8001, "gpu_memory_utilization": 0.8,
                 "max_model_len": 256, "tensor_parallel_size": 1, "dtype": "auto"}  # fmt: skip
        (folder / "models.json").write_text(json.dumps({"models": {"chat": model}}))
        (folder / "vllm_config.yaml").write_text("{}\n")

    def _closed(self, request: Request) -> None:
        given = request.headers.get("Authorization", "")
        if given == self.login:
            self._registry(request)
            return
        told = json.dumps({"errors": [{"code": "DENIED", "message": f"not with {given}"}]}).encode()
        request.reply(told, 401, {"WWW-Authenticate": 'Basic realm="r"'})

    def _file(self, request: Request) -> None:
        request.begin(200, {"Content-Length": str(len(EXTRA))})
        if self.halt.is_set():
            request.wfile.write(EXTRA[: len(EXTRA) // 2])
            self.half_sent.set()
            time.sleep(60)
        request.wfile.write(EXTRA)

    @property
    def places(self) -> list[str]:
        (self.folder / "kit.yaml").write_text(json.dumps(self.manifest))
        return ["--manifest", str(self.folder / "kit.yaml"), "--store", str(self.folder / "store")]

    def command(self, *words: str | Path) -> list[str]:
        return [str(Path(sys.executable).with_name("offline-kit")), *map(str, words)]

    def run(self, *words: str | Path, **env: str) -> Said:
        surroundings = {**self.env, **env}
        done = subprocess.run(
            self.command(*words), cwd=self.folder, env=surroundings, capture_output=True, text=True, check=False, timeout=120
        )
        self.said.append(done.stdout + done.stderr)
        return done

    def build(self, *words: str | Path, **env: str) -> Said:
        return self.run("build", "--version", "v1", "--output", "out", *self.places, *words, **env)

    def leaks(self) -> list[str]:
        """Where a secret stands, but for where this test put it."""
        ours = (self.folder / "kit.yaml", self.folder / "docker/config.json")
        talk = [("what was said", "\n".join(self.said).encode())]
        return found_in([*files_below(self.folder, *ours), *talk], SECRETS)
