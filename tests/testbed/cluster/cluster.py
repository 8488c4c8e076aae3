"""One node of Kubernetes 1.20 in namespaces and cgroups of its own: no cluster DNS, no enforcement of policies.

Rules: its network has one link and no way out; whoever is asked inside is asked through ``inside``; it ends with its first
process, and with it every mount and process; cgroups of version 1 only.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.testbed.cluster import certificates
from tests.testbed.cluster.programs import programs
from tests.testbed.process import TestbedError, run, tail

ADDRESS, SERVICE = "10.99.0.1", "10.96.0.1"
NODE = Path(__file__).with_name("node.sh")
CGROUPS = Path("/sys/fs/cgroup")
_KINDS = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd")
_SPACES = ("--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--propagation", "private")


class Cluster:
    """The cluster with its files in ``folder``; a context manager. ``registry``: HOST:PORT that is asked over plain HTTP."""

    def __init__(self, folder: Path, registry: str) -> None:
        self.folder, self.name, self._registry = folder, f"okc{os.getpid()}", registry
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def inside(self) -> list[str]:
        """What comes before a command that runs in the node's network."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def __enter__(self) -> Cluster:
        if not (CGROUPS / "cpuset").is_dir():
            raise TestbedError("this cluster needs cgroups of version 1")
        made = programs()
        for part in ("log", "pki"):
            (self.folder / part).mkdir(parents=True)
        certificates.write(self.folder / "pki", ADDRESS, SERVICE)
        _write_image(self.folder / "pause.img.tar", "localhost/pause:1", made / "pause.tar", ["/pause"])
        try:
            self._start(made)
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _start(self, made: Path) -> None:
        run(["ip", "netns", "add", self.name])
        # A link with an address, and a route, without which addresses of Services lead nowhere.
        for words in (
            "link set lo up",
            "link add eth0 type veth peer name eth0p",
            "link set eth0p up",
            f"addr add {ADDRESS}/24 dev eth0",
            "link set eth0 up",
            "route add default via 10.99.0.254 dev eth0",
        ):
            run(["ip", "-n", self.name, *words.split()])
        for kind in _KINDS:
            (CGROUPS / kind / self.name).mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            (CGROUPS / "cpuset" / self.name / name).write_text((CGROUPS / "cpuset" / name).read_text())
        command = [*self.inside, "unshare", *_SPACES, "bash", str(NODE), str(made), str(self.folder), self.name, ADDRESS]
        with (self.folder / "log/node").open("wb") as log:
            self._process = subprocess.Popen(
                [*command, self._registry], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _wait(self) -> None:
        ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(TestbedError):
                if self.kubectl("get", "node", "node1", "-o", ready) == "True" and self.kubectl("get", "sa", "default"):
                    return
            time.sleep(0.5)
        logs = sorted((self.folder / "log").iterdir())
        raise TestbedError("\n".join(f"{log.name}: {tail(log, 3)}" for log in logs))

    def kubectl(self, *words: str, stdin: bytes | None = None, timeout: float = 120) -> str:
        """What kubectl prints. Raises TestbedError."""
        config = str(self.folder / "pki/admin.conf")
        return run([*self.inside, "kubectl", "--kubeconfig", config, *words], stdin=stdin, timeout=timeout)

    def apply(self, objects: list[dict[str, Any]]) -> None:
        """Applies the objects. Raises TestbedError."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listed).encode())

    def stop(self) -> None:
        """Ends every process, and removes network and cgroups."""
        if self._process is not None:
            # unshare's child is the node's process 1: with it ends all that it started.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True, check=False)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            left = [CGROUPS / kind / self.name for kind in _KINDS if (CGROUPS / kind / self.name).exists()]
            if not left:
                break
            for top in left:
                below = [path for path in top.rglob("*") if path.is_dir()]
                for folder in [*sorted(below, key=lambda path: -len(path.parts)), top]:
                    with contextlib.suppress(OSError):
                        folder.rmdir()
            time.sleep(0.3)
        shutil.rmtree(self.folder / "containerd", ignore_errors=True)


def _write_image(target: Path, name: str, layer: Path, command: list[str]) -> None:
    """An image of one layer in the form of ``docker save``."""
    content = layer.read_bytes()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(content).hexdigest()}"]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "config": {"Cmd": command}, "rootfs": rootfs}).encode()
    file = f"{hashlib.sha256(config).hexdigest()}.json"
    listed = json.dumps([{"Config": file, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(target, "w") as archive:
        for path, data in ((file, config), ("layer.tar", content), ("manifest.json", listed)):
            info = tarfile.TarInfo(path)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
