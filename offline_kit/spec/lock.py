"""The lock: what a manifest resolved to, down to every blob and file with size (bytes) and sha256.

Rules: pure data; canonical text, so that the same content gives the same bytes; paths are checked on the way in, so
whoever holds a Lock may join its paths to a folder. ``wanted`` ties each entry to the manifest entry that it came from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.spec.document import Frozen
from offline_kit.spec.lock_facts import LARGEST, EngineFacts, ModelCard, ModelFacts, ModelNeeds
from offline_kit.spec.manifest import Accelerator, Key, Manifest, canonical
from offline_kit.spec.names import COMMIT, ImageReference, plain_text, safe_path

Size = Field(ge=0, le=LARGEST, description="bytes")


_REMEDY = "run 'offline-kit lock' to write it anew"

# CUDA's own library, as PyPI names it
CUDA_RUNTIMES = ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12")
_DEMANDED = re.compile(r"cuda>=([0-9.]+)")
_BUILT_FOR = re.compile(r"\+cu([0-9]{2})([0-9])")

# On disk the field keeps the name "wanted", which locks of earlier versions have.
SPEC_DIGEST: Any = Field(
    validation_alias="wanted", serialization_alias="wanted", description="digest of the manifest's entry that this came from"
)


class Blob(Frozen):
    """Bytes by digest: an OCI descriptor without its annotations."""

    digest: Digest
    size: int = Size
    media_type: str

    @field_validator("media_type")
    @classmethod
    def _plain_type(cls, text: str) -> str:
        return plain_text(text)


class Layer(Blob):
    """A gzip layer as the bundle carries it; ``origin``: the blob it is made from where the source stores another form."""

    diff_id: Digest
    origin: Blob | None = None


class LockedImage(Frozen):
    """One platform's image."""

    spec_digest: Digest = SPEC_DIGEST
    source: str
    reference: str | None = Field(description="repository:tag as Docker shows it, None when named by digest only")
    index: Digest | None = Field(default=None, description="digest of the index that the platform was chosen from")
    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]
    created: str = Field(default="", description="when it was made, as its configuration says")
    environment: dict[str, str] = Field(default={}, description="the image's CUDA and version variables and labels")
    engine: EngineFacts | None = Field(default=None, description="of the engine image: what it can serve")

    @field_validator("reference")
    @classmethod
    def _is_reference(cls, text: str | None) -> str | None:
        if text is not None:
            ImageReference.parse(text)
        return text

    @field_validator("source", "created")
    @classmethod
    def _plain(cls, text: str) -> str:
        return plain_text(text)

    @property
    def vllm(self) -> str | None:
        """The version of vLLM in it: of its own packages, else by the tag of a repository that is named for vLLM."""
        if self.engine is not None and "vllm" in self.engine.packages:
            return self.engine.packages["vllm"]
        repository, _, tag = (self.reference or "").rpartition(":")
        named = re.fullmatch(r"v?([0-9]+\.[0-9]+(?:\.[0-9]+)?)(?:[.+-].*)?", tag)
        return named.group(1) if named and "vllm" in repository.rpartition("/")[2] else None

    @property
    def cuda(self) -> str | None:
        """The version of CUDA in it: by its environment, else by what its torch was built for, else by its library."""
        packages = self.engine.packages if self.engine else {}
        demanded = _DEMANDED.match(self.environment.get("NVIDIA_REQUIRE_CUDA", ""))
        named = self.environment.get("CUDA_VERSION") or (demanded[1] if demanded else None)
        if named or not packages:
            return named
        if built := _BUILT_FOR.search(packages.get("torch", "")):
            return f"{built[1]}.{built[2]}"
        return next((packages[name] for name in CUDA_RUNTIMES if name in packages), None)

    @property
    def kernels(self) -> tuple[str, ...]:
        """The compute capabilities that its kernels were built for, as its environment says; empty: not known."""
        return tuple(item for item in re.split(r"[ ;,]+", self.environment.get("TORCH_CUDA_ARCH_LIST", "")) if item)

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


class ConvertedFile(Frozen):
    """Pickled weights of the source, and the safetensors that they became."""

    source: LockedFile
    result: LockedFile


class LockedExtra(Frozen):
    """A file that the kit carries below ``files/``."""

    spec_digest: Digest = SPEC_DIGEST
    source: str
    size: int = Size
    sha256: Digest

    @field_validator("source")
    @classmethod
    def _plain(cls, text: str) -> str:
        return plain_text(text)


class LockedModel(Frozen):
    """One revision of a model."""

    spec_digest: Digest = SPEC_DIGEST
    source: str
    endpoint: str | None = None
    commit: str | None = Field(default=None, pattern=f"^{COMMIT}$", description="None for a local folder")
    files: tuple[LockedFile, ...]
    facts: ModelFacts | None = Field(default=None, description="None: the model has no config.json")
    needs: ModelNeeds | None = Field(default=None, description="None: locked by an earlier version")
    card: ModelCard | None = Field(default=None, description="None: no card among its files")
    converted: tuple[ConvertedFile, ...] = Field(default=(), description="of 'convert': the results are among the files")
    added: dict[str, LockedExtra] = Field(default={}, description="of 'add': path -> what it is; they are among the files")

    @field_validator("added")
    @classmethod
    def _safe(cls, files: dict[str, LockedExtra]) -> dict[str, LockedExtra]:
        for path in files:
            safe_path(path)
        return files

    @field_validator("source", "endpoint")
    @classmethod
    def _plain(cls, text: str | None) -> str | None:
        return plain_text(text) if text is not None else None

    @property
    def source_files(self) -> tuple[LockedFile, ...]:
        """The files as the source has them, before anything was converted or added."""
        results = {pair.result.path for pair in self.converted}
        kept = [file for file in self.files if file.path not in results and file.path not in self.added]
        return (*kept, *(pair.source for pair in self.converted))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class LockedText(Frozen):
    """A configuration file, proven by digest."""

    size: int = Size
    sha256: Digest


class Lock(Frozen):
    """Everything that a bundle is made of, by digest."""

    lock_version: Literal[1] = 1
    name: Key
    platform: str = Field(pattern=r"^[a-z0-9]+/[a-z0-9]+(/[a-z0-9]+)?$")
    accelerator: Accelerator
    images: dict[Key, LockedImage]
    models: dict[Key, LockedModel]
    files: dict[str, LockedExtra] = Field(default={}, description="path below files/ -> what it is")
    config: dict[str, LockedText] = Field(description="models.json, vllm_config.yaml, environment.yaml where there is one")

    @field_validator("files")
    @classmethod
    def _safe(cls, files: dict[str, LockedExtra]) -> dict[str, LockedExtra]:
        for path in files:
            safe_path(path)
        return files

    def text(self) -> str:
        return canonical(self.model_dump(mode="json", by_alias=True))

    def image_blobs(self) -> dict[Digest, Blob]:
        """Every image blob of the bundle once, by digest."""
        return {blob.digest: blob for image in self.images.values() for blob in image.blobs()}


def parse_lock(text: str, name: str) -> Lock:
    """The lock in JSON ``text``. Raises SpecError (not JSON, not of this version, an unsafe path)."""
    try:
        return Lock.model_validate(parse_json(text.encode("utf-8", "surrogatepass")))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise SpecError(f"{field}: {first['msg']}", where=name, remedy=_REMEDY) from error
    except ValueError as error:
        raise SpecError(f"not valid JSON: {error}", where=name, remedy=_REMEDY) from error


def spec_digest(manifest: Manifest, key: str) -> Digest:
    """The digest of the manifest entry ``key`` (images.KEY, models.KEY, files.PATH) with what else decides its meaning."""
    group, _, name = key.partition(".")
    entries: Mapping[str, Frozen] = getattr(manifest, group)
    entry = entries[name]
    fields = entry.model_dump(mode="json")
    # locks of earlier versions do not know these fields: they change nothing where they are not used
    for name in ("convert", "add", "chat_template"):
        if not fields.get(name, True):
            del fields[name]
    return Digest.of(canonical({"platform": manifest.platform, **fields}).encode())
