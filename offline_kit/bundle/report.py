"""What a verification found.

Rules: a bundle is whole only if nothing was found; everything found is kept, each with the file or place that it concerns; what
was not checked is said as plainly as what was.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be. ``where``: a path in the kit, or a place in the file."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class Report:
    """The result. ``form``: ``bundle``, ``recompressed`` (the bundle's tar in another gzip) or ``kit`` (a folder)."""

    path: str
    form: str
    name: str
    version: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    files: int
    bytes: int
    unchecked_files: int
    unchecked_bytes: int
    seconds: float

    @property
    def whole(self) -> bool:
        return not self.findings

    def as_json(self) -> dict[str, Any]:
        return {"whole": self.whole, **asdict(self), "seconds": round(self.seconds, 3)}
