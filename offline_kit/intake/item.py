"""What one transfer is asked to bring, and how its body arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import requests

from offline_kit.digest import Digest
from offline_kit.errors import AccessDenied, KitError, NetworkError, NotFound
from offline_kit.intake.line import Auth

Explain = Callable[[int, Mapping[str, str]], "KitError | None"]
Advance = Callable[[int], None]


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


def arriving(response: requests.Response, most: int) -> Iterator[memoryview]:
    """The body in pieces as they come: ``read`` would hold a piece back until it is full, and lose it on a stall."""
    while piece := response.raw.read1(most):
        yield memoryview(piece)


def total(response: requests.Response) -> int | None:
    """The size of the whole file, as far as the answer tells it."""
    if response.status_code == 200 and "Content-Encoding" not in response.headers:
        text = response.headers.get("Content-Length", "")
    else:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if text.isdigit() else None
