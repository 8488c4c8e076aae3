"""Kits on an air-gapped engine, as an operator has them: two versions of one, their services, a client that never stops asking.

Rules: versions share everything but what a test changes; a client asks through the published port, inside the host's network;
whatever a test leaves of its project on the shared engine is removed.
"""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support import scripts_kit
from tests.testbed.dockerd import Dockerd

ASK = """
import http.client, sys, time
port, key = int(sys.argv[1]), sys.stdin.readline().strip()
question = '{"model": "tiny-chat", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}'
headers = {"Authorization": "Bearer " + key, "Content-Type": "application/json"}
while True:
    began = time.time()
    try:
        line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        line.request("POST", "/v1/chat/completions", question, headers)
        answer = line.getresponse()
        answer.read()
        status = answer.status
    except OSError:
        status = 0
    print(began, status, flush=True)
    time.sleep(0.05)
"""


@dataclasses.dataclass(frozen=True)
class Host:
    """One version of a kit, in a folder on the host of `dockerd`."""

    kit: Path
    dockerd: Dockerd
    ports: Mapping[str, int]
    timeout: str = "180"

    @property
    def env(self) -> dict[str, str]:
        """The environment of a command on the host."""
        return {**self.dockerd.env, "OFFLINE_KIT_START_TIMEOUT": self.timeout}

    def run(self, script: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """A script of this version."""
        return scripts_kit.run(self.kit, script, *arguments, env=self.env, prefix=self.dockerd.nsenter, cwd=cwd)

    def deploy(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """``deploy.sh``."""
        return self.run("scripts/deploy.sh", *arguments, cwd=cwd)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """``deploy.sh`` in a process group of its own, not waited for."""
        return subprocess.Popen(
            [*self.dockerd.nsenter, str(self.kit / "scripts/deploy.sh"), *arguments],
            env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def versions(self) -> dict[str, str]:
        """Service -> version of each container of the project that is up."""
        label = '{{.Label "com.docker.compose.service"}} {{.Label "offline-kit.version"}}'
        rows = self.dockerd.docker("ps", "--filter", self.project, "--format", label).splitlines()
        return dict(row.split(" ") for row in rows if not row.startswith(" "))

    def serves(self, version: str) -> bool:
        """All four services are this version's, healthy, and answer."""
        status = self.deploy("status", "--json")
        return status.returncode == 0 and set(self.versions().values()) == {version} and len(self.versions()) == 4

    @property
    def project(self) -> str:
        name = settings(self.kit / "deploy/kit.env")["KIT_NAME"].replace(".", "-")
        return f"label=com.docker.compose.project={name}"

    @property
    def key(self) -> str:
        return settings(self.kit / ".env")["VLLM_API_KEY"]

    def status_of(self, key: str, path: str = "/v1/models") -> int:
        """The status that the gateway answers this key with."""
        code = (
            "import http.client, sys; line = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=10); "
            "line.request('GET', sys.argv[2], headers={'Authorization': 'Bearer ' + sys.stdin.readline().strip()}); "
            "print(line.getresponse().status)"
        )
        argv = [*self.dockerd.nsenter, sys.executable, "-c", code, str(self.ports["router"]), path]
        return int(subprocess.run(argv, input=f"{key}\n", capture_output=True, text=True, check=True, timeout=30).stdout)

    def client(self) -> Client:
        """A client of this version's router."""
        return Client(self.dockerd.nsenter, self.ports["router"], self.key)

    def clean(self) -> None:
        """Removes all of the project."""
        for identifier in self.dockerd.docker("ps", "--all", "--quiet", "--filter", self.project).split():
            self.dockerd.docker("rm", "--force", identifier)
        for network in self.dockerd.docker("network", "ls", "--quiet", "--filter", self.project).split():
            self.dockerd.docker("network", "rm", network)


class Client:
    """Asks the chat model again and again while the block runs; `answers` are (time, status), status 0 for none."""

    def __init__(self, enter: Sequence[str], port: int, key: str) -> None:
        argv = [*enter, sys.executable, "-c", ASK, str(port)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin
        self._process.stdin.write(f"{key}\n")
        self._process.stdin.flush()
        self.answers: list[tuple[float, int]] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        time.sleep(0.5)
        self._process.terminate()
        said, _ = self._process.communicate()
        rows = [line.split() for line in said.splitlines() if line.count(" ") == 1]
        self.answers = [(float(moment), int(status)) for moment, status in rows]

    def failed_only_after(self, moment: float) -> bool:
        """There were answers before `moment`, none failed before it, and the last ones are answers again."""
        early = [status for began, status in self.answers if began < moment - 1]
        return bool(early) and {*early, self.answers[-1][1]} == {http.client.OK}


def kill(running: subprocess.Popen[str], step: str, seconds: float, *, group: bool) -> str:
    """Kills a script `seconds` after it said that `step` begins: alone, or with all that it started. Returns what it said."""
    assert running.stderr
    said = list[str]()
    reached, stream = threading.Event(), running.stderr

    def read() -> None:
        with stream:  # what was started may go on for a while, and holds the same stderr
            for line in stream:
                said.append(line)
                if line.startswith(f"==> {step}"):
                    reached.set()
        reached.set()

    threading.Thread(target=read).start()
    assert reached.wait(300), said
    time.sleep(seconds)
    if group:
        os.killpg(running.pid, signal.SIGKILL)
    else:
        running.kill()
    running.wait()
    return "".join(said)


def moments(steps: Mapping[str, float], usually: int = 5) -> list[tuple[str, float, bool]]:
    """OFFLINE_KIT_MOMENTS (`usually`) moments by OFFLINE_KIT_SEED (1): a step, seconds after it began, whole group or not."""
    dice = random.Random(int(os.environ.get("OFFLINE_KIT_SEED", "1")))
    chosen = []
    for number in range(int(os.environ.get("OFFLINE_KIT_MOMENTS", usually))):
        step = list(steps)[number % len(steps)]
        chosen.append((step, round(dice.uniform(0, steps[step]), 2), bool(number % 2)))
    return chosen


def settings(path: Path) -> dict[str, str]:
    """KEY=value lines of a file."""
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line and not line.startswith("#"))


def make_version(
    shelf: scripts_kit.Shelf,
    folder: Path,
    dockerd: Dockerd,
    *,
    name: str,
    version: str = "v1.0.0",
    ports: int = 18800,
) -> Host:
    """A kit `name` in `folder`, on ports from `ports` on; not installed."""
    kit = scripts_kit.make_kit(shelf, folder)
    facts = (kit / "deploy/kit.env").read_text()
    facts = facts.replace("KIT_NAME=test-kit", f"KIT_NAME={name}").replace("KIT_VERSION=v1.0.0", f"KIT_VERSION={version}")
    scripts_kit.rewrite(kit, "deploy/kit.env", facts.encode())
    moved = {key: ports + number for number, key in enumerate(scripts_kit.PORTS)}
    for file in (".env.example", "config/models.json"):
        text = (kit / file).read_text()
        for key, port in scripts_kit.PORTS.items():
            text = text.replace(str(port), str(moved[key]))
        scripts_kit.rewrite(kit, file, text.encode())
    return Host(kit, dockerd, moved)


def edit_models(host: Host, key: str, **fields: object) -> None:
    """Changes fields of a model in config/models.json, as an operator or a new bundle does; None takes one away."""
    path = host.kit / "config/models.json"
    data = json.loads(path.read_text())
    for field, value in fields.items():
        if value is None:
            data["models"][key].pop(field, None)
        else:
            data["models"][key][field] = value
    path.write_text(json.dumps(data, indent=2) + "\n")


def reseal(host: Host, *names: str) -> None:
    """What was changed in these files is what the bundle brings."""
    for name in names:
        scripts_kit.rewrite(host.kit, name, (host.kit / name).read_bytes())
