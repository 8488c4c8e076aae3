"""The captures of a Compose project: one in each of its containers, from its start to the end of the rehearsal.

Rules: a thread hears of every start and puts a capture beside it; a service that has a gate waits for that, others are seen
from then on; what went wrong in the thread is raised by ``finish``.
"""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import docker
import docker.errors
import requests

from offline_kit.common.errors import DockerError, KitError
from offline_kit.rehearsal.attempts import Attempt
from offline_kit.rehearsal.containers import Captured

_SERVICE = "com.docker.compose.service"


class Watcher:
    """From ``with`` on, whatever starts in the project is captured; ``finish`` ends that."""

    def __init__(self, engine: docker.DockerClient, image: str, kit: Path, project: str) -> None:
        self._engine, self._image, self._kit = engine, image, kit
        filters = {"type": "container", "event": "start", "label": f"com.docker.compose.project={project}"}
        self._events: Any = engine.events(since=int(time.time()), filters=filters, decode=True)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._captures: list[tuple[str, Captured]] = []
        self._error: KitError | None = None

    def __enter__(self) -> Watcher:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()
        for _, capture in self._captures:
            capture.remove()

    def finish(self, *, whole: bool) -> list[tuple[str, list[Attempt]]]:
        """Service -> what it asked for. ``whole``: every service ran to the end, else captures may have ended with theirs.

        Raises DockerError where a capture did not start, lost something or ended before its time.
        """
        self._stop()
        if self._error is not None:
            raise self._error
        for _, capture in self._captures:
            try:
                capture.finish()
            except DockerError:
                if whole:
                    raise
        return [(service, capture.attempts) for service, capture in self._captures]

    def _stop(self) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError):
            self._events.close()
        self._thread.join(timeout=60)

    def _follow(self) -> None:
        with contextlib.suppress(docker.errors.DockerException, requests.RequestException, OSError, ValueError):
            for event in self._events:
                service = str(event["Actor"]["Attributes"].get(_SERVICE, "a container"))
                capture = Captured(self._engine, self._image, self._kit, of=str(event["Actor"]["ID"]))
                try:
                    capture.start()
                except KitError as error:
                    self._error = self._error or error
                else:
                    self._captures.append((service, capture))
