"""The Docker engine of this machine, or whatever answers in its place at DOCKER_HOST (Podman does).

Rules: nothing is asked of an engine before it is needed; what it refuses and what breaks on the way is a DockerError.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import docker
import docker.errors
import requests

from offline_kit.common.errors import DockerError

_PATIENCE = 1800  # seconds: engines before 25 write a whole image to their temporary folder before the first byte comes


@contextlib.contextmanager
def docker_engine(where: str, remedy: str, patience: float = _PATIENCE) -> Iterator[docker.DockerClient]:
    """The engine that DOCKER_HOST names, or the local one; ``where``: for what; ``remedy``: where there is none.

    ``patience``: seconds that it may think about an answer. Raises DockerError.
    """
    try:
        engine = docker.from_env(timeout=patience)
    except (docker.errors.DockerException, requests.RequestException, ValueError) as error:
        raise DockerError(f"no Docker engine answers ({_cause(error)})", where=where, remedy=remedy) from error
    try:
        yield engine
    finally:
        engine.close()


def _cause(error: BaseException) -> str:
    """What was first, in the words of the system; exceptions of libraries carry each other as arguments."""
    inner = error
    while deeper := next(
        (item for item in inner.args if isinstance(item, BaseException)), inner.__cause__ or inner.__context__
    ):
        inner = deeper
    return (inner.strerror if isinstance(inner, OSError) else None) or str(inner) or "no answer"


@contextlib.contextmanager
def translate_docker_errors(where: str) -> Iterator[None]:
    """What the engine refuses, and what breaks on the way, as DockerError; an image that is not there stays ImageNotFound."""
    try:
        yield
    except docker.errors.ImageNotFound:
        raise
    except docker.errors.APIError as error:
        raise DockerError(f"the Docker engine refused: {error.explanation or error}", where=where) from error
    except (docker.errors.DockerException, requests.RequestException) as error:
        what = f"the Docker engine broke off: {error}"
        raise DockerError(what, where=where, remedy="see its log, then run the command again") from error
