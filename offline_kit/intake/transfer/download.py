"""The one transfer for every URL: verified, resumed, in bounded memory.

Rules: bytes are hashed as they arrive, and what an earlier run or another stream left on disk is read once more at most;
nothing gets a name in the store before size and digest agree; a body that is complete but wrong is asked for once more from the
start, then refused by name. What is on disk is never believed: a partial download that is damaged ends in the same
comparison. ``ETag`` and the like are not looked at: mirrors differ in them, and the digest decides anyway.
"""

from __future__ import annotations

import contextlib
import hashlib

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, Interrupted, KitError, NetworkError
from offline_kit.common.units import size as in_units
from offline_kit.intake.store.space import require_space
from offline_kit.intake.store.store import Store
from offline_kit.intake.store.writer import check
from offline_kit.intake.transfer.body import iter_body
from offline_kit.intake.transfer.follower import Follower
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.ranged_download import RangedDownload
from offline_kit.intake.transfer.request import Advance, DownloadRequest, total
from offline_kit.intake.transfer.resume_journal import ResumeJournal

__all__ = ["Advance", "download", "ignore_progress", "probe", "read_back"]


def ignore_progress(amount: int) -> None:
    """An ``Advance`` that shows nothing."""


def download(client: HttpClient, store: Store, item: DownloadRequest, advance: Advance = ignore_progress) -> Digest:
    """Brings ``item`` into the store and returns its digest. Raises KitError."""
    if item.digest is not None and item.size is not None and store.has(item.digest, item.size):
        return item.digest
    if item.size is not None:
        require_space(store, item.size - (store.partial_size(item.digest) if item.digest else 0), item.title)
    with client.slot():
        if item.digest is None or item.size is None:
            return _whole(client, store, item, advance)
        _resumed(client, store, item, item.digest, item.size, advance)
        return item.digest


def probe(client: HttpClient, item: DownloadRequest) -> int | None:
    """How large the server says that the file is, without reading it. Raises KitError."""

    def attempt() -> int | None:
        with client.get(item.url, {**item.headers, "Range": "bytes=0-0"}, item.auth) as response:
            if response.status_code not in (200, 206, 416):
                raise item.refuse(response)
            return total(response)

    return client.retrying(item.url, attempt)


def _endless(item: DownloadRequest, most: int) -> KitError:
    """The error for a body that is longer than it may be."""
    if item.size is not None:
        return DigestMismatch(f"has more than {item.size} bytes", where=item.title)
    what = f"the server does not say how large it is, and sends more than {in_units(most)}"
    return NetworkError(what, where=item.url, remedy="take it from a server that says its Content-Length, or as file://")


def _mismatch(item: DownloadRequest, error: DigestMismatch) -> DigestMismatch:
    remedy = "the source serves other bytes than it promised: try again later, or run 'offline-kit lock' if it has changed"
    return DigestMismatch(error.what, where=f"{item.title} ({item.url})", remedy=remedy)


def _whole(client: HttpClient, store: Store, item: DownloadRequest, advance: Advance) -> Digest:
    """A file of unknown digest or size: every attempt starts anew."""
    for last in (False, True):
        got = 0

        def attempt() -> Digest:
            nonlocal got
            advance(-got)
            got = 0
            git = hashlib.sha1(f"blob {item.size}\0".encode(), usedforsecurity=False)
            with store.writer() as writer, client.get(item.url, item.headers, item.auth) as response:
                if response.status_code != 200:
                    raise item.refuse(response)
                for chunk in iter_body(response, client.chunk, client.least_rate(), item.size):
                    got += len(chunk)
                    if got > (client.options.unknown if item.size is None else item.size):
                        raise _endless(item, client.options.unknown)
                    writer.write(chunk)
                    git.update(chunk)
                    client.stats.add(fetched=len(chunk))
                    advance(len(chunk))
                    client.spend(len(chunk))
                if item.git_blob is not None and git.hexdigest() != item.git_blob:
                    raise DigestMismatch(f"has git blob id {git.hexdigest()}, expected {item.git_blob}", where=item.title)
                return writer.commit(item.digest, item.size, item.title)

        try:
            return client.retrying(item.url, attempt)
        except DigestMismatch as error:
            if last:
                raise _mismatch(item, error) from error
            advance(-got)
            client.stats.add(retried=1)
    raise AssertionError("unreachable")


def _resumed(client: HttpClient, store: Store, item: DownloadRequest, digest: Digest, size: int, advance: Advance) -> None:
    """A file of known digest: goes on from what an earlier attempt, or a killed run, left behind."""
    with store.partial(digest, client.stopped) as descriptor:
        if descriptor is None:
            if client.stopped.is_set():
                raise Interrupted("stopped")
            client.stats.add(reused=size)  # another process brought it while this one waited
            advance(size)
            return
        journal = ResumeJournal(
            store.partial_state(digest), size, client.options.segment, store.partial_length(descriptor, size)
        )
        with (
            contextlib.closing(journal),
            contextlib.closing(RangedDownload(client, item, size, descriptor, journal, advance)) as transfer,
            contextlib.closing(Follower(item.consume, descriptor, size, transfer)) as follower,
        ):
            for last in (False, True):
                try:
                    check(item.title, transfer.run(), size, digest, size)
                except DigestMismatch as error:
                    transfer.restart()
                    if last:
                        raise _mismatch(item, error) from error
                    client.stats.add(retried=1)
                    continue
                store.commit_partial(digest, descriptor)
                follower.finish()
                return


def read_back(store: Store, digest: Digest) -> bytes:
    """A small blob of the store. Raises DigestMismatch when it is not what its name says."""
    data = store.path(digest).read_bytes()
    if Digest.of(data) != digest:
        store.evict(digest)
        raise DigestMismatch("is damaged in the store and was removed", where=str(digest), remedy="run the command again")
    return data
