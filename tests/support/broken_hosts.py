"""Hosts for the checks of an installation, whole or with one thing wrong each, made of stand-ins at the wire.

Rules: (1) the scripts, the docker client and Compose are the real ones; what they talk to is made up: the Docker API behind a
socket, nvidia-smi, uname, date, df, getenforce in PATH, files of /proc by bind mounts in a mount namespace of the run; (2) a
stand-in of Docker that is asked to change something says no and keeps it; (3) whatever a run leaves in the kit or in its
temporary folder is seen.
"""

from __future__ import annotations

import http.server
import json
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.scripts.test_sums import PATH_TOOLS
from tests.support import scripts_kit
from tests.support.nvidia_stand_in import Card, nvidia_smi
from tests.testbed import compose

INFO: Mapping[str, Any] = {
    "DockerRootDir": "/var/lib",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "SecurityOptions": ["name=seccomp,profile=default"],
    "MemoryLimit": True,
    "PidsLimit": True,
    "IPv4Forwarding": True,
    "Runtimes": {"runc": {"path": "runc"}, "nvidia": {"path": "nvidia-container-runtime"}},
}
GIB_IN_KIB = 1 << 20


class Api(http.server.BaseHTTPRequestHandler):
    """The part of Docker's API that looking needs."""

    server: Docker

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if "/images/" in path or ("/containers/" in path and not path.endswith("/containers/json")):
            self._say(404, {"message": "no such object"})
        elif path.endswith("/containers/json"):
            self._say(200, [])
        elif path.endswith("/networks"):
            there = 0 if "label" in self.path else self.server.networks
            self._say(200, [{"Name": f"n{i}", "Id": f"{i:064x}", "Driver": "bridge", "Scope": "local"} for i in range(there)])
        elif path.endswith("/info"):
            self._say(200, dict(self.server.info))
        else:
            version = self.server.version
            parts = [{"Name": self.server.engine, "Version": version}]
            answer = {"Version": version, "ApiVersion": "1.40", "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64"}
            self._say(200, {**answer, "Components": parts})

    def do_POST(self) -> None:
        self.server.changes.append(f"{self.command} {self.path}")
        self._say(500, {"message": "this Docker is to be looked at only"})

    do_DELETE = do_PUT = do_POST

    def _say(self, status: int, answer: object) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("API-Version", "1.40")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


class Docker(socketserver.ThreadingUnixStreamServer):
    """A Docker engine that says `version` and `info`; `changes` has every request that would have changed it."""

    daemon_threads = True

    def __init__(self, address: Path, version: str, info: Mapping[str, Any], networks: int, engine: str) -> None:
        self.version, self.info, self.changes = version, info, list[str]()
        self.networks, self.engine = networks, engine
        super().__init__(str(address), Api)


@dataclass
class Host:
    """A host on which everything is fine; a test spoils it before `run`."""

    folder: Path
    kit: Path
    version: str = "27.5.1"
    info: dict[str, Any] = field(default_factory=lambda: dict(INFO))
    compose_version: str = ""  # another than the real plug-in's
    cards: list[Card] = field(default_factory=lambda: [Card(0), Card(1)])
    refused: tuple[str, ...] = ()  # fields that the driver does not know
    smi_fails: str = ""
    missing: tuple[str, ...] = ()  # programs that are not there
    programs: dict[str, str] = field(default_factory=dict)  # name -> script of a program that comes first in PATH
    files: dict[str, str] = field(default_factory=dict)  # path -> content, as the run sees it
    settings: str = ""  # further lines for .env
    env: dict[str, str] = field(default_factory=dict)  # further variables
    cleared: str = ""  # what tmpfiles.d of a host with systemd says
    mounted: str = ""  # options with which the kit's folder is mounted
    networks: int = 1  # that Docker has
    engine: str = "Engine"  # as which Docker's server calls itself
    changes: list[str] = field(default_factory=list)

    def without(self, program: str) -> Host:
        """Takes a program away, or `compose`."""
        self.missing += (program,)
        return self

    def model(self, **changes: Any) -> Host:
        """Changes fields of the chat model."""
        path = self.kit / "config/models.json"
        models = json.loads(path.read_text())
        models["models"]["chat"].update(changes)
        scripts_kit.rewrite(self.kit, "config/models.json", json.dumps(models).encode())
        return self

    def move(self, name: str) -> Host:
        """Puts the kit below a folder of that name."""
        (self.folder / name).mkdir()
        self.kit = self.kit.rename(self.folder / name / "a kit")
        return self

    def memory(self, total: int, available: int) -> Host:
        """Memory in GiB."""
        text = f"MemTotal: {total * GIB_IN_KIB} kB\nMemFree: 1 kB\nMemAvailable: {available * GIB_IN_KIB} kB\n"
        self.files["/proc/meminfo"] = text
        return self

    def run(self, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = self._lay_out()
        with self._docker() as address:
            env |= {"DOCKER_HOST": f"unix://{address}", **self.env}
            return scripts_kit.run(self.kit, script, *arguments, env=env, prefix=self._mounts())

    def _lay_out(self) -> dict[str, str]:
        first, last = self.folder / "bin", self.folder / "system"
        for folder in (first, last, self.folder / "tmp", self.folder / "client/cli-plugins"):
            folder.mkdir(exist_ok=True, parents=True)
        for name in {*PATH_TOOLS, "docker"} - set(self.missing):
            if not (last / name).is_symlink():
                (last / name).symlink_to(f"/usr/bin/{name}")
        if self.cards or self.smi_fails:
            nvidia_smi(first, self.cards, refused=self.refused, fails=self.smi_fails)
        for name, text in self.programs.items():
            (first / name).write_text(f"#!/bin/bash\n{text}\n")
            (first / name).chmod(0o755)
        plugin = self.folder / "client/cli-plugins/docker-compose"
        if self.compose_version:
            about = json.dumps({"SchemaVersion": "0.1.0", "Vendor": "x", "Version": self.compose_version})
            word = "docker-cli-plugin-metadata"
            plugin.write_text(f"#!/bin/sh\n[ \"$1\" = {word} ] && echo '{about}' || echo {self.compose_version}\n")
            plugin.chmod(0o755)
        elif "compose" not in self.missing and not plugin.is_symlink():
            plugin.symlink_to(compose.plugin())
        return {
            "PATH": f"{first}:{last}",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "TMPDIR": str(self.folder / "tmp"),
        }

    def _mounts(self) -> list[str]:
        # what clears this machine's folders is not this host's
        script = [
            f"{{ [ ! -d {folder} ] || /bin/mount -t tmpfs none {folder}; }}"
            for folder in ("/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/lib/tmpfiles.d")
        ]
        if self.cleared:
            conf = self.folder / "tmpfiles.conf"
            conf.write_text(self.cleared)
            script.append("/bin/mount -t tmpfs none /run && /bin/mkdir -p /run/systemd/system /run/tmpfiles.d")
            script.append(f"/bin/cp '{conf}' /run/tmpfiles.d/")
        if self.mounted:
            script.append(f"/bin/mount --bind '{self.kit}' '{self.kit}'")
            script.append(f"/bin/mount -o 'remount,bind,{self.mounted}' '{self.kit}'")
        for number, (path, text) in enumerate(self.files.items()):
            source = self.folder / f"file{number}"
            source.write_text(text)
            script.append(f"/bin/mount --bind '{source}' '{path}'")
        return [
            shutil.which("unshare") or "unshare",
            "--mount",
            "/bin/bash",
            "-c",
            " && ".join([*script, 'exec /bin/bash "$0" "$@"']),
        ]

    @contextmanager
    def _docker(self) -> Iterator[Path]:
        address = self.folder / "s"
        if self.version == "":
            yield address
            return
        with Docker(address, self.version, self.info, self.networks, self.engine) as server:
            threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
            try:
                yield address
            finally:
                server.shutdown()
                self.changes += server.changes
        address.unlink()
