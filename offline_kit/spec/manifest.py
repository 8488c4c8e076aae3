"""The manifest: what is wanted, written by a person.

Rules: everything that can be wrong without asking the network is found here; a checksum written here is a demand, never a hint;
defaults are the safe ones (no weights that can run code when loaded, no plain HTTP beyond the loopback).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from offline_kit.common.digest import Digest
from offline_kit.common.redact import public_url
from offline_kit.spec import document
from offline_kit.spec.names import KEY, KEY_AT_MOST, ImageReference, Source, local_path, safe_path, shell_name
from offline_kit.spec.policy import Policy
from offline_kit.spec.scan import Scanner

Key = Annotated[str, Field(pattern=KEY, max_length=KEY_AT_MOST)]
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
CHAT_TEMPLATE = "chat_template.jinja"  # where transformers looks for it
Accelerator = Literal["nvidia", "cpu"]
_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of the examples, which the reference shows
_FILE = {"source": "file://../NOTICE.txt", "sha256": _SHA256}


def canonical(data: Any) -> str:
    """JSON with sorted keys, two-space indent and one final newline: the same data gives the same bytes."""
    return json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


class ImageSpec(document.Frozen):
    """A container image: of a registry (``docker://``) or the local engine (``docker-daemon://``), for example."""

    source: str = Field(
        description="such as docker://REGISTRY/REPOSITORY:TAG[@DIGEST] or docker-daemon://REPOSITORY:TAG",
        examples=["docker://docker.io/vllm/vllm-openai:v0.33.0"],
    )
    digest: Digest | None = Field(
        default=None, description="demand: the digest that the tag must resolve to", examples=[f"sha256:{_SHA256}"]
    )
    insecure: bool = Field(
        default=False, description="allow plain HTTP to a registry that is not on the loopback", examples=[True]
    )

    @field_validator("source")
    @classmethod
    def _known(cls, text: str) -> str:
        ImageReference.parse(Source.parse(text, "image").rest)
        return text

    @property
    def reference(self) -> ImageReference:
        return ImageReference.parse(Source.parse(self.source, "image").rest)

    @property
    def scheme(self) -> str:
        return Source.parse(self.source, "image").scheme


class FileSpec(document.Frozen):
    """Any other file that the kit carries, as it is, below ``files/``: a Compose plug-in, packages for the host, a licence."""

    source: str = Field(
        description="https://HOST/PATH, file:///ABSOLUTE/PATH or file://PATH relative to the manifest",
        examples=["https://mirror.example/docker-compose-linux-x86_64"],
    )
    sha256: Digest = Field(description="demand: what the file must be", examples=[_SHA256])

    @field_validator("source")
    @classmethod
    def _known(cls, text: str) -> str:
        source = Source.parse(text, "file")
        if source.scheme == "file":
            local_path(source.rest)
        return text

    @property
    def location(self) -> str:
        """The URL, or the path behind ``file://``."""
        source = Source.parse(self.source, "file")
        return source.rest if source.scheme == "file" else self.source

    @property
    def public_source(self) -> str:
        """The source as the lock and the bundle name it: a signed URL without its signature."""
        return public_url(self.source)

    @property
    def local(self) -> bool:
        return Source.parse(self.source, "file").scheme == "file"


class ModelSpec(document.Frozen):
    """A model: of a hub (``hf://``, ``modelscope://``) or a local folder (``dir://``), for example."""

    source: str = Field(
        description="such as hf://OWNER/NAME, dir:///ABSOLUTE/PATH or dir://PATH relative to the manifest",
        examples=["dir:///data/my-chat"],
    )
    revision: str = Field(
        default="main",
        description="commit, tag or branch; the lock pins the commit",
        examples=["5ede1c97bbab6ce5cda5812749b4c0bdf79b18dd"],
    )
    endpoint: str | None = Field(
        default=None,
        description="URL of the hub; default: HF_ENDPOINT or https://huggingface.co, for modelscope:// https://www.modelscope.cn",
        examples=["https://hub.example"],
    )
    # What decides only how the bytes travel is no part of what they are: locks of earlier versions stay.
    insecure: bool = Field(
        default=False, exclude=True, description="allow plain HTTP to a hub that is not on the loopback", examples=[True]
    )
    include: tuple[str, ...] = Field(
        default=(), description="only files that match one of these patterns", examples=[["*.safetensors", "*.json"]]
    )
    exclude: tuple[str, ...] = Field(default=(), description="no files that match one of these patterns", examples=[["onnx/*"]])
    allow_pickle: bool = Field(
        default=False, description="accept weights that can run code when loaded (*.bin *.pt ...)", examples=[True]
    )
    convert: Literal["safetensors"] | None = Field(
        default=None, description="pickled weights (pytorch_model*.bin) are carried as safetensors", examples=["safetensors"]
    )
    sha256: dict[str, Digest] = Field(
        default={}, description="demands: path -> sha256, of the files at the source", examples=[{"model.safetensors": _SHA256}]
    )
    add: dict[str, FileSpec] = Field(
        default={},
        description="further files of the model's folder: path -> where it comes from",
        examples=[{"NOTICE.txt": _FILE}],
    )
    chat_template: FileSpec | None = Field(
        default=None, description="a Jinja file: the model's chat_template.jinja", examples=[_FILE]
    )

    @field_validator("source")
    @classmethod
    def _known(cls, text: str) -> str:
        source = Source.parse(text, "model")
        if source.scheme == "dir":
            local_path(source.rest)
        return text

    @field_validator("add")
    @classmethod
    def _below(cls, files: dict[str, FileSpec]) -> dict[str, FileSpec]:
        for path in files:
            if safe_path(path) == "config.json" or path.endswith(WEIGHTS):
                raise ValueError(f"{path}: configuration and weights are the source's own; correct 'source' instead")
        return files

    @model_validator(mode="after")
    def _consistent(self) -> ModelSpec:
        if self.scheme == "dir" and "revision" in self.model_fields_set:
            raise ValueError("'revision' has no meaning for a folder: leave it out")
        if self.chat_template and CHAT_TEMPLATE in self.add:
            raise ValueError(f"'chat_template' and 'add' both name {CHAT_TEMPLATE}")
        return self

    @field_validator("revision")
    @classmethod
    def _not_empty(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("is empty: give a commit, a tag or a branch")
        return text

    @field_validator("sha256")
    @classmethod
    def _safe(cls, demands: dict[str, Digest]) -> dict[str, Digest]:
        for path in demands:
            safe_path(path)
        return demands

    @property
    def added(self) -> dict[str, FileSpec]:
        """The files that its folder gets beside those of the source."""
        return {**self.add, **({CHAT_TEMPLATE: self.chat_template} if self.chat_template else {})}

    @property
    def scheme(self) -> str:
        return Source.parse(self.source, "model").scheme

    @property
    def location(self) -> str:
        """What follows ``scheme://``."""
        return Source.parse(self.source, "model").rest


class Target(document.Frozen):
    """The host that the bundle is for: then a build refuses what cannot run there, before it downloads any weights."""

    gpus: str = Field(
        min_length=1, description="GPUs of the host: 2x48GiB, or a name and a number: NVIDIA L40S:2", examples=["2x48GiB"]
    )
    driver: int | None = Field(
        default=None, ge=1, le=9999, description="major version of its NVIDIA driver, such as 550", examples=[550]
    )


class Manifest(document.Frozen):
    """Everything that goes into a bundle."""

    api_version: Literal["offline-kit/v1"] = Field(
        alias="apiVersion", description="the form of this file", examples=["offline-kit/v1"]
    )
    name: Key = Field(description="name of the bundle and of the Compose project", examples=["site"])
    platform: Literal["linux/amd64", "linux/arm64"] = Field(
        default="linux/amd64", description="of the host: which images are taken", examples=["linux/arm64"]
    )
    accelerator: Accelerator = Field(
        default="nvidia", description="what the engines run on; install.sh --device overrides", examples=["cpu"]
    )
    images: dict[Key, ImageSpec] = Field(
        description="'engine' and 'gateway' are required; others are carried as they are",
        examples=[{"engine": {"source": "docker://vllm/vllm-openai:v0.33.0"}}],
    )
    models: dict[Key, ModelSpec] = Field(
        description="what is carried; models.json names it by the same key",
        examples=[{"my-chat": {"source": "dir:///data/my-chat"}}],
    )
    files: dict[str, FileSpec] = Field(
        default={}, description="further files: path below files/ -> where it comes from", examples=[{"host/NOTICE.txt": _FILE}]
    )
    services: str = Field(description="path of models.json, relative to this file", examples=["../config/models.json"])
    engine_config: str = Field(
        description="path of vllm_config.yaml, relative to this file", examples=["../config/vllm_config.yaml"]
    )
    environment: str | None = Field(
        default=None,
        description="path of environment.yaml (variables of all engines), relative to this file",
        examples=["../config/environment.yaml"],
    )
    target: Target | None = Field(
        default=None, description="the host that the bundle is for", examples=[{"gpus": "2x48GiB", "driver": 550}]
    )
    policy: Policy | None = Field(
        default=None,
        description="what may cross: checked when it is locked and built",
        examples=[{"pickles": False, "largest": "200GiB"}],
    )
    scan: tuple[Scanner, ...] = Field(
        default=(),
        description="programs that look at the payload before it is packed",
        examples=[[{"name": "clamav", "command": ["clamscan", "--recursive", "{path}"]}]],
    )

    @property
    def digest(self) -> Digest:
        """Of what it says, whatever its form and comments."""
        return Digest.of(canonical(self.model_dump(mode="json", by_alias=True)).encode())

    @field_validator("services", "engine_config", "environment")
    @classmethod
    def _possible(cls, path: str | None) -> str | None:
        return local_path(path) if path is not None else None

    @field_validator("files")
    @classmethod
    def _safe(cls, files: dict[str, FileSpec]) -> dict[str, FileSpec]:
        for path in files:
            safe_path(path)
            if inside := next((other for other in files if path.startswith(f"{other}/")), None):
                raise ValueError(f"{inside!r} cannot be a file and a folder")
        return files

    @model_validator(mode="after")
    def _whole(self) -> Manifest:
        missing = [role for role in ("engine", "gateway") if role not in self.images]
        if missing:
            example = 'such as gateway: {source: "docker://nginx:1.29-alpine"}'
            raise ValueError(f"images: {' and '.join(missing)} missing: the kit needs an image for each of these, {example}")
        for group, keys in (("images", list(self.images)), ("models", list(self.models))):
            names: dict[str, str] = {}
            for key in keys:
                if (other := names.setdefault(shell_name(key), key)) != key:
                    raise ValueError(f"{group}: {other} and {key} would be one name for the scripts: rename one of them")
        if len({scanner.name for scanner in self.scan}) < len(self.scan):
            raise ValueError("scan: two scanners have one name")
        return self


def parse_manifest(text: str, name: str) -> Manifest:
    """The manifest in YAML ``text``; ``name`` is the file's name for errors. Raises SpecError."""
    return document.parse(text, Manifest, name)


def schema() -> str:
    """The JSON Schema of a manifest, for editors that complete and check it."""
    return canonical({"$schema": "https://json-schema.org/draft/2020-12/schema", **Manifest.model_json_schema()})
