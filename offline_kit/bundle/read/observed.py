"""What was seen of the files of a bundle or kit, in whatever form it lies there.

Rules: a file is read once: hashed, and as much of its start kept as the checks behind need; every kind of reader (``members``,
``tar_stream``, ``folder``) gives the same evidence, and ``checks`` judges it without knowing where it came from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Base
from offline_kit.bundle.format.member import Header
from offline_kit.bundle.format.report import Finding
from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.runtime.gpu_plan import safetensors
from offline_kit.spec.lock import Lock, parse_lock
from offline_kit.spec.names import folded, safe_path
from offline_kit.spec.scan import RECORD

SMALL = 1 << 20
_KEPT_AT_MOST = 8 << 20  # the largest SHA256SUMS or lock.json that is still read: over fifty thousand files
ENTRIES_AT_MOST, NAMES_AT_MOST = 50_000, 16 << 20  # files and folders of an archive, and the bytes of all their names
DESCRIPTION_AT_MOST = 4 << 20  # an image's manifest or configuration; registries accept 4 MiB


class TooMany(ValueError):
    """More than a bundle may hold: what lies behind is not read."""


@dataclass(frozen=True)
class Seen:
    """What was seen of one file.

    ``digest`` None: its content was not read; ``content``: all of it where the checks need it; ``fault``: what its content
    alone shows to be wrong.
    """

    size: int
    mode: int | None
    digest: Digest | None
    content: bytes | None
    fault: str | None


@dataclass
class Evidence:
    """All that was seen of a bundle or kit.

    ``files``: by path in the kit; ``names``: every name of an archive in its order, folders and the top included;
    ``top``: the archive's one folder; ``installed``: the kit serves on a host; ``findings``: what was wrong on the way;
    ``base``: of a delta, what it is completed from.
    """

    form: str
    top: str = ""
    installed: bool = False
    files: dict[str, Seen] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    mtime: int | None = None
    base: Base | None = None

    def found(self, where: str, what: str) -> None:
        self.findings.append(Finding(where, what))

    def admit(self, header: Header) -> str | None:
        """The path in the kit of a file that an archive names, or None for a folder and for what must not be there."""
        try:
            top, _, path = safe_path(header.path.removesuffix("/")).partition("/")
        except ValueError:
            self.found(
                shown(header.path), "its path is absolute or leaves the folder, or holds characters that no path may have"
            )
            return None
        self._named += len(header.path)
        if len(self.names) >= ENTRIES_AT_MOST or self._named > NAMES_AT_MOST:
            raise TooMany("more files than a bundle may have")
        if self.mtime is None:
            self.top, self.mtime = top, header.mtime
        if top != self.top:
            self.found(shown(header.path), f"lies outside the bundle's folder {self.top}/")
            return None
        if header.mtime != self.mtime:
            self.found(path, "has another time than the first entry")
        if header.path in self.names_seen:
            self.found(path, "comes twice")
            return None
        if (other := self._folded.setdefault(folded(header.path), header.path)) != header.path:
            self.found(path, f"is one name with {other.partition('/')[2]} on some hosts")
        self.names.append(header.path)
        self.names_seen.add(header.path)
        return None if header.is_folder else path

    def __post_init__(self) -> None:
        self.names_seen: set[str] = set()
        self._folded: dict[str, str] = {}
        self._named = 0


def shown(name: str) -> str:
    """A name from outside, fit for a terminal."""
    return name if name.isprintable() else ascii(name)


class KeepPolicy:
    """Which contents the checks will ask for; knows an image's manifest and configuration once it has seen the lock."""

    def __init__(self) -> None:
        self._blobs: set[str] = set()

    def keep_images_of(self, lock_text: bytes) -> None:
        """Takes the blobs from the lock; an unreadable one is ``checks``' to report."""
        if lock := read_lock(lock_text):
            for image in lock.images.values():
                self._blobs |= {paths.blob(image.manifest.digest), paths.blob(image.config.digest)}

    def keeps(self, path: str, size: int) -> bool:
        """Whether the whole content of the file is needed."""
        fixed = path in (*paths.HEAD, RECORD)
        if paths.is_payload(path):
            return path in self._blobs and size <= DESCRIPTION_AT_MOST
        return fixed and size <= _KEPT_AT_MOST


def read_lock(text: bytes) -> Lock | None:
    """The lock in ``text``, or None."""
    try:
        return parse_lock(text.decode(), paths.LOCK)
    except (SpecError, ValueError, RecursionError):
        return None


class FileObserver:
    """Takes the content of one file in pieces and gives what was seen of it."""

    def __init__(self, path: str, size: int, mode: int | None, policy: KeepPolicy, hashing: bool = True) -> None:
        self._path, self._size, self._mode, self._policy = path, size, mode, policy
        self._sha256 = hashlib.sha256() if hashing else None
        self._keeps = policy.keeps(path, size)
        self._weights = path.startswith(f"{paths.MODELS}/") and path.endswith(".safetensors")
        self._wanted = size if self._keeps else safetensors.PREFIX if self._weights else 0
        self._head = bytearray()

    @property
    def wants_more(self) -> bool:
        """Whether the next piece matters even if the file is not hashed."""
        return len(self._head) < min(self._wanted, self._size)

    def feed(self, data: memoryview) -> None:
        if self._sha256 is not None:
            self._sha256.update(data)
        while data and self.wants_more:
            part = data[: self._wanted - len(self._head)]
            self._head += part
            data = data[len(part) :]
            if self._weights and self._wanted == safetensors.PREFIX == len(self._head):
                self._wanted = safetensors.head_length(bytes(self._head))

    def seen(self) -> Seen:
        head = bytes(self._head)
        if self._path == paths.LOCK and self._keeps:
            self._policy.keep_images_of(head)
        digest = None if self._sha256 is None else Digest(self._sha256.hexdigest())
        fault = safetensors.fault(head, self._size) if self._weights else None
        return Seen(self._size, self._mode, digest, head if self._keeps else None, fault)
