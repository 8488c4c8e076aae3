"""What one thing from outside may cost: memory, places in a list, depth, disk.

Rules: whoever reads what a stranger wrote takes a budget with it and spends before it keeps; over the budget is a ValueError
that says which limit it was, for the reader to say where; the numbers are far above what honest sources send.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

SMALL_DOCUMENT = 8 << 20  # bytes: no manifest, configuration or page of a list is larger
ENTRIES = 50_000  # files of one list, as many as a bundle may have
LONGEST_PATH = 4096  # bytes, as Linux has it


class OverBudget(ValueError):
    """More than one thing may cost."""


@dataclass
class Budget:
    """What is left. ``kept``: bytes held in memory; ``expanded``: bytes that come out of compressed ones.

    Each is a limit when it is made, and what is left of it later. Safe for several threads.
    """

    kept: int = SMALL_DOCUMENT
    nodes: int = 1_000_000
    depth: int = 64
    entries: int = ENTRIES
    path: int = LONGEST_PATH
    expanded: int = SMALL_DOCUMENT
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def keep(self, amount: int) -> None:
        """``amount`` bytes are to be held in memory. Raises OverBudget."""
        self._spend("kept", amount, "bytes that are held in memory")

    def expand(self, amount: int) -> None:
        """``amount`` bytes came out of compressed ones. Raises OverBudget."""
        self._spend("expanded", amount, "bytes after unpacking")

    def add_nodes(self, amount: int = 1) -> None:
        """Values of a document. Raises OverBudget."""
        self._spend("nodes", amount, "values")

    def add_entry(self, path: str = "") -> None:
        """One more file of a list. Raises OverBudget."""
        self._spend("entries", 1, "entries")
        if len(path) > self.path or len(path.encode("utf-8", "surrogatepass")) > self.path:
            raise OverBudget(f"has a path of more than {self.path} bytes: {path[:80]!r}...")

    def check_depth(self, depth: int) -> None:
        """How deep a document is nested. Raises OverBudget."""
        if depth > self.depth:
            raise OverBudget(f"is nested more than {self.depth} deep")

    def _spend(self, name: str, amount: int, what: str) -> None:
        with self._lock:
            left = getattr(self, name) - amount
            if left < 0:
                raise OverBudget(f"has more {what} than are taken from one source")
            setattr(self, name, left)
