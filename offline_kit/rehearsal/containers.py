"""Containers of a rehearsal: one that captures, and those that it watches.

Rules: nothing has a network but the loopback of a namespace of its own; what runs the image's code has no rights, a
read-only root and no folder of this machine that it could write; all of it is gone afterwards, and what a killed run left goes
with the next.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import docker.errors
import requests

from offline_kit.common.docker_engine import translate_docker_errors
from offline_kit.common.errors import DockerError, RehearsalFailed
from offline_kit.rehearsal import answers
from offline_kit.rehearsal.answers import read_lines
from offline_kit.rehearsal.attempts import Attempt
from offline_kit.rehearsal.engine_image import WHERE
from offline_kit.runtime.rehearsal import capture
from offline_kit.runtime.serve import CACHE

_LABEL = "offline-kit.rehearsal"
_USER = "10001:10001"  # as the services of a kit on a host that root installs
# Its packets, its route, the resolver's port; and to look up who holds a socket: the last two.
_RIGHTS = ("NET_RAW", "NET_ADMIN", "NET_BIND_SERVICE", "SYS_PTRACE", "DAC_READ_SEARCH")
_READY = 60.0  # seconds until a capture sees its own attempts
_LOGS = {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "1"}}
RUNTIME = "/opt/offline-kit/runtime"


@dataclass(frozen=True)
class Ran:
    """How a container ended, and what it wrote."""

    code: int
    output: str
    errors: str


class Captured:
    """The capture of one namespace: one of its own, with a resolver's configuration, or that of the container ``of``.

    ``attempts`` has what it saw, once it is finished.
    """

    def __init__(
        self, engine: docker.DockerClient, image: str, kit: Path, *, resolver: Path | None = None, of: str | None = None
    ) -> None:
        self.attempts: list[Attempt] = []
        self._engine, self._image = engine, image
        self._mounts = [f"{kit}/runtime:{RUNTIME}:ro", *([f"{resolver}:/etc/resolv.conf:ro"] if resolver else [])]
        beside = f"container:{of}"
        self._namespaces = {"network_mode": beside, "pid_mode": beside} if of else {"network_mode": "none"}
        self._container: Any = None

    def start(self) -> None:
        """Starts it; when this returns it has seen attempts of its own. Raises DockerError."""
        with translate_docker_errors(WHERE):
            self._container = self._engine.containers.create(
                self._image, entrypoint=list(capture.START), command=[], user="0:0", read_only=True, cap_drop=["ALL"],
                cap_add=list(_RIGHTS), security_opt=["no-new-privileges:true"], **self._namespaces, volumes=self._mounts,
                labels={_LABEL: _run()}, log_config=_LOGS,
            )  # fmt: skip
        try:
            with translate_docker_errors(WHERE):
                self._container.start()
            self._wait()
        except BaseException:
            self.remove()
            raise

    def finish(self) -> None:
        """Ends it and takes what it saw. Raises DockerError where it lost something or had ended already."""
        with contextlib.suppress(docker.errors.APIError):  # it ended before, and says so below
            self._container.kill("SIGTERM")
        with translate_docker_errors(WHERE):
            code = self._container.wait(timeout=60)["StatusCode"]
        self._read(code)

    def remove(self) -> None:
        """Takes its container away; safe to call twice."""
        _remove(self._container)

    def __enter__(self) -> Captured:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            if exception[0] is None:
                self.finish()
        finally:
            self.remove()

    def run(self, command: Sequence[str], *, mounts: Sequence[str], environment: Mapping[str, str], seconds: float) -> Ran:
        """Runs ``command`` in the image, watched. Raises RehearsalFailed where it takes longer than ``seconds``."""
        inside = f"container:{self._container.id}"
        with translate_docker_errors(WHERE):
            container = self._engine.containers.create(
                self._image, entrypoint=list(command), command=[], user=_USER, read_only=True, cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"], network_mode=inside, pid_mode=inside, volumes=list(mounts),
                tmpfs={"/tmp": "exec,mode=1777", CACHE: "exec,mode=1777"}, environment=dict(environment),
                labels={_LABEL: _run()}, log_config=_LOGS, pids_limit=32768, shm_size="1g",
            )  # fmt: skip
        try:
            with translate_docker_errors(WHERE):
                container.start()
                code = container.wait(timeout=seconds)["StatusCode"]
                said = [container.logs(stdout=out, stderr=not out).decode("utf-8", "replace") for out in (True, False)]
        except DockerError as error:
            if isinstance(error.__cause__, requests.exceptions.ConnectionError | requests.exceptions.Timeout):
                what = f"the engine image did not end within {seconds:.0f} s"
                raise RehearsalFailed(
                    what, where=WHERE, remedy="see whether this machine is busy, then run it again"
                ) from error
            raise
        finally:
            _remove(container)
        return Ran(code, *said)

    def _wait(self) -> None:
        """Until the capture has seen attempts of its own. Raises DockerError."""
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline:
            with translate_docker_errors(WHERE):
                self._container.reload()
                said = self._container.logs().decode("utf-8", "replace")
            if '{"ready": true}' in said:
                return
            if self._container.status not in ("created", "running"):
                break
            time.sleep(0.05)
        lines = said.strip().splitlines()
        what = f"the capture does not see what it sends itself: {lines[-1][:300] if lines else 'it said nothing'}"
        raise DockerError(what, where=WHERE, remedy="it needs NET_ADMIN and NET_RAW in a container of its own")

    def _read(self, code: int) -> None:
        with translate_docker_errors(WHERE):
            said = self._container.logs(stdout=True, stderr=False).decode("utf-8", "replace")
        records = read_lines(said, answers.Captured)
        self.attempts = [Attempt.of(record) for record in records if record.asked]
        if code != 0 or not records or not records[-1].ended:
            what = f"the capture ended with {code}, {records[-1].lost if records else 0} packets lost"
            raise DockerError(what, where=WHERE, remedy="what it did not see may have been there: run the rehearsal again")


@contextlib.contextmanager
def held_images(engine: docker.DockerClient, tags: Collection[str]) -> Iterator[None]:
    """Keeps those images that are there from being removed meanwhile: a container that is never started uses each."""
    holders = []
    try:
        for tag in tags:
            with translate_docker_errors(WHERE), contextlib.suppress(docker.errors.ImageNotFound):
                holders.append(engine.containers.create(tag, command=["true"], network_mode="none", labels={_LABEL: _run()}))
        yield
    finally:
        for holder in holders:
            _remove(holder)


def sweep(engine: docker.DockerClient) -> None:
    """Removes containers of rehearsals on this machine whose process is gone."""
    host, _, _ = _run().rpartition(":")
    with translate_docker_errors(WHERE):
        for container in engine.containers.list(all=True, filters={"label": _LABEL}):
            owner, _, pid = container.labels.get(_LABEL, "").rpartition(":")
            if owner == host and pid.isdigit() and not Path("/proc", pid).exists():
                _remove(container)


def _run() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _remove(container: Any) -> None:
    with contextlib.suppress(docker.errors.DockerException, requests.RequestException):
        container.remove(force=True, v=True)


@contextlib.contextmanager
def captured(engine: docker.DockerClient, image: str, kit: Path, resolver: Path) -> Iterator[Captured]:
    """A namespace of its own with nothing but a loopback, and the capture in it."""
    sweep(engine)
    with Captured(engine, image, kit, resolver=resolver) as running:
        yield running
