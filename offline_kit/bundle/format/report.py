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
    """The result. ``form``: ``bundle``, ``recompressed`` (the bundle's tar in another gzip), ``zstd`` or ``kit`` (a folder).

    ``parts``: the files that the bundle lies in, 0 for a kit; ``base``, ``needed_*``: of a delta, what it is completed from and
    how much of it is proven only there.
    """

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
    parts: int = 0
    base: str = ""
    needed_files: int = 0
    needed_bytes: int = 0

    @property
    def incomplete(self) -> bool:
        """Whether this is a delta's folder that was not completed from its base."""
        return self.form == "kit" and bool(self.base)

    @property
    def whole(self) -> bool:
        return not self.findings and not self.incomplete

    def as_json(self) -> dict[str, Any]:
        return {"whole": self.whole, **asdict(self), "seconds": round(self.seconds, 3)}
