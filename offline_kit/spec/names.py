"""Names that come from outside and end up as paths, tags or shell words.

Rules: a name is accepted only if it is safe on every host without quoting; the same functions check manifests, sources,
locks and bundles.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

# A path component as Docker takes it in a name, because a key becomes one: no "a..b", no "a_.b".
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
KEY = f"^{_COMPONENT}$"
KEY_AT_MOST = 48
COMMIT = "[0-9a-f]{40}"
VERSION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
# No control characters, and no marks that change the order in which a name is shown.
_HIDDEN = r"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_SEGMENT = re.compile(rf"[^{_HIDDEN}\\]+")
_PLAIN = re.compile(rf"[^{_HIDDEN}]*")
DEEPEST = 64  # folders: what unpacks and removes a tree goes down into each
_PATH_AT_MOST = 4095  # bytes, on Linux
_SEGMENT_AT_MOST = 255  # bytes, not characters: the limit of file systems
_REPOSITORY = re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*")
# A host name or address, and a port: what may stand before the first slash of an image's name.
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_HOST}(?:\.{_HOST})*|\[[0-9a-fA-F:.]+\])(?::[0-9]{{1,5}})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
# Weights that can run code when they are loaded.
PICKLES = frozenset((".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill"))
_PICKLED_WEIGHTS = re.compile(r"pytorch_model(-[0-9]{5}-of-[0-9]{5})?\.bin(\.index\.json)?")
# Names of architectures that Docker takes for its own.
ARCHITECTURES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
# What may stand before "://" of an image, a model or a file, and the module of ``intake/sources/`` that brings it.
SCHEMES = {
    "image": {"docker": "registry", "docker-daemon": "daemon"},
    "model": {"hf": "hub", "modelscope": "modelscope", "dir": "local"},
    "file": {"https": "file", "http": "file", "file": "file"},
}


def safe_path(path: str) -> str:
    """``path`` itself if it is a relative path that stays below its folder and needs no escaping; raises ValueError."""
    segments = path.split("/")
    if any(part in ("", ".", "..") or not _SEGMENT.fullmatch(part) for part in segments) or segments[0][0] in "-~":
        raise ValueError(f"not a safe relative path: {path!r}")
    if len(segments) > DEEPEST:
        raise ValueError(f"a path below more than {DEEPEST} folders: {path[:200]!r}")
    try:
        longest = max(len(part.encode()) for part in segments)
    except UnicodeEncodeError as error:  # a lone surrogate: how Python shows a byte of a name that is none
        raise ValueError(f"a name that is not UTF-8: {ascii(path)[:200]}") from error
    if longest > _SEGMENT_AT_MOST:
        raise ValueError(f"a part of this path is longer than the {_SEGMENT_AT_MOST} bytes that file systems take: {path!r}")
    return path


def local_path(path: str) -> str:
    """``path`` itself if a file system can have it; raises ValueError."""
    encoded = path.encode("utf-8", "surrogatepass")
    if len(encoded) > _PATH_AT_MOST or any(len(part) > _SEGMENT_AT_MOST for part in encoded.split(b"/")):
        raise ValueError(f"a path longer than any file system takes: {path[:100]!r}...")
    return path


def plain_text(text: str) -> str:
    """``text`` itself if it is one line that shows on a terminal as it is; raises ValueError."""
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"holds characters that cannot be shown: {ascii(text)[:200]}")
    return text


def same_names(paths: Iterable[str]) -> tuple[str, str] | None:
    """Two of the paths, or of their folders, that differ only in case or Unicode's normalisation: one file on some hosts."""
    named: dict[str, str] = {}
    for path in paths:
        folder = path
        if (other := named.setdefault(folded(folder), folder)) != folder:
            return other, folder
        while (folder := folder.rpartition("/")[0]) and named.get(folded(folder)) != folder:
            if (other := named.setdefault(folded(folder), folder)) != folder:
                return other, folder
    return None


def folded(path: str) -> str:
    """What a file system that knows neither case nor forms of Unicode makes of a name."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFKD", path).casefold())


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Patterns are compared with the whole path; ``*`` crosses folders, a folder's name covers what is below it."""
    return any(
        fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern.rstrip("/") + "/*") for pattern in patterns
    )


def converted_name(path: str) -> str | None:
    """What a file of pickled weights, or their index, is called as safetensors; None for any other file."""
    match = _PICKLED_WEIGHTS.fullmatch(path)
    if match is None:
        return None
    return f"model{match[1] or ''}.safetensors{match[2] or ''}"


def shell_name(key: str) -> str:
    """The key as a part of a variable's name."""
    return key.replace("-", "_").replace(".", "_")


def _meant(text: str, kind: str) -> str:
    """The source that ``text`` was probably meant to be; empty where none suggests itself."""
    if kind == "model":
        path = re.fullmatch(r"(?:(?:file|dir):/{0,2})?(/[^/].*|\.{1,2}/.*)", text)
        if path:
            return f"dir://{path[1]}"
        return f"hf://{text}" if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", text) else ""
    if kind == "image":
        rest = re.sub(r"^(?:docker:/?|https?://)", "", text)
        with contextlib.suppress(ValueError):
            return f"docker://{rest}" if rest and ImageReference.parse(rest) else ""
    if kind == "file" and text.startswith("/"):
        return f"file://{text}"
    return ""


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
            meant = _meant(text, kind)
            raise ValueError(
                f"{text!r} is not a source of {'an' if kind == 'image' else 'a'} {kind}; known: {known}"
                + (f" -> did you mean {meant!r}?" if meant else "")
            )
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
        if (
            not _REGISTRY.fullmatch(registry)
            or len(registry) > 255
            or int(registry.rpartition("]")[2].partition(":")[2] or 0) > 65535
        ):
            raise ValueError(f"{registry!r} is not the name of a registry: HOST or HOST:PORT")
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
