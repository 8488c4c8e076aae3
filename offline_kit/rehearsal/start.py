"""The start rehearsal: the kit's own install.sh in a project that is thrown away, every service watched, then removed.

Rules: install.sh is run as an operator runs it, and its smoke test with it; whatever a service asks for outside of its own
networks is a finding; whatever the end, nothing of the project stays.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import docker

from offline_kit.common.child_process import Ended, TookTooLong, run_child
from offline_kit.common.errors import DockerError, RehearsalFailed
from offline_kit.common.progress import Progress
from offline_kit.host.validate import Services
from offline_kit.rehearsal.answers import read_receipt
from offline_kit.rehearsal.attempts import tell
from offline_kit.rehearsal.containers import held_images
from offline_kit.rehearsal.engine_image import WHERE
from offline_kit.rehearsal.throwaway import Throwaway
from offline_kit.rehearsal.watcher import Watcher
from offline_kit.runtime.settings.replicas import engines
from offline_kit.spec.lock import Lock

_PASSED_ON = ("DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR")
_PATIENCE = 4 * 3600.0  # seconds for an installation; each service has the time that .env gives it
_REMOVAL = 600.0
_REMEDY = "as the line says; docs/host-checks.md has more of each"


def rehearse_start(
    engine: docker.DockerClient,
    image: str,
    throwaway: Throwaway,
    lock: Lock,
    services: Services,
    work: Path,
    progress: Progress,
) -> dict[str, str]:
    """Service -> what came of it. ``work``: a folder that Docker can see. Raises RehearsalFailed with every finding."""
    progress.note(f"rehearsing the start: install.sh as the project {throwaway.project}, removed afterwards")
    receipt = work / "receipt.json"
    tags = [locked.tag(key) for key, locked in lock.images.items()]
    with held_images(engine, tags), Watcher(engine, image, throwaway.kit, throwaway.project) as watcher:
        try:
            arguments = ("--yes", "--env-file", str(throwaway.settings), "--json-receipt", str(receipt))
            ended = _run(throwaway, "install.sh", *arguments, seconds=_PATIENCE)
            seen = watcher.finish(whole=ended.code == 0)
        finally:
            removed = _run(throwaway, "scripts/deploy.sh", "uninstall", "--force", seconds=_REMOVAL)
    names = [each.service for each in engines(services.settings)] + ["gateway"]
    if ended.code == 0 and (missed := sorted(set(names) - {service for service, _ in seen})):
        remedy = "what was not watched may have asked for anything: run the rehearsal again"
        raise DockerError(f"not heard of by the captures: {', '.join(missed)}", where=WHERE, remedy=remedy)
    found = [*_failures(ended), *(line for service, attempts in seen for line in tell(attempts, {}, {}, service))]
    if found:
        raise RehearsalFailed("\n".join(["found what would not work on the host:", *found]), where=WHERE)
    if removed.code != 0:
        what = f"the project {throwaway.project} could not be removed: {removed.last_line}"
        raise DockerError(
            what, where=WHERE, remedy=f"docker ps --all --filter label=com.docker.compose.project={throwaway.project}"
        )
    answered = read_receipt(receipt.read_bytes())
    return {name: "answered" if name in answered else "healthy" for name in names}


def _failures(ended: Ended) -> Iterator[str]:
    """What install.sh ended with, and each finding of its checks, with the remedy that follows."""
    if ended.code == 0:
        return
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in ended.output.splitlines()]
    told = [number for number, line in enumerate(lines) if line.startswith(("error: ", "FAIL  "))]
    for number in told or [len(lines) - 1]:
        after = lines[number + 1].strip().removeprefix("-> ") if lines[number + 1 : number + 2] else ""
        text = " ".join(lines[number].removeprefix("error: ").split()) if lines else "it said nothing"
        indented = bool(after) and lines[number + 1].startswith(" ")
        yield f"install.sh (exit code {ended.code}): {text} -> {after if indented else _REMEDY}"


def _run(throwaway: Throwaway, script: str, *arguments: str, seconds: float) -> Ended:
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    environment["PATH"] = f"{throwaway.path}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        return run_child(
            [str(throwaway.kit / script), *arguments], seconds=seconds, folder=throwaway.kit, environment=environment
        )
    except TookTooLong as error:
        raise RehearsalFailed(f"{script} did not end within {seconds:.0f} s", where=WHERE) from error
    except OSError as error:
        what = f"{script} cannot be run: {error.strerror}"
        raise DockerError(what, where=WHERE, remedy="the store's disk may be mounted noexec: choose another --store") from error
