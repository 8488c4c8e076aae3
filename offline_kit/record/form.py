"""What a transfer record says, and its JSON text.

Rules: pure; where the receipt of the receiving host says the same, it has the same names (``kit``, ``version``,
``fingerprint``, ``lock``, ``signed_by``, ``files``, ``images``, ``models``); no secret is in it; the same bundle, signatures
and medium give the same bytes: the only time is that of ``SOURCE_DATE_EPOCH``, else a person writes it beside the name.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from offline_kit.common.redact import redact_value
from offline_kit.spec.manifest import canonical
from offline_kit.spec.scan import ScanRecord


@dataclass(frozen=True)
class CarriedFile:
    """A file on the medium. ``part``: its number of the bundle's files, ``medium``: on which it comes; None: on each."""

    file: str
    bytes: int
    sha256: str
    part: int | None = None
    medium: int | None = None


@dataclass(frozen=True)
class KitFile:
    """A file of the kit. ``belongs_to``: images.KEY (several, with commas), models.KEY, files or kit;
    ``scan``: SCANNER: VERDICT of each scanner that looked at it."""

    path: str
    bytes: int
    sha256: str
    belongs_to: str
    source: str = ""
    licence: str = ""
    scan: str = ""


@dataclass(frozen=True)
class ImageLine:
    """An image: what it is called at its source and on the host, its digests and the bytes of its blobs."""

    image: str
    name: str
    tag: str
    config: str
    manifest: str
    source: str
    bytes: int
    licence: str


@dataclass(frozen=True)
class ModelLine:
    """A model: its source and commit, number and bytes of its files."""

    model: str
    source: str
    commit: str
    files: int
    bytes: int
    licence: str


@dataclass(frozen=True)
class SignatureLine:
    """A signature file; ``key_id``: of the key that was given and made it, empty where none of those did."""

    file: str
    key_id: str
    key: str


@dataclass(frozen=True)
class Bundle:
    """The bundle: ``bytes`` and ``sha256`` of all its parts together; ``base``: of a delta, the kit that completes it."""

    file: str
    bytes: int
    sha256: str
    parts: int
    base: str


@dataclass(frozen=True)
class TransferRecord:
    """Everything that the record says."""

    kit: str
    version: str
    platform: str
    made_by: str
    date: str
    bundle: Bundle
    fingerprint: str
    sha256sums: str
    lock: str
    signed_by: str
    signatures: tuple[SignatureLine, ...]
    medium: dict[str, Any] | None
    carried: tuple[CarriedFile, ...]
    images: tuple[ImageLine, ...]
    models: tuple[ModelLine, ...]
    files: tuple[KitFile, ...]
    licences: dict[str, int]
    scan: ScanRecord | None

    @property
    def top(self) -> str:
        return f"{self.kit}-{self.version}"

    def text(self) -> str:
        """The JSON text."""
        content = asdict(replace(self, scan=None))
        del content["sha256sums"]
        content["scan"] = self.scan.model_dump(mode="json") if self.scan else None
        content["transfer"] = 1
        content["files"] = {
            "count": len(self.files),
            "bytes": sum(file.bytes for file in self.files),
            "sha256sums": self.sha256sums,
            "list": content["files"],
        }
        return canonical(redact_value(content))
