"""What an image holds, as records: who reads layers makes them, who writes the bill of materials takes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict


class Package(TypedDict, total=False):
    """One installed package."""

    kind: str  # deb, apk, rpm, pypi
    name: str
    version: str
    architecture: str
    source: str  # the source package, where it has another name
    licences: list[str]
    requires: list[str]


@dataclass(frozen=True)
class ImageContents:
    """``packages``: sorted, each once; ``unread``: databases that are there and cannot be read here."""

    packages: tuple[Package, ...]
    distribution: dict[str, str] = field(default_factory=dict)
    architectures: tuple[str, ...] = ()
    tool_parsers: tuple[str, ...] = ()
    reasoning_parsers: tuple[str, ...] = ()
    quantizations: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    whole: bool = True
