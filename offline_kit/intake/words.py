"""What requests, urllib3, sockets and servers mean when they fail, in few words, and whether it may pass."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
from collections.abc import Iterator
from typing import Any

import requests
import urllib3

from offline_kit.errors import AccessDenied, NetworkError

_LONGEST = 300.0  # seconds that a server may make us wait


class Again(Exception):
    """An attempt failed in a way that may pass. ``delay``: seconds that the server asked for."""

    def __init__(self, reason: str, delay: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.delay = reason, delay


@contextlib.contextmanager
def in_words(url: str) -> Iterator[None]:
    """Turns the exceptions of requests, urllib3 and sockets into Again or NetworkError."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        reason = _reason(error)
        if isinstance(error, requests.exceptions.ProxyError) and "407" in reason:
            raise closed_proxy(url) from error
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            remedy = "if a company CA signs here, name its file in SSL_CERT_FILE"
            raise NetworkError(f"the server's certificate is not trusted: {reason}", where=url, remedy=remedy) from error
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects)):
            raise NetworkError(reason, where=url) from error
        raise Again(reason) from error


def closed_proxy(url: str) -> AccessDenied:
    remedy = "put it into HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT"
    return AccessDenied("the proxy wants a login, or refuses this one", where=url, remedy=remedy)


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    inner: Any = error
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return "timed out"
    while deeper := next(
        (item for item in (getattr(inner, "reason", None), *inner.args) if isinstance(item, BaseException)), None
    ):
        inner = deeper
    text = str(inner).rpartition(": ")[2] or type(inner).__name__
    return f"through the proxy: {text}" if isinstance(error, requests.exceptions.ProxyError) else text


def retry_after(text: str | None) -> float | None:
    """Seconds, from a number or a date; None where the server said nothing that can be understood."""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), _LONGEST)
