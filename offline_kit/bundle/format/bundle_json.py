"""bundle.json: what a bundle is, for people and for tools that want the short answer.

Rules: it follows from the lock and the version alone; canonical text; it lies second in the archive, so that it can be read
without the gigabytes behind it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from offline_kit.bundle.format.paths import is_payload
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged
from offline_kit.common.json_text import parse_json
from offline_kit.spec.document import Frozen
from offline_kit.spec.lock import Lock, LockedImage
from offline_kit.spec.lock_facts import ModelFacts
from offline_kit.spec.manifest import Accelerator, Key, canonical
from offline_kit.spec.names import VERSION, plain_text, safe_path
from offline_kit.spec.parsers import parsers_of

Count = Field(ge=0, lt=1 << 63)


class ImageContents(Frozen):
    """One image: where it came from, the tags it gets on the host, its digests, bytes of all its blobs."""

    source: str
    reference: str | None
    tag: str
    index: Digest | None
    manifest: Digest
    config: Digest
    bytes: int = Count


class ModelContents(Frozen):
    """One model: where it came from, number and bytes of its files."""

    source: str
    commit: str | None
    files: int = Count
    bytes: int = Count


class ExtraContents(Frozen):
    """One further file: where it came from, its bytes and sha256."""

    source: str
    bytes: int = Count
    sha256: Digest


class PlanInputs(Frozen):
    """What a host needs to know without reading a model: facts by folder for the GPU plan, parsers by folder, and of the engine
    image the versions of CUDA and vLLM."""

    models: dict[Key, ModelFacts]
    cuda: str | None
    vllm: str | None = None
    parsers: dict[Key, dict[str, str]] = Field(default={}, description="tool_call_parser and reasoning_parser of a model")
    kernels: tuple[str, ...] = Field(default=(), description="compute capabilities that the image's kernels were built for")


class Totals(Frozen):
    """``files``: all that SHA256SUMS names; bytes: blobs and model files, each once."""

    files: int = Count
    images_bytes: int = Count
    models_bytes: int = Count
    extra_bytes: int = Field(default=0, ge=0)


class Need(Frozen):
    """One file that an earlier kit has: its bytes, and where it lies there."""

    size: int = Count
    sha256: Digest
    at: str

    @field_validator("at")
    @classmethod
    def _payload(cls, path: str) -> str:
        if not is_payload(safe_path(path)):
            raise ValueError("no file of the base that a delta may leave out")
        return path


class Base(Frozen):
    """The earlier kit that a delta is completed from. ``lock``: the digest of its lock.json; ``needs``: path -> file."""

    name: Key
    version: str | None = Field(description="None where the delta was made from a lock alone")
    lock: Digest
    needs: dict[str, Need]

    @property
    def title(self) -> str:
        return f"{self.name}-{self.version}" if self.version else f"{self.name} (lock {self.lock.short})"

    @property
    def bytes(self) -> int:
        return sum(need.size for need in self.needs.values())


class Contents(Frozen):
    """What bundle.json says."""

    format: Literal[1] = 1
    name: Key
    version: str = Field(pattern=f"^{VERSION.pattern}$")
    platform: str
    accelerator: Accelerator
    made_by: str = Field(max_length=200)
    images: dict[Key, ImageContents]
    models: dict[Key, ModelContents]
    files: dict[str, ExtraContents] = Field(default={}, description="path below files/ -> what it is")
    totals: Totals
    plan: PlanInputs | None = Field(default=None, description="None where the lock knows no facts of any model")
    base: Base | None = Field(default=None, description="of a delta only")

    @field_validator("made_by")
    @classmethod
    def _plain(cls, text: str) -> str:
        return plain_text(text)

    @property
    def top(self) -> str:
        """The name of the bundle's one folder."""
        return f"{self.name}-{self.version}"

    def text(self) -> str:
        return canonical(self.as_json())

    def as_json(self) -> dict[str, Any]:
        # A full bundle says nothing of a base: its bundle.json is what that of a completed delta becomes.
        return self.model_dump(mode="json", exclude=None if self.base else {"base"})

    def full(self) -> Contents:
        """The same without a base."""
        return self.model_copy(update={"base": None})


def image_bytes(image: LockedImage) -> int:
    """Bytes of the image's blobs, each once."""
    return sum({blob.digest: blob.size for blob in image.blobs()}.values())


def contents_of(lock: Lock, version: str, made_by: str, files: int) -> Contents:
    """What bundle.json says of a bundle of ``lock`` whose SHA256SUMS names ``files`` files."""
    images = {
        key: ImageContents(
            source=image.source,
            reference=image.reference,
            tag=image.tag(key),
            index=image.index,
            manifest=image.manifest.digest,
            config=image.config.digest,
            bytes=image_bytes(image),
        )
        for key, image in lock.images.items()
    }
    models = {
        key: ModelContents(source=model.source, commit=model.commit, files=len(model.files), bytes=model.size)
        for key, model in lock.models.items()
    }
    totals = Totals(
        files=files,
        images_bytes=sum(blob.size for blob in lock.image_blobs().values()),
        models_bytes=sum(model.size for model in lock.models.values()),
        extra_bytes=sum(extra.size for extra in lock.files.values()),
    )
    return Contents(
        name=lock.name,
        version=version,
        platform=lock.platform,
        accelerator=lock.accelerator,
        made_by=made_by,
        images=images,
        models=models,
        files={
            path: ExtraContents(source=file.source, bytes=file.size, sha256=file.sha256) for path, file in lock.files.items()
        },
        totals=totals,
        plan=plan_inputs(lock),
    )


def plan_inputs(lock: Lock) -> PlanInputs | None:
    """The facts that the lock has for the GPU plan."""
    facts = {key: model.facts for key, model in lock.models.items() if model.facts is not None}
    engine = lock.images.get("engine")
    if not facts:
        return None
    if engine is None:
        return PlanInputs(models=facts, cuda=None)
    return PlanInputs(models=facts, cuda=engine.cuda, vllm=engine.vllm, kernels=engine.kernels, parsers=parsers_of(lock))


def parse_contents(data: bytes, name: str) -> Contents:
    """The bundle.json in ``data``; ``name`` is shown in errors. Raises BundleDamaged."""
    try:
        return Contents.model_validate(parse_json(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleDamaged(f"{field}: {first['msg']}", where=name) from error
    except ValueError as error:
        raise BundleDamaged(f"is not valid JSON: {error}", where=name) from error
