"""What a lock knows of images and models besides their bytes: what decides whether and how they can be served.

Rules: pure data, as the lock holds it; nothing here is proven by a digest, so it can refuse and warn, and vouch for no bytes.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator

from offline_kit.spec.document import Frozen
from offline_kit.spec.names import plain_text

LARGEST = (1 << 63) - 1  # no file, and no number of anything in one, is larger


class EngineFacts(Frozen):
    """What an engine image holds, as its layers say."""

    packages: dict[str, str] = Field(description="version by name, of the packages that decide about serving")
    requires: dict[str, str] = Field(default={}, description="what vllm's metadata pins: version by name")
    architectures: tuple[str, ...] = Field(default=(), description="of vllm's model registry; empty: not known")
    tool_parsers: tuple[str, ...] = ()
    reasoning_parsers: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = Field(default=(), description="that its vllm loads; empty: not known")
    whole: bool = Field(description="every layer was read: a package that is not named is not there")


class Tensors(Frozen):
    """Tensors that are alike: names that differ in numbers only, written as ``*`` (``layers``: the first of these)."""

    name: str
    dtype: str
    shape: tuple[Annotated[int, Field(ge=0, le=LARGEST)], ...]
    size: int = Field(ge=0, le=LARGEST, description="bytes of one")
    count: int = Field(ge=1, le=LARGEST)
    layers: str | None = Field(default=None, pattern=r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$")


class ModelFacts(Frozen):
    """What the GPU plan knows of a model: the part of its config.json that counts, and the table of its tensors."""

    config: dict[str, Any]
    tensors: tuple[Tensors, ...]


class ModelNeeds(Frozen):
    """What a model asks of the engine that serves it, and of the files beside its weights."""

    architectures: tuple[str, ...] = ()
    model_type: str = ""
    transformers_version: str = Field(default="", description="that the model was saved with")
    code: tuple[str, ...] = Field(default=(), description="auto_map: FILE.CLASS, or OWNER/NAME--FILE.CLASS")
    chat_template: bool = False
    template_marks: tuple[str, ...] = Field(default=(), description="what its chat templates show of tool calls and thoughts")
    vision: bool = Field(default=False, description="it takes images or sound, with a processor's files")
    adapter_base: str | None = Field(default=None, description="of an adapter: the model that it changes")
    adapter_rank: int | None = Field(default=None, description="of a LoRA adapter: its rank")
    quantization: str = Field(default="", description="quant_method of config.json; mlx, where it is in that form")
    max_length: int | None = Field(default=None, description="tokens of a text, as sentence-transformers cuts it")
    unreadable: tuple[str, ...] = Field(default=(), description="small files that are not the JSON which they should be")


class ModelCard(Frozen):
    """What a model's own card (the head of its README.md) says of where it comes from and what it may be used for."""

    licence: str = Field(default="", description="its name in the card, such as apache-2.0; other: see licence_name")
    licence_name: str = ""
    licence_link: str = ""
    base_models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    task: str = ""

    @property
    def licences(self) -> tuple[str, ...]:
        """Its licences; where the hub has no name for one ("other"), the name that the card gives."""
        names = (self.licence_name or self.licence,) if self.licence in ("", "other") else tuple(self.licence.split(", "))
        return tuple(name for name in names if name)

    @field_validator("licence", "licence_name", "licence_link", "task")
    @classmethod
    def _plain(cls, text: str) -> str:
        return plain_text(text)

    @field_validator("base_models", "datasets")
    @classmethod
    def _all_plain(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(plain_text(text) for text in texts)
