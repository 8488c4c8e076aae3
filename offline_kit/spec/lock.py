"""The lock: what a manifest resolved to, down to every blob and file with size (bytes) and sha256.

Rules: pure data; canonical text, so that the same content gives the same bytes; paths are checked on the way in, so
whoever holds a Lock may join its paths to a folder. ``wanted`` ties each entry to the manifest entry that it came from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from offline_kit.digest import Digest
from offline_kit.errors import SpecError
from offline_kit.spec.document import Frozen
from offline_kit.spec.manifest import Accelerator, Key, Manifest, canonical
from offline_kit.spec.names import safe_path

Size = Field(ge=0, description="bytes")


class Blob(Frozen):
    """Bytes by digest: an OCI descriptor without its annotations."""

    digest: Digest
    size: int = Size
    media_type: str


class Layer(Blob):
    """A gzip layer as the bundle carries it; ``origin``: the blob it is made from where the source stores another form."""

    diff_id: Digest
    origin: Blob | None = None


class LockedImage(Frozen):
    """One platform's image."""

    wanted: Digest
    source: str
    reference: str | None = Field(description="repository:tag as Docker shows it, None when named by digest only")
    index: Digest | None = Field(default=None, description="digest of the index that the platform was chosen from")
    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]
    environment: dict[str, str] = Field(default={}, description="the image's CUDA and version variables and labels")

    def tag(self, key: str) -> str:
        """The tag that the kit uses for the image named ``key``: it names the content and no network knows it."""
        return f"localhost/offline-kit/{key}:{self.config.digest.short}"

    def blobs(self) -> Iterator[Blob]:
        """Manifest, configuration and layers; a blob can come twice."""
        yield self.manifest
        yield self.config
        yield from self.layers


class LockedFile(Frozen):
    """One file of a model."""

    path: str
    size: int = Size
    sha256: Digest

    @field_validator("path")
    @classmethod
    def _safe(cls, path: str) -> str:
        return safe_path(path)


class Tensors(Frozen):
    """Tensors that are alike: names that differ in numbers only, written as ``*`` (``layers``: the first of these)."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int = Field(ge=0, description="bytes of one")
    count: int = Field(ge=1)
    layers: str | None = Field(default=None, pattern=r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$")


class ModelFacts(Frozen):
    """What the GPU plan knows of a model: the part of its config.json that counts, and the table of its tensors."""

    config: dict[str, Any]
    tensors: tuple[Tensors, ...]


class LockedModel(Frozen):
    """One revision of a model."""

    wanted: Digest
    source: str
    endpoint: str | None = None
    commit: str | None = Field(default=None, description="None for a local folder")
    files: tuple[LockedFile, ...]
    facts: ModelFacts | None = Field(default=None, description="None: the model has no config.json")

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class LockedExtra(Frozen):
    """A file that the kit carries below ``files/``."""

    wanted: Digest
    source: str
    size: int = Size
    sha256: Digest


class LockedText(Frozen):
    """A configuration file, proven by digest."""

    size: int = Size
    sha256: Digest


class Lock(Frozen):
    """Everything that a bundle is made of, by digest."""

    lock_version: Literal[1] = 1
    name: Key
    platform: str
    accelerator: Accelerator
    images: dict[Key, LockedImage]
    models: dict[Key, LockedModel]
    files: dict[str, LockedExtra] = Field(default={}, description="path below files/ -> what it is")
    config: dict[str, LockedText] = Field(description="models.json and vllm_config.yaml")

    @field_validator("files")
    @classmethod
    def _safe(cls, files: dict[str, LockedExtra]) -> dict[str, LockedExtra]:
        for path in files:
            safe_path(path)
        return files

    def text(self) -> str:
        return canonical(self.model_dump(mode="json"))

    def image_blobs(self) -> dict[Digest, Blob]:
        """Every image blob of the bundle once, by digest."""
        return {blob.digest: blob for image in self.images.values() for blob in image.blobs()}


def parse_lock(text: str, name: str) -> Lock:
    """The lock in JSON ``text``. Raises SpecError (not JSON, not of this version, an unsafe path)."""
    try:
        return Lock.model_validate(json.loads(text))
    except json.JSONDecodeError as error:
        raise SpecError(f"not valid JSON: {error.msg}", where=f"{name}, line {error.lineno}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{field}: {first['msg']}", where=name, remedy="run 'offline-kit lock' to write it anew") from error


def wanted(manifest: Manifest, key: str) -> Digest:
    """The digest of the manifest entry ``key`` (images.KEY, models.KEY, files.PATH) with what else decides its meaning."""
    group, _, name = key.partition(".")
    entries: Mapping[str, Frozen] = getattr(manifest, group)
    entry = entries[name]
    return Digest.of(canonical({"platform": manifest.platform, **entry.model_dump(mode="json")}).encode())


def stale(lock: Lock, manifest: Manifest, config: Mapping[str, bytes]) -> list[str]:
    """What of the lock no longer follows from the manifest and its configuration files, by name; empty: up to date."""
    names = []
    for field in ("name", "platform", "accelerator"):
        if getattr(lock, field) != getattr(manifest, field):
            names.append(field)
    for group in ("images", "models", "files"):
        wished: Mapping[str, Frozen] = getattr(manifest, group)
        held: Mapping[str, LockedImage | LockedModel | LockedExtra] = getattr(lock, group)
        names += [f"{group}.{key}" for key in sorted(held.keys() - wished.keys())]
        for key in wished:
            name = f"{group}.{key}"
            if key not in held or held[key].wanted != wanted(manifest, name):
                names.append(name)
    for file, content in config.items():
        if file not in lock.config or lock.config[file].sha256 != Digest.of(content):
            names.append(f"config/{file}")
    return names
