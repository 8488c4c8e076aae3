"""A kit in a folder and under a name of its own, to be installed, asked and removed again.

Rules: the kit that is rehearsed is not touched: images and models are hard links, what is changed is a copy; changed are the
name (so that no project of this Docker is meant), how weights are loaded where that is asked for, and what SHA256SUMS says of
both; published are free ports on this machine's loopback; engines and router wait for their capture, then become what they
are in any kit.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offline_kit.bundle.format import paths
from offline_kit.bundle.write.kit_folder import link_file
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged, DockerError
from offline_kit.common.files import disk_errors
from offline_kit.host.validate import Services
from offline_kit.rehearsal.containers import RUNTIME
from offline_kit.rehearsal.engine_image import WHERE
from offline_kit.runtime.render import compose
from offline_kit.runtime.settings.model import port_variable
from offline_kit.spec.lock import Lock

_GATE = ("python3", "-I", "-S", f"{RUNTIME}/rehearsal/gate.py")
_DOCKER = """\
#!/usr/bin/env bash
# Docker's client; to the project's own Compose file it adds what makes a service wait for its capture.
words=() added=''
for word in "$@"; do
    words+=("$word")
    [[ -n "$added" || "$word" != */.state/compose.yaml ]] || { words+=(-f @OVERRIDE@) && added=yes; }
done
exec @DOCKER@ "${words[@]}"
"""


@dataclass(frozen=True)
class Throwaway:
    """``project``: its name in Compose; ``path``: a folder that comes first in PATH; ``settings``: a file for install.sh."""

    kit: Path
    project: str
    path: Path
    settings: Path


def make_throwaway(kit: Path, lock: Lock, services: Services, work: Path, resolver: Path, *, dummy: bool = False) -> Throwaway:
    """The kit in the folder ``kit`` once more, below ``work``; ``dummy``: no engine reads its weights.

    Raises DiskError, BundleDamaged and DockerError."""
    docker = shutil.which("docker")
    if docker is None:
        remedy = "install Docker's client and Compose, or rehearse the configuration alone"
        raise DockerError("the client of Docker is not there, which the kit's own scripts use", where=WHERE, remedy=remedy)
    name = f"rehearsal-{secrets.token_hex(4)}"
    copy, path, override, settings = work / "throwaway", work / "bin", work / "override.json", work / "settings"
    with disk_errors(work):
        _copy_kit(kit, copy)
        text = (copy / paths.KIT_ENV).read_text(encoding="utf-8")
        _rewrite(copy, paths.KIT_ENV, re.sub(r"(?m)^KIT_NAME=.*$", f"KIT_NAME={name}", text).encode())
        if dummy:
            _rewrite(copy, f"{paths.CONFIG}/models.json", _without_weights((copy / f"{paths.CONFIG}/models.json").read_bytes()))
        override.write_text(json.dumps(_override(lock, services, resolver)), encoding="utf-8")
        settings.write_text(_settings(services), encoding="utf-8")
        path.mkdir()
        program = path / "docker"
        program.write_text(_DOCKER.replace("@OVERRIDE@", f"'{override}'").replace("@DOCKER@", f"'{docker}'"), encoding="utf-8")
        program.chmod(0o755)
    return Throwaway(copy, name, path, settings)


def _copy_kit(kit: Path, copy: Path) -> None:
    """What SHA256SUMS names, and it; nothing of the operator's."""
    copy.mkdir(mode=0o755)
    names = [line[66:] for line in (kit / paths.SUMS).read_text(encoding="utf-8").splitlines()]
    for name in (paths.SUMS, *names):
        source, target = kit / name, copy / name
        if ".." in Path(name).parts or not source.is_file():
            raise BundleDamaged("is missing", where=f"{kit}: {name}", remedy="unpack the bundle again")
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if paths.is_payload(name):
            link_file(source, target)
        else:
            shutil.copy(source, target)
    for name in names:
        if name.startswith(f"{paths.CONFIG}/"):  # of an installed kit, as its operator has it
            _rewrite(copy, name, (copy / name).read_bytes())


def _rewrite(kit: Path, name: str, data: bytes) -> None:
    (kit / name).write_bytes(data)
    sums = kit / paths.SUMS
    lines = sums.read_text(encoding="utf-8").splitlines()
    lines = [f"{Digest.of(data).hex}  {name}" if line[66:] == name else line for line in lines]
    sums.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _without_weights(models: bytes) -> bytes:
    """models.json with ``load_format: dummy`` of every model: vLLM then makes random weights of the right shapes."""
    content = json.loads(models)
    for model in content["models"].values():
        arguments = {name: value for name, value in model.get("engine_args", {}).items() if name != "load-format"}
        model["engine_args"] = {**arguments, "load_format": "dummy"}
    return json.dumps(content, indent=2).encode()


def _override(lock: Lock, services: Services, resolver: Path) -> dict[str, Any]:
    """What is added to the kit's own Compose file: the gate before each command, and for engines the capture as name server."""
    kit = compose.Kit(lock.name, "rehearsal", {key: image.tag(key) for key, image in lock.images.items()})
    project = compose.project(services.settings, services.placement, kit)
    bind = {"type": "bind", "source": str(resolver), "target": "/etc/resolv.conf", "read_only": True}
    return {
        "services": {
            name: {"entrypoint": [*_GATE, *service["entrypoint"]], **({"volumes": [bind]} if name != "router" else {})}
            for name, service in project["services"].items()
            if name == "router" or name.startswith("engine-")
        }
    }


def _settings(services: Services) -> str:
    variables = ["VLLM_ROUTER_PORT", *(port_variable(model.key) for model in services.settings.models)]
    held = [socket.socket() for _ in variables]
    try:
        for each in held:  # all at once, so that no port comes twice
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in held]
    finally:
        for each in held:
            each.close()
    lines = [f"{name}={port}" for name, port in zip(variables, ports, strict=True)]
    return "".join(f"{line}\n" for line in ["OFFLINE_KIT_BIND=127.0.0.1", *lines])
