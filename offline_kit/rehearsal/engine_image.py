"""The engine image of a kit in the Docker engine of this machine, for as long as a rehearsal takes.

Rules: it gets the kit's own tag, which names its content, and no other; what is there under that tag already is used and stays;
what was loaded for the rehearsal is gone afterwards; an image that is not what the lock says is not used.
"""

from __future__ import annotations

import contextlib
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import docker.errors

from offline_kit.bundle.format import paths
from offline_kit.common.docker_engine import translate_docker_errors
from offline_kit.common.errors import DockerError
from offline_kit.common.progress import Progress
from offline_kit.common.units import size
from offline_kit.spec.lock import LockedImage

WHERE = "rehearsal"
_KEY = "engine"
_PIECE = 1 << 20  # bytes


@contextlib.contextmanager
def engine_image(engine: docker.DockerClient, kit: Path, locked: LockedImage, progress: Progress) -> Iterator[str]:
    """The tag of the kit's engine image, in ``engine``. Raises DockerError and DiskError."""
    tag = locked.tag(_KEY)
    loaded = not _is_there(engine, tag, locked)
    if loaded:
        progress.note(f"loading the engine image ({size(sum(layer.size for layer in locked.layers))}) for the rehearsal")
        _load(engine, kit, tag)
        if not _is_there(engine, tag, locked):
            remedy = "docker system df shows whether its disk is full; 'offline-kit verify' checks the kit"
            raise DockerError("after loading, the engine image is not what the lock says", where=WHERE, remedy=remedy)
    try:
        yield tag
    finally:
        if loaded:
            with contextlib.suppress(docker.errors.DockerException):
                engine.images.remove(tag, force=True)


def _is_there(engine: docker.DockerClient, tag: str, locked: LockedImage) -> bool:
    try:
        with translate_docker_errors(WHERE):
            found: dict[str, Any] = engine.api.inspect_image(tag)
    except docker.errors.ImageNotFound:
        return False
    layers = (found.get("RootFS") or {}).get("Layers") or []
    digests = {str(digest) for digest in (locked.config.digest, locked.manifest.digest, locked.index) if digest}
    # Podman gives the identifier without the name of its algorithm.
    named = str(found.get("Id")) in digests or f"sha256:{found.get('Id')}" in digests
    return named and layers == [str(layer.diff_id) for layer in locked.layers]


def _load(engine: docker.DockerClient, kit: Path, tag: str) -> None:
    try:
        with translate_docker_errors(WHERE):
            for line in engine.api.load_image(_archive(kit, tag)):
                if isinstance(line, dict) and line.get("error"):
                    remedy = "docker system df shows whether its disk is full; 'offline-kit verify' checks the kit"
                    raise DockerError(f"did not load the engine image: {line['error']}", where=WHERE, remedy=remedy)
    except docker.errors.ImageNotFound as error:
        raise DockerError(f"did not load the engine image: {error}", where=WHERE) from error


def _archive(kit: Path, tag: str) -> Iterator[bytes]:
    """What ``docker load`` reads: this image alone, under the kit's tag alone."""
    facts = kit / paths.IMAGE_FACTS / _KEY
    docker_list = json.loads((facts / paths.DOCKER).read_bytes())
    index = json.loads((facts / paths.INDEX).read_bytes())
    for entry in docker_list:
        entry["RepoTags"] = [tag]
    index["manifests"] = [item for item in index["manifests"] if tag in item["annotations"].values()]
    yield from _member(paths.LAYOUT, (facts / paths.LAYOUT).read_bytes())
    yield from _member(paths.INDEX, json.dumps(index).encode())
    yield from _member(paths.DOCKER, json.dumps(docker_list).encode())
    for name in (facts / "files").read_text(encoding="ascii").split():
        yield from _member(name, kit / paths.IMAGES / name)
    yield b"\0" * 1024


def _member(name: str, content: bytes | Path) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content) if isinstance(content, bytes) else content.stat().st_size
    yield info.tobuf(tarfile.GNU_FORMAT)
    if isinstance(content, bytes):
        yield content
    else:
        with content.open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece
    yield b"\0" * (-info.size % 512)
