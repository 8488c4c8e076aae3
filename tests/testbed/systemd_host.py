"""A whole host that boots: systemd as PID 1 with Debian's own Docker as a service, in a container without a network.

Rules: (1) its root file system is debootstrap's, kept in the cache; it has no Python, curl, jq or zstd; (2) capabilities are
named one by one instead of `--privileged`, so that the machine's devices stay out of reach; (3) its Docker's data is a folder
outside of it, which survives, like a disk, when the host is cut off and started again; (4) it has a loopback and nothing else.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.testbed import cache, engines
from tests.testbed.dockerd import Dockerd
from tests.testbed.process import TestbedError, run

PACKAGES = ("systemd-sysv", "docker.io", "iptables", "procps", "kmod")
LEFT_OUT = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
    "./dev/*",
)
# what a container gets of cgroups is read-only; a host that runs Docker has to make groups
BOOT = """\
#!/bin/sh
for group in /sys/fs/cgroup/*/ /sys/fs/cgroup; do mount -o remount,bind,rw "$group" 2>/dev/null; done
exec /sbin/init
"""
CAPABILITIES = (
    *("DAC_READ_SEARCH", "LINUX_IMMUTABLE", "NET_BROADCAST", "NET_ADMIN", "IPC_LOCK", "SYS_PTRACE", "SYS_ADMIN", "SYS_BOOT"),
    *("SYS_NICE", "SYS_TIME", "LEASE", "AUDIT_CONTROL", "SYSLOG"),
)
IMAGE, RECIPE = "offline-kit-test/systemd-host:1", "1"


class SystemdHost:
    """One such host in a running `outer` Dockerd; a context manager that boots it and removes it.

    `disk` becomes its /var/lib/docker, `folder` its /srv, and `programs` lie where they do here, to be read; all are folders
    of this machine.
    """

    def __init__(self, outer: Dockerd, name: str, disk: Path, folder: Path, programs: Sequence[Path] = ()) -> None:
        self._outer, self._name, self._disk, self._folder, self._programs = outer, name, disk, folder, programs

    def __enter__(self) -> SystemdHost:
        for place in (self._disk, self._folder):
            place.mkdir(parents=True, exist_ok=True)
        if not self._outer.docker("images", "--quiet", IMAGE):
            self._outer.docker("import", "--change", 'CMD ["/sbin/boot"]', str(root() / "root.tar"), IMAGE)
        options = ["--pull=never", f"--name={self._name}", "--hostname=target", "--network=none", "--env=container=docker"]
        options += ["--stop-signal=SIGRTMIN+3", "--device-cgroup-rule=a *:* rwm"]
        options += [f"--cap-add={name}" for name in CAPABILITIES]
        options += [f"--security-opt={name}=unconfined" for name in ("seccomp", "apparmor", "systempaths")]
        options += [f"--tmpfs={path}" for path in ("/run:exec", "/run/lock", "/tmp:exec")]
        options += [f"--volume={self._disk}:/var/lib/docker", f"--volume={self._folder}:/srv"]
        options += [f"--volume={path}:{path}:ro" for path in self._programs]
        plugin = engines.unpacked("trixie") / "docker-compose"
        options.append(f"--volume={plugin}:/usr/local/lib/docker/cli-plugins/docker-compose:ro")
        try:
            self._outer.docker("run", "--detach", *options, IMAGE)
            self.wait_for_docker()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends it for good."""
        self._outer.docker("rm", "--force", "--volumes", self._name)

    def power_cut(self) -> None:
        """Every process of it ends at once; then it boots."""
        self._outer.docker("kill", "--signal", "KILL", self._name)
        self._outer.docker("start", self._name)
        self.wait_for_docker()

    def run(self, *command: str, cwd: str = "/srv", timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """A command of root's; never raises on a non-zero exit."""
        argv = ["docker", "exec", "--workdir", cwd, self._name, *command]
        return self._outer.run(argv, timeout=timeout)

    @property
    def nsenter(self) -> Sequence[str]:
        """How to get into its network, for a client that is not on it."""
        pid = self._outer.docker("inspect", "--format", "{{.State.Pid}}", self._name)
        return ["nsenter", f"--net=/proc/{pid}/ns/net"]

    def wait_for_docker(self, seconds: float = 90) -> None:
        """Returns when systemd's docker.service answers. Raises TestbedError with its journal when the time is up."""
        deadline = time.monotonic() + seconds
        while self.run("docker", "info").returncode != 0:
            if time.monotonic() > deadline:
                said = self.run("journalctl", "--no-pager", "--lines", "60", "--boot").stdout
                raise TestbedError(
                    f"the systemd host's Docker does not answer:\n{said}\n{self._outer.docker('logs', self._name)}"
                )
            time.sleep(0.3)

    def links(self) -> list[str]:
        """Names of its network interfaces that lead out of it: none but the loopback and Docker's own bridges."""
        return [link["ifname"] for link in json.loads(run([*self.nsenter, "ip", "-json", "link"]))]


def root() -> Path:
    """The cache entry that has the root file system as `root.tar`."""
    suite = engines.suite()

    def make(target: Path) -> None:
        folder = target / "root"
        run(["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", suite, str(folder), engines.mirror()])
        (folder / "sbin/boot").write_text(BOOT)
        (folder / "sbin/boot").chmod(0o755)
        excluded = [f"--exclude={pattern}" for pattern in LEFT_OUT]
        run(["tar", "-C", str(folder), "--numeric-owner", *excluded, "-cf", str(target / "root.tar"), "."])
        shutil.rmtree(folder)

    return cache.entry("systemd-host", cache.key_of(RECIPE, suite, BOOT, *PACKAGES), make)
