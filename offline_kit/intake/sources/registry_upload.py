"""A blob on its way into a repository of a registry, piece by piece.

Rules: what was sent is kept as far as the registry keeps it: after a failure it is asked how far it came, and goes on from
there, or begins anew where it has forgotten; a registry that takes no pieces gets the blob whole; one that takes no large ones
gets smaller ones; bytes that it refuses are read once more here, to say whose fault that is.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from offline_kit.common.digest import Digest, Hasher
from offline_kit.common.errors import KitError, NetworkError
from offline_kit.intake.transfer.http_errors import RetryableError, server_words
from offline_kit.intake.transfer.messages import Body, Reply
from offline_kit.intake.transfer.origins import redirect_target

Read = Callable[[int, int], Iterator[memoryview | bytes]]
SMALLEST = 64 << 10  # bytes of a piece
_OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Upload:
    """A blob to be sent: ``read`` gives so many bytes from a place; ``changed``: the error where they have another digest."""

    digest: Digest
    size: int
    title: str
    read: Read
    changed: Callable[[Digest], KitError]


class Place(Protocol):
    """The repository that it goes to. ``chunk``: bytes that one request carries at most."""

    name: str
    chunk: int

    @property
    def uploads_url(self) -> str:
        """Where an upload begins."""

    def has(self, digest: Digest, size: int) -> bool:
        """Whether the blob is there."""

    def send(self, method: str, url: str, headers: Mapping[str, str], body: Body | bytes) -> Reply:
        """One attempt of an upload."""

    def count(self, amount: int) -> None:
        """So many bytes of a body go out."""

    def refuse(self, reply: Reply, title: str) -> KitError:
        """The error for an answer that is no success."""


class _Pieces:
    """A body, in the pieces in which it is read."""

    def __init__(self, size: int, pieces: Iterator[memoryview | bytes], count: Callable[[int], None]) -> None:
        self._left, self._pieces, self._count = size, pieces, count

    def __len__(self) -> int:
        return self._left

    def read(self, size: int = -1) -> bytes:
        data = bytes(next(self._pieces, b""))
        self._left -= len(data)
        self._count(len(data))
        return data


class UploadRun:
    """One blob on its way. ``furthest``: bytes that the registry said to have, at most."""

    def __init__(self, target: Place, upload: Upload, advance: Callable[[int], None]) -> None:
        self._target, self._upload, self._advance = target, upload, advance
        self._location, self._offset, self._chunk = "", 0, target.chunk
        self._least = SMALLEST  # bytes of a piece: less is not taken, or not tried
        self._whole = upload.size <= target.chunk  # in one request
        self._tried = self._doubtful = False
        self.furthest = 0

    def attempt(self) -> None:
        """Goes on where the last one ended. Raises RetryableError, KitError."""
        if self._tried and self._target.has(self._upload.digest, self._upload.size):
            return self._reach(self._upload.size)  # only the answer was lost
        self._tried = True
        if self._location and self._doubtful:
            self._ask_how_far()
        while True:
            if not self._location:
                self._begin()
            if not self._whole and self._offset < self._upload.size:
                self._send_piece()
            elif self._finish():
                return None

    def _begin(self) -> None:
        reply = self._target.send("POST", self._target.uploads_url, {}, b"")
        if reply.status != 202:
            raise self._target.refuse(reply, self._upload.title)
        self._offset, self._doubtful = 0, False
        self._least = max(SMALLEST, _number(reply.headers.get("OCI-Chunk-Min-Length", "")))
        self._chunk = max(self._chunk, self._least)
        self._follow(reply, self._target.uploads_url)

    def _ask_how_far(self) -> None:
        """How much of it the registry has, as it says; it may have forgotten."""
        reply = self._target.send("GET", self._location, {}, b"")
        reached = _reached(reply.headers.get("Range", ""), self._offset) if reply.status in (202, 204) else None
        if reached is None or reached > self._upload.size or self._whole:
            self._location = ""
        else:
            self._follow(reply, self._location)
            self._reach(reached)
        self._doubtful = False

    def _send_piece(self) -> None:
        count = min(self._chunk, self._upload.size - self._offset)
        headers = {**_OCTETS, "Content-Range": f"{self._offset}-{self._offset + count - 1}"}
        self._doubtful = True
        reply = self._target.send("PATCH", self._location, headers, self._body(count))
        if reply.status in (201, 202, 204):
            before, most = self._offset, self._offset + count
            reached = _reached(reply.headers.get("Range", ""), most)
            self._reach(most if reached is None else min(reached, most))
            self._follow(reply, self._location)
            self._doubtful = False
            if (kept := self._offset - before) < count // 2:  # a failure: the rest would be sent again and again
                told = reply.headers.get("Range", "")[:40]
                raise RetryableError(f"takes {count} bytes and keeps {max(kept, 0) or 'nothing'} of it (Range: {told})")
        elif reply.status == 413:
            self._take_less(count)
            self._ask_how_far()
        elif reply.status in (405, 501):
            self._whole, self._location = True, ""
        else:
            self._lose(reply)

    def _finish(self) -> bool:
        """Whether the blob is whole there; False: it has to be sent in smaller pieces."""
        mark = "&" if "?" in self._location else "?"
        url = f"{self._location}{mark}{urllib.parse.urlencode({'digest': str(self._upload.digest)})}"
        rest = self._upload.size - self._offset
        self._doubtful = True
        reply = self._target.send("PUT", url, _OCTETS, self._body(rest) if rest else b"")
        if reply.status in (200, 201, 202, 204):
            self._reach(self._upload.size)
            return True
        if reply.status == 413 and rest:
            self._take_less(min(rest, self._chunk))
            self._whole, self._location = False, ""
            return False
        self._lose(reply)
        return False

    def _lose(self, reply: Reply) -> None:
        """An upload that the registry does not go on with: begun anew, if that may help."""
        self._location = ""
        said = server_words(reply.body)
        if reply.status == 400 and "digest" in said.lower():
            self._check_own()
            raise RetryableError(f"refuses the bytes of {self._upload.digest.short} ({said})", at_most=2)
        if reply.status in (400, 404, 409, 416):
            raise RetryableError(f"has lost the upload (HTTP {reply.status}{f': {said}' if said else ''})")
        raise self._target.refuse(reply, self._upload.title)

    def _check_own(self) -> None:
        """Whether what is refused was right. Raises ``Upload.changed``."""
        hasher = Hasher()
        for piece in self._upload.read(0, self._upload.size):
            hasher.update(piece)
        if hasher.digest() != self._upload.digest:
            raise self._upload.changed(hasher.digest())

    def _take_less(self, count: int) -> None:
        """Smaller pieces from now on. Raises NetworkError where there are none."""
        if count <= self._least:
            least = f", and no pieces below {self._least} bytes" if self._least > SMALLEST else ""
            what = f"takes no request of {count} bytes (HTTP 413){least}"
            remedy = "whoever runs it, or the proxy before it, has to allow larger ones (nginx: client_max_body_size)"
            raise NetworkError(what, where=self._target.name, remedy=remedy)
        self._chunk = max(self._least, count // 2)

    def _body(self, count: int) -> Body:
        return _Pieces(count, self._upload.read(self._offset, count), self._target.count)

    def _reach(self, offset: int) -> None:
        self._offset = offset
        self._advance(max(0, offset - self.furthest))
        self.furthest = max(self.furthest, offset)

    def _follow(self, reply: Reply, url: str) -> None:
        location = reply.headers.get("Location", "")
        self._location = redirect_target(url, location) if location else url


def _number(text: str) -> int:
    return int(text) if re.fullmatch("[0-9]{1,12}", text) else 0


def _reached(text: str, most: int) -> int | None:
    """How many bytes ``Range: 0-N`` says to be there. Nothing at all is told as 0-0, as one byte is."""
    match = re.fullmatch(r"(?:bytes=)?0-([0-9]{1,15})", text.strip())
    if match is None:
        return None
    last = int(match[1])
    return 0 if last == 0 and most != 1 else last + 1
