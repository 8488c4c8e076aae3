"""What goes into a request and what comes back: credentials, a body, a small answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import requests
import requests.auth


class Auth(Protocol):
    """Credentials for one host."""

    def header(self) -> str | None:
        """The value of ``Authorization``, or None."""

    def renew(self, challenge: str, refused: str | None) -> bool:
        """Called on a 401 with its ``WWW-Authenticate`` and the header that was refused; True: there is a new one to try."""


@dataclass(frozen=True)
class Reply:
    """A small answer, whole. ``passed``: the headers of the redirects on the way to ``url``, which gave it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = ""
    passed: tuple[Mapping[str, str], ...] = ()
    reason: str = ""


class Body(Protocol):
    """What is read as it is sent, and says how many bytes are left."""

    def read(self, size: int = -1) -> bytes: ...

    def __len__(self) -> int: ...


class Authorization(requests.auth.AuthBase):
    """Sets the header of ``auth``, where there is one."""

    def __init__(self, auth: Auth | None) -> None:
        self._auth = auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        header = self._auth.header() if self._auth else None
        if header is not None:
            request.headers["Authorization"] = header
        return request
