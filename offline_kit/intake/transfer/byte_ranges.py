"""Which parts of a file are on disk, which are being brought, and which nobody has yet.

Rules: a part is some segments of the journal in a row, from the first byte that is not there; it belongs to one stream at a
time; parts are given out from the front, and become smaller towards the end, so that all streams end together; what a stream
of an older ``generation`` does is not counted. Safe for several threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from offline_kit.intake.transfer.request import Advance
from offline_kit.intake.transfer.resume_journal import ResumeJournal


class Cancelled(Exception):
    """This stream is not wanted any more."""


@dataclass
class ByteRange:
    """What one request brings: from ``begin``, which moves on, to ``end``. ``first``: where the part itself begins."""

    first: int
    begin: int
    end: int
    generation: int
    furthest: int = 0


class RangeAllocator:
    """The parts of one file. ``advance`` is told every byte that is counted, or no longer."""

    def __init__(self, journal: ResumeJournal, advance: Advance) -> None:
        self.journal, self._advance = journal, advance
        self._lock = threading.Lock()
        self._taken: set[int] = set()
        self._damaged: set[int] = set()  # to be fetched anew as soon as their stream has let go
        self._generation = 0
        advance(journal.total)

    def take(self, most: int) -> ByteRange | None:
        """The first part that nobody has, about ``most`` bytes; None: there is none."""
        journal = self.journal
        with self._lock:
            first = self._first()
            if first is None:
                return None
            last = first
            self._taken.add(first)
            while last + 1 < len(journal.filled) and journal.begin(last + 1) - journal.begin(first) < most:
                if last + 1 in self._taken or journal.filled[last + 1]:
                    break
                last += 1
                self._taken.add(last)
            begin = journal.begin(first) + journal.filled[first]
            return ByteRange(journal.begin(first), begin, journal.begin(last) + journal.length(last), self._generation, begin)

    def has_unassigned(self) -> bool:
        """Whether there is a part that nobody has."""
        with self._lock:
            return self._first() is not None

    def release(self, span: ByteRange) -> None:
        """The stream has done with its part, or given it up."""
        with self._lock:
            if span.generation == self._generation:
                mine = range(span.first // self.journal.segment, -(-span.end // self.journal.segment))
                self._taken.difference_update(mine)
                for index in self._damaged.intersection(mine):
                    self._forget(index)

    def check(self, span: ByteRange) -> None:
        """Raises Cancelled when the stream of ``span`` is not wanted any more."""
        if span.generation != self._generation:
            raise Cancelled

    def wrote(self, span: ByteRange, piece: memoryview) -> None:
        """Counts ``piece``, which was written at ``span.begin``. Raises Cancelled."""
        journal = self.journal
        with self._lock:
            self.check(span)
            while piece:
                index = span.begin // journal.segment
                part = piece[: journal.begin(index) + journal.length(index) - span.begin]
                journal.add(index, part)
                span.begin += len(part)
                self._advance(len(part))
                piece = piece[len(part) :]
            span.furthest = max(span.furthest, span.begin)

    def damaged(self, index: int) -> None:
        """What is on disk of this segment is not what the journal says."""
        with self._lock:
            if index in self._taken:
                self._damaged.add(index)
            else:
                self._forget(index)

    def usable(self, index: int) -> int:
        """How many bytes of this segment are there to be hashed."""
        return 0 if index in self._damaged else self.journal.filled[index]

    def cancel_all(self) -> None:
        """No stream is wanted any more; what they brought stays."""
        with self._lock:
            self._generation += 1
            self._taken.clear()

    def reset(self) -> None:
        """Nothing is there any more, and no stream is wanted."""
        with self._lock:
            self._reset()

    def assign_all(self, span: ByteRange) -> None:
        """Nothing is there any more; all of it belongs to ``span``, the one stream that is wanted. Raises Cancelled."""
        with self._lock:
            self.check(span)
            self._reset()
            span.first, span.begin, span.end, span.generation = 0, 0, self.journal.size, self._generation
            self._taken.update(range(len(self.journal.filled)))

    def _first(self) -> int | None:
        journal = self.journal
        wanting = (
            index for index, got in enumerate(journal.filled) if got < journal.length(index) and index not in self._taken
        )
        return next(wanting, None)

    def _reset(self) -> None:
        self._generation += 1
        for index, got in enumerate(self.journal.filled):
            if got:
                self._forget(index)
        self._taken.clear()
        self._damaged.clear()

    def _forget(self, index: int) -> None:
        self._advance(-self.journal.filled[index])
        self._damaged.discard(index)
        self.journal.clear(index)
