"""An amount of memory that is not known exactly: the least, the likely and the most that it takes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """Bytes. ``most`` is what a plan must be ready for, ``least`` what it may refuse for."""

    least: int = 0
    likely: int = 0
    most: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.least + other.least, self.likely + other.likely, self.most + other.most)

    @classmethod
    def exact(cls, size: int) -> "Estimate":
        """An amount that is known."""
        return cls(size, size, size)

    @classmethod
    def about(cls, size: float, least: float, most: float) -> "Estimate":
        """``size`` as the likely amount, and its multiples ``least`` and ``most``."""
        return cls(int(size * least), int(size), int(size * most))


NOTHING = Estimate()


def largest(*parts: Estimate) -> Estimate:
    """The larger of several, of each bound on its own: what is needed one after another."""
    return Estimate(max(part.least for part in parts), max(part.likely for part in parts), max(part.most for part in parts))
