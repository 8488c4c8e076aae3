"""The record of a rehearsal that a bundle carries: what was tried before it was packed, and what came of it.

Rules: pure; a record is only made of a rehearsal that found nothing: what was not tried has no entry, and what could only be
tried in part says so; it belongs to one lock, whose digest it names; no time and no machine is in it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from offline_kit.common.digest import Digest
from offline_kit.spec.document import Frozen, from_json
from offline_kit.spec.names import plain_text

RECORD = "evidence/rehearsal.json"
Extent = Literal["configuration", "start"]


class RehearsalRecord(Frozen):
    """``lock``: digest of lock.json; ``models``: key -> step -> what came of it; ``services``: the same of each,
    where they were started."""

    format: Literal[1] = 1
    lock: Digest
    engine: Digest = Field(description="the engine image's configuration")
    vllm: str = ""
    models: dict[str, dict[str, str]]
    services: dict[str, str] = Field(default={})
    attempts: Literal[0] = 0  # questions for a name and connections to anywhere; with one there is no record
    summary: str = Field(description="one line, which install.sh shows")

    @field_validator("models")
    @classmethod
    def _plain_steps(cls, models: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
        for steps in models.values():
            _check(steps)
        return models

    @field_validator("services")
    @classmethod
    def _plain_services(cls, services: dict[str, str]) -> dict[str, str]:
        return _check(services)

    @field_validator("summary", "vllm")
    @classmethod
    def _plain_text(cls, text: str) -> str:
        return plain_text(text)

    @property
    def extent(self) -> Extent:
        """How far it went."""
        return "start" if self.services else "configuration"


def summarize(models: int, vllm: str, *, services: int = 0, partly: bool = False, dummy: bool = False) -> str:
    """The line that install.sh shows."""
    weights = " with dummy weights" if dummy else ""
    started = f", {services} services started{weights} and asked" if services else ""
    engines = " (an engine's own configuration needs its GPU and was not made)" if partly else ""
    by = f" by vLLM {vllm}" if vllm else ""
    return f"configuration of {models} model{'s' * (models != 1)} read{by}{engines}{started}; nobody asked for a network"


def parse_record(data: bytes) -> RehearsalRecord:
    """The record in ``data``. Raises ValueError in one line."""
    return from_json(data, RehearsalRecord)


def _check(texts: dict[str, str]) -> dict[str, str]:
    for name, text in texts.items():
        plain_text(name)
        plain_text(text)
    return texts
