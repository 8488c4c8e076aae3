"""What one transfer is asked to bring, and how its body arrives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import requests
import urllib3

from offline_kit.common.digest import Digest
from offline_kit.common.errors import KitError
from offline_kit.intake.transfer.follower import Consume
from offline_kit.intake.transfer.http_errors import refusal, server_words
from offline_kit.intake.transfer.messages import Auth

Explain = Callable[[int, Mapping[str, str]], "KitError | None"]
Advance = Callable[[int], None]
_EXPLAINED = (401, 403, 451)  # refusals whose reason only the server knows
_WORDS_AT_MOST = 4096  # bytes of a refusal that are read


@dataclass(frozen=True)
class DownloadRequest:
    """One file: where it is and what it must be. ``title`` names it to people; ``explain`` knows the source's errors.

    ``digest`` None: the digest is taken on the way; then ``git_blob``, the SHA-1 that git gives the file, is compared if given.
    ``consume`` reads a file of known digest in a thread of its own while it arrives; it must not raise.
    """

    url: str
    title: str
    digest: Digest | None = None
    size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: Auth | None = None
    git_blob: str | None = None
    explain: Explain | None = None
    consume: Consume | None = None

    def refuse(self, response: requests.Response) -> KitError:
        """The error for an answer that is no success."""
        said = server_words(_beginning(response)) if response.status_code in _EXPLAINED else ""
        own = self.explain(response.status_code, response.headers) if self.explain else None
        if own is not None:
            return type(own)(f"{own.what} (it says: {said})", where=own.where, remedy=own.remedy) if said else own
        return refusal(response.status_code, str(response.reason), self.title, self.url, said)


def _beginning(response: requests.Response) -> bytes:
    """What comes first of a body, and no more: who drips is not waited for, only words of a refusal hang on it."""
    try:
        return bytes(response.raw.read1(_WORDS_AT_MOST))
    except (urllib3.exceptions.HTTPError, OSError):
        return b""
    finally:
        response.close()


def total(response: requests.Response) -> int | None:
    """The size of the whole file, as far as the answer tells it."""
    if response.status_code == 200 and "Content-Encoding" not in response.headers:
        text = response.headers.get("Content-Length", "")
    else:
        text = response.headers.get("Content-Range", "").rpartition("/")[2]
    return int(text) if re.fullmatch("[0-9]{1,19}", text) else None
