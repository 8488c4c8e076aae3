"""A real nginx with the gateway's configuration, and the real router, for tests: everything but Docker.

Rules: nginx listens on 127.0.0.1, engines on addresses of 127.71/16 that a name server of the test knows; whatever apply would
write lies in one folder.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import requests

from offline_kit.runtime import router
from offline_kit.runtime.render import gateway
from offline_kit.runtime.settings import api_keys, load
from offline_kit.runtime.settings.model import Settings
from offline_kit.runtime.settings.replicas import engines
from tests.support.stand_ins import Names
from tests.testbed.cache import REPOSITORY

PAGE = REPOSITORY / "offline_kit/host/page"
KEY = "test-key-0123456789.~+/=_"
GATEWAY, ROUTER = "127.0.0.1", "127.71.0.100"
QUESTION = {"model": "big-chat", "messages": [{"role": "user", "content": "hi"}]}


def addresses(settings: Settings) -> dict[str, str]:
    """Service -> address of each engine."""
    return {engine.service: f"127.71.0.{number}" for number, engine in enumerate(engines(settings), 1)}


def four_models(env: str = "", **more: Any) -> Settings:
    """Two chat models, an embedding and a rerank model; ``more``: fields of the first."""
    fields = {"gpu_memory_utilization": 0.3, "max_model_len": 128, "tensor_parallel_size": 1, "dtype": "auto"}
    models = {
        key: {"name": f"big-{key}", "path": key, "type": key, "port": 8001 + number, **fields}
        for number, key in enumerate(("chat", "embedding", "rerank"))
    }
    models["second"] = {"name": "small-chat", "path": "second", "type": "chat", "port": 8004, **fields}
    models["chat"].update(more)
    return load.load_settings(json.dumps({"models": models}), "", f"VLLM_API_KEY={KEY}\nOFFLINE_KIT_DEVICE=cpu\n{env}")


def _free_ports(count: int) -> int:
    """The first of ``count`` ports in a row that are free on the loopback."""
    for base in range(21000 + os.getpid() % 500 * 20, 60000, 20):
        with ExitStack() as stack:
            try:
                for port in range(base, base + count):
                    stack.enter_context(socket.socket()).bind(("", port))
            except OSError:
                continue
            return base
    raise AssertionError("no free ports")


def open_to_workers(folder: Path) -> None:
    """nginx started by root gives its workers to another user, who must get to the files."""
    for each in (folder, *folder.parents):
        if each.stat().st_mode & 0o005 != 0o005:
            each.chmod(0o755)


def _takes_connections(worker: int) -> bool:
    try:
        title = Path(f"/proc/{worker}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):  # it ended before the file was opened, or before it was read
        return False
    return bool(title) and "shutting down" not in title


class Gateway:
    """A running nginx; ``url(path, key)`` is an address on the port of one model, or of the router."""

    def __init__(self, folder: Path, names: Names, settings: Settings, *, certificate: bool = False) -> None:
        self.settings = settings
        base = _free_ports(10)
        self.engine_port = base + 7
        around = (names.address, str(folder), str(folder), GATEWAY, base, base + 8, base + 9, self.engine_port)
        shutil.copytree(PAGE, folder / "page", copy_function=shutil.copyfile)
        self.where = gateway.NginxPlace(*around, page=str(folder / "page"))
        self.ports = {"router": base, **gateway.container_ports(self.settings, base)}
        self.names, self.folder = names, folder
        (folder / "nginx.conf").write_text(gateway.nginx_conf(settings, self.where, certificate=certificate))
        (folder / "keys.conf").write_text(api_keys.keys_conf(settings.keys))
        (folder / "models").mkdir()
        for name, text in gateway.model_lists(self.settings).items():
            (folder / "models" / name).write_text(text)
        program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")
        assert program, "these tests need nginx: apt-get install nginx-light"
        self._command = [program, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        self.router = router.Server((ROUTER, self.engine_port), settings)
        threading.Thread(target=self.router.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((GATEWAY, self.ports["router"])) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def url(self, path: str, port: str = "router") -> str:
        return f"http://{GATEWAY}:{self.ports[port]}{path}"

    def ask(
        self, path: str, port: str = "router", *, method: str = "POST", key: str | None = KEY, **more: Any
    ) -> requests.Response:
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **more.pop("headers", {})}
        if method == "POST" and "data" not in more:
            more.setdefault("json", QUESTION)
        return requests.request(method, self.url(path, port), headers=headers, timeout=20, **more)

    def raw(self, request: str, port: str = "router") -> bytes:
        """The answer to exactly these bytes, which must make the gateway close the connection."""
        with socket.create_connection((GATEWAY, self.ports[port]), timeout=10) as connection:
            connection.sendall(request.encode())
            return b"".join(iter(lambda: connection.recv(65536), b""))

    def change_keys(self, pairs: list[tuple[str, str]]) -> None:
        """As apply and a reload do it; returns when the workers with the old keys take no new connection."""
        old = self.workers()
        (self.folder / "keys.new").write_text(api_keys.keys_conf(pairs))
        (self.folder / "keys.new").replace(self.folder / "keys.conf")
        self._process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while any(_takes_connections(pid) for pid in old):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def workers(self) -> list[int]:
        """The processes that serve."""
        master = self._process.pid
        return [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def entries(self) -> list[dict[str, Any]]:
        """The access log."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        self.router.shutdown()
        self.router.server_close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        self._log.close()
