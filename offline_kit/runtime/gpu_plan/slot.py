"""One engine on one GPU: its share, and whether it holds what the engine needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .engine_memory import Demand
from .overhead.estimate import Estimate

STARTS, MAY_NOT_START, DOES_NOT_START = "starts", "may not start", "does not start"
OUTCOMES = (STARTS, MAY_NOT_START, DOES_NOT_START)  # the worse, the later


@dataclass(frozen=True)
class Slot:
    """Bytes. ``share_most``: of all that nvidia-smi says, where CUDA may report more than the least that was seen; ``free``:
    what is free when it starts, None where that is not known; ``card``: what the GPU has for CUDA."""

    key: str
    share: int
    share_most: int
    need: Demand
    free: Optional[int]
    card: int

    @property
    def kv(self) -> Estimate:
        """What is left for the KV cache: least of it where the rest takes most."""
        if self.need.kv_fixed is not None:
            return Estimate.exact(self.need.kv_fixed)
        fixed = self.need.fixed
        return Estimate(self.share - fixed.most, self.share - fixed.likely, self.share_most - fixed.least)

    @property
    def lacking(self) -> Estimate:
        """Bytes that the share lacks, by each bound; none where it is enough."""
        need = self.need.least
        if self.need.kv_fixed is None:
            least = max(need.least - self.share_most, 0)
            return Estimate(least, max(need.likely - self.share, 0), max(need.most - self.share, 0))
        # vLLM neither profiles nor looks at the share then: the cache must hold one sequence, and the card all of it.
        short = max(self.need.kv_least - self.need.kv_fixed, 0)
        return Estimate(
            max(need.least - self.card, short), max(need.likely - self.card, short), max(need.most - self.share, short)
        )

    @property
    def is_free(self) -> bool:
        """Whether the share is free when the engine starts."""
        return self.free is None or self.share <= self.free

    @property
    def outcome(self) -> str:
        """What is to be expected, memory alone."""
        if self.lacking.least > 0 or not self.is_free:
            return DOES_NOT_START
        return MAY_NOT_START if self.lacking.most > 0 else STARTS

    @property
    def fits(self) -> bool:
        return self.outcome != DOES_NOT_START
