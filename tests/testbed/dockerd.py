"""A throwaway Docker engine: the real `dockerd`, beside whatever Docker the machine has, touching none of it.

Rules: (1) everything lies under one folder that the caller gives: data root, exec root, pid file, socket, log and the
client's configuration; (2) without `airgap` it lives in the network namespace of the machine, makes no bridge and no
firewall rule there, so builds use `--network host`; (3) with `airgap` it lives in its own network namespace that has
only a loopback: containers get bridges and ports there and can reach nothing else; (4) it is stopped by its pid, then
every mount, shim process and namespace that it left is removed; (5) a pid file that outlived its daemon is deleted,
one whose daemon lives is an error.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.testbed import cache, compose
from tests.testbed.process import Process, TestbedError, run


class Dockerd:
    """One Docker engine; a context manager that starts it and stops it.

    `folder` must be absent, empty or one that an earlier Dockerd left (its images are then still there).
    `runtimes` maps names of OCI runtimes to programs, `path` lists folders that come first in the daemon's PATH (for
    another version's binaries or stand-ins of vendor hooks), `compose` is the client's Compose plug-in (None: the one that
    tests.testbed.compose finds), `settings` goes into daemon.json.
    """

    def __init__(
        self,
        folder: Path,
        *,
        airgap: bool = False,
        runtimes: Mapping[str, Path] | None = None,
        path: Sequence[Path] = (),
        compose: Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.socket = self.folder / "docker.sock"
        self.log = self.folder / "dockerd.log"
        self.namespace = f"offline-kit-{secrets.token_hex(4)}" if airgap else None
        self.nsenter = ["nsenter", f"--net=/run/netns/{self.namespace}"] if airgap else []
        self._search = os.pathsep.join([*map(str, path), os.environ.get("PATH", ""), "/usr/sbin:/usr/bin:/sbin:/bin"])
        self._compose = compose
        self._settings = {**(settings or {})}
        if runtimes:
            self._settings["runtimes"] = {name: {"path": str(program)} for name, program in runtimes.items()}
        longest = self.folder / "exec/containerd/containerd-debug.sock"
        if len(str(longest)) > 107:  # sun_path of Linux
            raise TestbedError(f"{longest}: too long a path for a socket")
        self._process: Process | None = None

    @property
    def env(self) -> dict[str, str]:
        """What a subprocess adds to its environment to use this engine: DOCKER_HOST, DOCKER_CONFIG, PATH."""
        return {
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self.folder / "client"),
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{self._search}",
        }

    def docker(self, *arguments: str, stdin: bytes | None = None, cwd: Path | None = None) -> str:
        """Runs the client against this engine, inside its network namespace; stdout stripped, TestbedError on failure."""
        return run(
            [*self.nsenter, "docker", *arguments], env={**self.env, "DOCKER_BUILDKIT": "0"}, stdin=stdin, cwd=cwd
        ).strip()

    def run(
        self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 600
    ) -> subprocess.CompletedProcess[str]:
        """Runs any program as if on this engine's host: its network namespace and `env`; whatever it exits with.

        stdout and stderr come back as text; `timeout` is in seconds, after which subprocess.TimeoutExpired is raised.
        """
        command, around = [*self.nsenter, *argv], {**os.environ, **self.env, **(env or {})}
        return subprocess.run(
            command, cwd=cwd, env=around, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )

    def start(self) -> None:
        """Starts the daemon and returns when it answers. Raises TestbedError when it is missing or does not within 60 s."""
        dockerd = shutil.which("dockerd", path=self._search)
        if not dockerd or os.geteuid() != 0:
            raise TestbedError("dockerd is missing or you are not root; bash tests/testbed/setup.sh says what to install")
        self._lay_out(dockerd)
        name = cache.key_of(str(self.folder))  # for a containerd of the machine, which dockerd would share
        argv = [
            dockerd, "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
            "--pidfile", str(self.folder / "pid"), "--config-file", str(self.folder / "daemon.json"),
            "--host", f"unix://{self.socket}",
            "--containerd-namespace", f"testbed-{name}",
            "--containerd-plugins-namespace", f"testbed-plugins-{name}",
        ]  # fmt: skip
        if self.namespace and not Path("/run/netns", self.namespace).exists():
            run(["ip", "netns", "add", self.namespace])
            run(["ip", "-n", self.namespace, "link", "set", "lo", "up"])
        if not self.namespace:
            argv += ["--bridge", "none", "--iptables=false", "--ip6tables=false"]
        self._process = Process([*self.nsenter, *argv], self.log, {"PATH": self._search})
        try:
            self._process.wait_until(self._answers, 60, "dockerd")
        except BaseException:
            self.stop()
            raise

    def shims(self) -> set[int]:
        """The processes with which containerd looks after containers, one each; it has none for one that was not started."""
        return {pid for pid in _pids() if "shim" in (line := _command_line(pid)) and str(self.folder / "exec") in line}

    def die(self) -> None:
        """Kills the daemon where it stands; ``start`` brings it back. Its containers go on meanwhile."""
        assert self._process
        self._process.stop(0)
        inner = self.folder / "exec/containerd/containerd.pid"
        deadline = time.monotonic() + 10
        while inner.exists() and _command_line(int(inner.read_text() or 0)) and time.monotonic() < deadline:
            time.sleep(0.05)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The daemon and its containerd stand still meanwhile: nothing of theirs is written."""
        assert self._process
        pids = [self._process.pid, *(pid for pid in _pids() if str(self.folder / "exec") in _command_line(pid))]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        """Stops the daemon and removes what it left outside its folder; the folder stays. Safe to call twice."""
        if self._process:
            self._process.stop(30)
            self._process = None
        self._stop_leftovers()
        for mount in sorted(self._mounts(), reverse=True):
            subprocess.run(["umount", "--lazy", mount], check=False)
        if self.namespace and Path("/run/netns", self.namespace).exists():
            run(["ip", "netns", "delete", self.namespace])

    def __enter__(self) -> Dockerd:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _lay_out(self, dockerd: str) -> None:
        for name in ("data", "exec", "bin", "client/cli-plugins"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "daemon.json").write_text(json.dumps(self._settings))
        # the client of the same packages as the daemon, whatever else is first in PATH
        beside = os.pathsep.join([str(Path(dockerd).parent), "/usr/bin", self._search])
        client = shutil.which("docker", path=beside)
        if not client:
            raise TestbedError("the docker client is missing; bash tests/testbed/setup.sh installs it")
        plugin = self._compose or compose.plugin()
        for link, target in (("bin/docker", client), ("client/cli-plugins/docker-compose", str(plugin))):
            (self.folder / link).unlink(missing_ok=True)
            (self.folder / link).symlink_to(target)
        pidfile = self.folder / "pid"
        if pidfile.exists():
            if str(self.folder) in _command_line(int(pidfile.read_text() or 0)):
                raise TestbedError(f"a dockerd already runs in {self.folder} (pid {pidfile.read_text()})")
            pidfile.unlink()
        inner = self.folder / "exec/containerd/containerd.pid"  # of one that died with its daemon, too
        if inner.exists() and str(self.folder) not in _command_line(int(inner.read_text() or 0)):
            inner.unlink()

    def _answers(self) -> bool:
        if not self.socket.exists():
            return False
        ask = [*self.nsenter, str(self.folder / "bin/docker"), "version", "--format", "{{.Server.Version}}"]
        return subprocess.run(ask, env={**os.environ, **self.env}, capture_output=True, check=False).returncode == 0

    def _stop_leftovers(self) -> None:
        """Ends containerd and shims that name our own exec root in their arguments: nobody else's can."""
        deadline = time.monotonic() + 10
        while pids := [pid for pid in _pids() if str(self.folder / "exec") in _command_line(pid)]:
            late = time.monotonic() > deadline
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if late else signal.SIGTERM)
            time.sleep(0.2)
            if time.monotonic() > deadline + 10:
                raise TestbedError(f"processes {pids} of {self.folder} do not end")

    def _mounts(self) -> Iterator[str]:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            where = line.split(" ")[1].encode().decode("unicode_escape")
            if where.startswith(f"{self.folder}/"):
                yield where


def _pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
