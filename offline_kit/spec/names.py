"""Names that come from outside and end up as paths, tags or shell words.

Rules: a name is accepted only if it is safe on every host without quoting; the same functions check manifests, sources,
locks and bundles.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# A path component as Docker takes it in a name, because a key becomes one: no "a..b", no "a_.b".
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
KEY = f"^{_COMPONENT}$"
KEY_AT_MOST = 48
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
_SEGMENT = re.compile(r"[^\x00-\x1f\x7f\\]+")
_SEGMENT_AT_MOST = 255  # bytes, not characters: the limit of file systems
_REPOSITORY = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
SCHEMES = {
    "image": ("docker", "docker-daemon"),
    "model": ("hf", "modelscope", "dir"),
    "file": ("https", "http", "file"),
}


def safe_path(path: str) -> str:
    """``path`` itself if it is a relative path that stays below its folder and needs no escaping; raises ValueError."""
    segments = path.split("/")
    if any(part in ("", ".", "..") or not _SEGMENT.fullmatch(part) for part in segments) or segments[0][0] in "-~":
        raise ValueError(f"not a safe relative path: {path!r}")
    # A lone surrogate (a file name that is not UTF-8) fails here: UnicodeEncodeError is a ValueError.
    if any(len(part.encode()) > _SEGMENT_AT_MOST for part in segments):
        raise ValueError(f"a part of this path is longer than the {_SEGMENT_AT_MOST} bytes that file systems take: {path!r}")
    return path


def shell_name(key: str) -> str:
    """The key as a part of a variable's name."""
    return key.replace("-", "_").replace(".", "_")


@dataclass(frozen=True)
class Source:
    """Where something comes from: ``scheme://rest``."""

    scheme: str
    rest: str

    @classmethod
    def parse(cls, text: str, kind: str) -> Source:
        """``kind``: ``image``, ``model`` or ``file``. Raises ValueError that names the schemes which that kind knows."""
        scheme, mark, rest = text.partition("://")
        if not mark or scheme not in SCHEMES[kind] or not rest:
            known = ", ".join(f"{name}://" for name in SCHEMES[kind])
            raise ValueError(f"{text!r} is not a source of a {kind}; known: {known}")
        return cls(scheme, rest)


@dataclass(frozen=True)
class ImageReference:
    """``registry/repository[:tag][@digest]`` with Docker's defaults filled in (docker.io, library/, latest)."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, text: str) -> ImageReference:
        """Raises ValueError on anything that Docker would not take as a reference."""
        name, _, digest = text.partition("@")
        head, slash, tail = name.partition("/")
        if slash and ("." in head or ":" in head or head == "localhost"):
            registry, name = head, tail
        else:
            registry = "docker.io"
        repository, colon, tag = name.rpartition(":")
        if not colon:
            repository, tag = name, ""
        if registry == "docker.io" and "/" not in repository:
            repository = f"library/{repository}"
        if not _REPOSITORY.fullmatch(repository) or (colon and not _TAG.fullmatch(tag)):
            raise ValueError(f"not an image reference: {text!r}")
        if digest and not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise ValueError(f"not a sha256 digest in {text!r}")
        return cls(registry, repository, tag or (None if digest else "latest"), digest or None)

    @property
    def tagged(self) -> str | None:
        """The name that the image keeps on the host, as Docker shows it, or None when it was named by digest only."""
        if self.tag is None:
            return None
        familiar = f"{self.registry}/{self.repository}"
        if self.registry == "docker.io":
            familiar = self.repository.removeprefix("library/")
        return f"{familiar}:{self.tag}"

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.registry}/{self.repository}{tag}{digest}"
