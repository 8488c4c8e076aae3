"""What a site allows to cross the gap: a policy, part of a manifest or a file of its own (``--policy``).

Rules: every field is a rule, and one that is not given allows everything; ``policy_check`` holds a lock against it.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from offline_kit.runtime.settings.sizes import parse_bytes
from offline_kit.spec import document
from offline_kit.spec.names import plain_text
from offline_kit.spec.rehearsal import Extent


class Policy(document.Frozen):
    """Every field is a rule; one that is not given allows everything."""

    registries: tuple[str, ...] | None = Field(
        default=None,
        description="HOST, or HOST/PATH with * for anything: where images may come from",
        examples=[["registry.example:5000/ai/*"]],
    )
    hubs: tuple[str, ...] | None = Field(
        default=None, description="hosts that models may come from; 'dir': local folders", examples=[["hub.example", "dir"]]
    )
    licences: tuple[str, ...] | None = Field(
        default=None, description="licences that a model's card may name", examples=[["apache-2.0", "mit"]]
    )
    pickles: bool = Field(
        default=True, description="false: no weights that can run code when loaded, allow_pickle or not", examples=[False]
    )
    repository_code: bool = Field(
        default=True, description="false: no Python files and no auto_map in a model", examples=[False]
    )
    largest: int | None = Field(
        default=None, ge=1, description="bytes of images, models and files together: 200GiB", examples=["200GiB"]
    )
    oldest_image: datetime.date | None = Field(
        default=None, description="images must be made on this day or later", examples=["2026-06-01"]
    )
    scanners: tuple[str, ...] = Field(
        default=(), description="names of scanners whose verdicts the bundle must carry", examples=[["clamav"]]
    )
    rehearsal: Extent | None = Field(
        default=None,
        description="what must have been tried out before it was packed: configuration, or start (both)",
        examples=["configuration"],
    )
    signers: tuple[str, ...] = Field(
        default=(), description="public keys, PEM files relative to the policy, for 'verify'", examples=[["release.pub"]]
    )
    threshold: int | None = Field(
        default=None, ge=1, description="how many of the signers must have signed; default: all", examples=[1]
    )
    signed_bases: bool = Field(
        default=False, description="true: the earlier kit that a delta needs must be signed as well", examples=[True]
    )

    @field_validator("largest", mode="before")
    @classmethod
    def _size(cls, value: Any) -> Any:
        return parse_bytes(value) if isinstance(value, str) else value

    @field_validator("registries", "hubs", "licences", "scanners", "signers")
    @classmethod
    def _plain(cls, texts: Sequence[str] | None) -> Sequence[str] | None:
        return tuple(plain_text(text) for text in texts) if texts is not None else None

    @model_validator(mode="after")
    def _whose(self) -> Policy:
        if self.signed_bases and not self.signers:
            raise ValueError("signed_bases: true needs 'signers', whose signature a base must have")
        return self

    def located_in(self, folder: Path) -> Policy:
        """The same with the signers' files below ``folder``."""
        return self.model_copy(update={"signers": tuple(str(folder / signer) for signer in self.signers)})


def parse_policy(text: str, name: str) -> Policy:
    """The policy in YAML ``text``; ``name`` is the file's name for errors. Raises SpecError."""
    return document.parse(text, Policy, name)
