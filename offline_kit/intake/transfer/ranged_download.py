"""One file on its way into a partial file, by one stream or by several ranges of it at a time.

Rules: a further stream is started only where a slot is free (``HttpClient.slots``: all files share them) and only after the
server has shown that it keeps to ranges; a server that ignores ``Range``, or continues elsewhere, gets one stream from the
start, and the others end; the first error of any stream ends all.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import requests

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, Interrupted
from offline_kit.common.files import disk_error, write_behind
from offline_kit.intake.transfer.body import iter_body
from offline_kit.intake.transfer.byte_ranges import ByteRange, Cancelled, RangeAllocator
from offline_kit.intake.transfer.connections import shut_down
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.intake.transfer.http_errors import RetryableError
from offline_kit.intake.transfer.ordered_hash import OrderedHasher
from offline_kit.intake.transfer.request import Advance, DownloadRequest, total
from offline_kit.intake.transfer.resume_journal import ResumeJournal

_AT_ONCE = 8 << 20  # bytes that a stream reads back before it looks at its socket again
_JOIN_PATIENCE = 5.0  # seconds that streams which were told to end are waited for


class RangedDownload:
    """Fills the partial file behind ``descriptor``; close it in the end."""

    def __init__(
        self, client: HttpClient, item: DownloadRequest, size: int, descriptor: int, journal: ResumeJournal, advance: Advance
    ) -> None:
        self._client, self._item, self._size, self._path = client, item, size, journal.path
        self._descriptor = os.dup(descriptor)  # a stream that was told to end may outlive the caller's own
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None
        self._open: set[requests.Response] = set()
        self._lock = threading.Lock()
        self._many = False  # the server has kept to a range
        self._alone = False  # it has not
        self._parts = RangeAllocator(journal, advance)
        self._hasher = OrderedHasher(self._descriptor, self._parts)
        client.stats.add(reused=journal.total)

    @property
    def hashed(self) -> int:
        """How many bytes from the start are on disk and in the hash."""
        return self._hasher.hasher.size

    def run(self) -> Digest:
        """The digest of the whole file, when every byte is on disk and was hashed. Raises KitError."""
        try:
            while self._hasher.hasher.size < self._size:
                self._stream()
                self._wait()
                while self._hasher.catch_up(_AT_ONCE):
                    if self._client.stopped.is_set():
                        raise Interrupted("stopped")
            return self._hasher.hasher.digest()
        except BaseException as error:
            self._fail(error)
            raise

    def restart(self) -> None:
        """Forgets every byte, and the error that ended the run."""
        self._join_workers()
        self._parts.reset()
        self._hasher.reset()
        self._failure = None

    def close(self) -> None:
        """Ends what is still under way."""
        self._fail(Cancelled())
        self._join_workers()
        if not any(thread.is_alive() for thread in self._threads):
            os.close(self._descriptor)

    # Streams -------------------------------------------------------------------------------------------------------------

    def _stream(self) -> None:
        """Brings part after part until there is none left to take."""
        try:
            while self._failure is None and (span := self._take()) is not None:
                attempt, reached = self._calls(span)
                try:
                    self._client.retrying(self._item.url, attempt, reached)
                finally:
                    self._parts.release(span)
                self._start_workers()
        except Cancelled:
            return

    def _take(self) -> ByteRange | None:
        journal, options = self._parts.journal, self._client.options
        fair = (self._size - journal.total) // (2 * self._client.jobs)
        return self._parts.take(self._size if self._alone else min(options.span, fair))

    def _calls(self, span: ByteRange) -> tuple[Callable[[], None], Callable[[], int]]:
        def attempt() -> None:
            try:
                self._attempt(span)
            except RetryableError:
                self._parts.check(span)  # a connection that was ended on purpose is no reason to try again
                raise

        return attempt, lambda: span.furthest

    def _start_workers(self) -> None:
        """Starts further streams while there are slots and ranges."""
        while self._failure is None and self._many and not self._alone and self._parts.has_unassigned():
            if not self._client.slots.acquire(blocking=False):
                return
            thread = threading.Thread(target=self._help, daemon=True)
            with self._lock:
                thread.start()
                self._threads.append(thread)

    def _help(self) -> None:
        try:
            self._stream()
        except BaseException as error:  # noqa: BLE001  handed over to the thread that asked
            self._fail(error)
        finally:
            self._client.slots.release()

    def _wait(self) -> None:
        """Until the other streams have ended; meanwhile what they bring is hashed. Raises what one raised."""
        while self._failure is None and self._running():
            if not self._hasher.catch_up(_AT_ONCE):
                self._client.pause(0.02)
        if self._failure is not None:
            raise self._failure

    def _running(self) -> bool:
        with self._lock:
            return any(thread.is_alive() for thread in self._threads)

    def _fail(self, error: BaseException) -> None:
        """Keeps the first error and ends all streams."""
        with self._lock:
            self._failure = self._failure or error
            self._parts.cancel_all()
            for response in self._open:
                shut_down(response)

    def _join_workers(self) -> None:
        deadline = time.monotonic() + _JOIN_PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # One request ---------------------------------------------------------------------------------------------------------

    def _attempt(self, span: ByteRange) -> None:
        """One request for what is missing. Raises RetryableError when it ended early, and Cancelled."""
        self._parts.check(span)
        if span.begin and self._alone:
            self._start_over(span)
        if span.begin == span.end:
            return
        headers = dict(self._item.headers)
        if span.begin or span.end < self._size:
            headers["Range"] = f"bytes={span.begin}-{'' if span.end == self._size else span.end - 1}"
        with self._client.get(self._item.url, headers, self._item.auth) as response:
            with self._lock:
                self._open.add(response)
            try:
                self._settle(response, span)
                self._start_workers()
                self._read_body(response, span)
            finally:
                with self._lock:
                    self._open.discard(response)
        if span.begin < span.end:
            raise RetryableError(f"the connection ended after {span.begin} of {self._size} bytes")

    def _settle(self, response: requests.Response, span: ByteRange) -> None:
        """Sees to it that the body begins where it was asked to, and that it is of the promised file at all."""
        found, status = total(response), response.status_code
        if found is not None and found != self._size:
            raise DigestMismatch(f"has {found} bytes, expected {self._size}", where=self._item.title)
        packed = response.headers.get("Content-Encoding", "identity") != "identity"  # then a range is one of packed bytes
        if status == 206 and not packed and response.headers.get("Content-Range", "").startswith(f"bytes {span.begin}-"):
            self._many = True
            return
        if status in (206, 416):
            self._start_over(span)
            raise RetryableError("the server does not continue where it was asked to")
        if status != 200:
            raise self._item.refuse(response)
        if span.begin or span.end < self._size:
            self._start_over(span)

    def _start_over(self, span: ByteRange) -> None:
        """This server gets one stream, from the first byte on, and ``span`` is it."""
        self._alone = True
        self._parts.assign_all(span)
        self._hasher.reset()

    def _read_body(self, response: requests.Response, span: ByteRange) -> None:
        for chunk in iter_body(response, self._client.chunk, self._client.least_rate(), self._size):
            piece = chunk[: span.end - span.begin]
            self._write(span, piece)
            self._client.stats.add(fetched=len(piece))
            self._client.spend(len(piece))
            if len(piece) < len(chunk):
                if span.end < self._size:
                    return
                raise DigestMismatch(f"has more than {self._size} bytes", where=self._item.title)
            if self._client.stopped.is_set():
                raise Interrupted("stopped")

    def _write(self, span: ByteRange, piece: memoryview) -> None:
        """To disk, then into the journal, then, if it is its turn, into the hash."""
        self._parts.check(span)
        offset, done = span.begin, 0
        try:
            while done < len(piece):
                done += os.pwrite(self._descriptor, piece[done:], offset + done)
        except OSError as error:
            raise disk_error(error, self._path) from error
        write_behind(self._descriptor, offset, offset + done)
        self._parts.wrote(span, piece)
        if not self._hasher.feed(offset, piece):
            self._hasher.catch_up(_AT_ONCE)
