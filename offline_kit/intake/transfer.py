"""The one transfer for every URL: verified, resumed, in bounded memory.

Rules: bytes are hashed as they arrive, and what an earlier run left on disk is hashed once; nothing gets a name in the store
before size and digest agree; a body that is complete but wrong is asked for once more from the start, then refused by name.
What is on disk is never believed: a partial download that is damaged ends in the same comparison. A server that ignores
``Range`` costs a new start, never a wrong file.

One file is one stream here. Several ranges of one file at a time would need only a second way to fill the partial file: the
rest of this module asks nothing but the digest of the whole.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import requests

from offline_kit.digest import CHUNK, Digest, Hasher, read_chunks
from offline_kit.errors import AccessDenied, DigestMismatch, Interrupted, KitError, NetworkError, NotFound
from offline_kit.intake.line import Again, Auth, Line
from offline_kit.intake.store import Store, check, write_all

Explain = Callable[[int, Mapping[str, str]], "KitError | None"]
Advance = Callable[[int], None]


def unseen(amount: int) -> None:
    """An ``Advance`` that shows nothing."""


@dataclass(frozen=True)
class Download:
    """One file: where it is and what it must be. ``title`` names it to people; ``explain`` knows the source's errors.

    ``digest`` None: the digest is taken on the way; then ``git_blob``, the SHA-1 that git gives the file, is compared if given.
    """

    url: str
    title: str
    digest: Digest | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: Auth | None = None
    git_blob: str | None = None
    explain: Explain | None = None

    def refuse(self, response: requests.Response) -> KitError:
        """The error for an answer that is no success."""
        own = self.explain(response.status_code, response.headers) if self.explain else None
        if own is not None:
            return own
        kind = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 410: NotFound}.get(response.status_code, NetworkError)
        return kind(f"HTTP {response.status_code} {response.reason} for {self.title}", where=self.url)


def arriving(response: requests.Response) -> Iterator[memoryview]:
    """The body in pieces as they come: ``read`` would hold a piece back until it is full, and lose it on a stall."""
    while piece := response.raw.read1(CHUNK):
        yield memoryview(piece)


def download(line: Line, store: Store, item: Download, advance: Advance = unseen) -> Digest:
    """Brings ``item`` into the store and returns its digest. Raises KitError."""
    if item.digest is not None:
        if not (item.size is not None and store.has(item.digest, item.size)):
            _resumed(line, store, item, item.digest, advance)
        return item.digest
    return _whole(line, store, item, advance)


def _mismatch(item: Download, error: DigestMismatch) -> DigestMismatch:
    remedy = "the source serves other bytes than it promised: try again later, or run 'offline-kit lock' if it has changed"
    return DigestMismatch(error.what, where=f"{item.title} ({item.url})", remedy=remedy)


def _whole(line: Line, store: Store, item: Download, advance: Advance) -> Digest:
    """A file of unknown digest: every attempt starts anew."""
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
                for chunk in arriving(response):
                    writer.write(chunk)
                    git.update(chunk)
                    got += len(chunk)
                    line.figures.add(fetched=len(chunk))
                    advance(len(chunk))
                if item.git_blob is not None and git.hexdigest() != item.git_blob:
                    raise DigestMismatch(f"has git blob id {git.hexdigest()}, expected {item.git_blob}", where=item.title)
                return writer.commit(None, item.size, item.title)

        try:
            return line.persist(item.url, attempt)
        except DigestMismatch as error:
            if last:
                raise _mismatch(item, error) from error
            advance(-got)
            line.figures.add(retried=1)
    raise AssertionError("unreachable")


def _resumed(line: Line, store: Store, item: Download, digest: Digest, advance: Advance) -> None:
    """A file of known digest: goes on from what an earlier attempt, or a killed run, left behind."""
    with store.partial(digest, line.stopped) as descriptor:
        if descriptor is None:
            if line.stopped.is_set():
                raise Interrupted("stopped")
            size = store.path(digest).stat().st_size  # another process brought it while this one waited
            line.figures.add(reused=size)
            advance(size)
            return
        pour = _Pour(line, store, item, descriptor, advance)
        pour.take_up()
        for last in (False, True):
            try:
                line.persist(item.url, pour.attempt, lambda: pour.reached)
                check(item.title, pour.hasher.digest(), pour.hasher.size, digest, item.size)
            except DigestMismatch as error:
                pour.restart()
                if last:
                    raise _mismatch(item, error) from error
                line.figures.add(retried=1)
                continue
            store.adopt(digest, descriptor)
            return


class _Pour:
    """One file on its way into an open partial file. ``reached``: how far any attempt got, in bytes."""

    def __init__(self, line: Line, store: Store, item: Download, descriptor: int, advance: Advance) -> None:
        self._line, self._item, self._descriptor, self._advance = line, item, descriptor, advance
        self._path = store.root / "partial"
        self._ranges = True
        self.hasher, self.reached = Hasher(), 0

    def take_up(self) -> None:
        """Hashes what is on disk already."""
        with os.fdopen(os.dup(self._descriptor), "rb", buffering=0) as stream:
            for chunk in read_chunks(stream):
                self._count(chunk)
        if self._item.size is not None and self.hasher.size > self._item.size:
            self.restart()
        self._line.figures.add(reused=self.hasher.size)

    def restart(self) -> None:
        """Forgets every byte."""
        self._advance(-self.hasher.size)
        self.hasher = Hasher()
        os.ftruncate(self._descriptor, 0)
        os.lseek(self._descriptor, 0, os.SEEK_SET)

    def attempt(self) -> None:
        """One request for what is missing. Raises Again when it ended early."""
        item, offset = self._item, self.hasher.size
        if item.size is not None and offset == item.size:
            return
        if offset and not self._ranges:
            self.restart()
            offset = 0
        headers = {**item.headers, "Range": f"bytes={offset}-"} if offset else item.headers
        with self._line.get(item.url, headers, item.auth) as response:
            self._settle(response, offset)
            self._read(response)
        if item.size is not None and self.hasher.size < item.size:
            raise Again(f"the connection ended after {self.hasher.size} of {item.size} bytes")

    def _settle(self, response: requests.Response, offset: int) -> None:
        """Sees to it that the body begins where the file on disk ends, and that it is of the promised file at all."""
        size, total = self._item.size, _total(response)
        if size is not None and total is not None and total != size:
            raise DigestMismatch(f"has {total} bytes, expected {size}", where=self._item.title)
        if response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
            return
        if response.status_code in (206, 416):
            self._ranges = False
            self.restart()
            raise Again("the server does not continue where it was asked to")
        if response.status_code != 200:
            raise self._item.refuse(response)
        if offset:
            self._ranges = False
            self.restart()

    def _read(self, response: requests.Response) -> None:
        size = self._item.size
        for chunk in arriving(response):
            write_all(self._descriptor, chunk, self._path)
            self._count(chunk)
            self.reached = max(self.reached, self.hasher.size)
            self._line.figures.add(fetched=len(chunk))
            if size is not None and self.hasher.size > size:
                return  # too long already: the comparison says so
            if self._line.stopped.is_set():
                raise Interrupted("stopped")

    def _count(self, chunk: memoryview) -> None:
        self.hasher.update(chunk)
        self._advance(len(chunk))


def _total(response: requests.Response) -> int | None:
    """The size of the whole file, as far as the answer tells it."""
    if response.status_code == 200 and "Content-Encoding" not in response.headers:
        text = response.headers.get("Content-Length", "")
    else:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None


def read_back(store: Store, digest: Digest) -> bytes:
    """A small blob of the store. Raises DigestMismatch when it is not what its name says."""
    data = store.path(digest).read_bytes()
    if Digest.of(data) != digest:
        store.evict(digest)
        raise DigestMismatch("is damaged in the store and was removed", where=str(digest), remedy="run the command again")
    return data
