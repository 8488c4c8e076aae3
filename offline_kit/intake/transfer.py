"""The one transfer for every URL: verified, resumed, in bounded memory.

Rules: bytes are hashed as they arrive, and what an earlier run or another stream left on disk is read once more at most;
nothing gets a name in the store before size and digest agree; a body that is complete but wrong is asked for once more from the
start, then refused by name. What is on disk is never believed: a partial download that is damaged ends in the same
comparison. ``ETag`` and the like are not looked at: mirrors differ in them, and the digest decides anyway.
"""

from __future__ import annotations

import contextlib
import hashlib

from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, Interrupted
from offline_kit.intake.fill import Fill
from offline_kit.intake.item import Advance, Download, arriving, total
from offline_kit.intake.ledger import Ledger
from offline_kit.intake.line import Line
from offline_kit.intake.store import Store, check

__all__ = ["Advance", "Download", "download", "probe", "read_back", "unseen"]


def unseen(amount: int) -> None:
    """An ``Advance`` that shows nothing."""


def download(line: Line, store: Store, item: Download, advance: Advance = unseen) -> Digest:
    """Brings ``item`` into the store and returns its digest. Raises KitError."""
    if item.digest is not None and item.size is not None and store.has(item.digest, item.size):
        return item.digest
    with line.seat():
        if item.digest is None or item.size is None:
            return _whole(line, store, item, advance)
        _resumed(line, store, item, item.digest, item.size, advance)
        return item.digest


def probe(line: Line, item: Download) -> int | None:
    """How large the server says that the file is, without reading it. Raises KitError."""

    def attempt() -> int | None:
        with line.get(item.url, {**item.headers, "Range": "bytes=0-0"}, item.auth) as response:
            if response.status_code not in (200, 206, 416):
                raise item.refuse(response)
            return total(response)

    return line.persist(item.url, attempt)


def _mismatch(item: Download, error: DigestMismatch) -> DigestMismatch:
    remedy = "the source serves other bytes than it promised: try again later, or run 'offline-kit lock' if it has changed"
    return DigestMismatch(error.what, where=f"{item.title} ({item.url})", remedy=remedy)


def _whole(line: Line, store: Store, item: Download, advance: Advance) -> Digest:
    """A file of unknown digest or size: every attempt starts anew."""
    for last in (False, True):
        got = 0

        def attempt() -> Digest:
            nonlocal got
            advance(-got)
            got = 0
            git = hashlib.sha1(f"blob {item.size}\0".encode(), usedforsecurity=False)
            with store.writer() as writer, line.get(item.url, item.headers, item.auth) as response:
                if response.status_code != 200:
                    raise item.refuse(response)
                for chunk in arriving(response, line.chunk):
                    writer.write(chunk)
                    git.update(chunk)
                    got += len(chunk)
                    line.figures.add(fetched=len(chunk))
                    advance(len(chunk))
                    line.spend(len(chunk))
                if item.git_blob is not None and git.hexdigest() != item.git_blob:
                    raise DigestMismatch(f"has git blob id {git.hexdigest()}, expected {item.git_blob}", where=item.title)
                return writer.commit(item.digest, item.size, item.title)

        try:
            return line.persist(item.url, attempt)
        except DigestMismatch as error:
            if last:
                raise _mismatch(item, error) from error
            advance(-got)
            line.figures.add(retried=1)
    raise AssertionError("unreachable")


def _resumed(line: Line, store: Store, item: Download, digest: Digest, size: int, advance: Advance) -> None:
    """A file of known digest: goes on from what an earlier attempt, or a killed run, left behind."""
    with store.partial(digest, line.stopped) as descriptor:
        if descriptor is None:
            if line.stopped.is_set():
                raise Interrupted("stopped")
            line.figures.add(reused=size)  # another process brought it while this one waited
            advance(size)
            return
        ledger = Ledger(store.partial_state(digest), size, line.options.segment, store.partial_length(descriptor, size))
        with contextlib.closing(ledger), contextlib.closing(Fill(line, item, size, descriptor, ledger, advance)) as fill:
            for last in (False, True):
                try:
                    check(item.title, fill.run(), size, digest, size)
                except DigestMismatch as error:
                    fill.restart()
                    if last:
                        raise _mismatch(item, error) from error
                    line.figures.add(retried=1)
                    continue
                store.adopt(digest, descriptor)
                return


def read_back(store: Store, digest: Digest) -> bytes:
    """A small blob of the store. Raises DigestMismatch when it is not what its name says."""
    data = store.path(digest).read_bytes()
    if Digest.of(data) != digest:
        store.evict(digest)
        raise DigestMismatch("is damaged in the store and was removed", where=str(digest), remedy="run the command again")
    return data
