"""What requests, urllib3, sockets and servers mean when they fail, in few words, and whether it may pass."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import requests
import urllib3

from offline_kit.common.errors import AccessDenied, KitError, NetworkError, NotFound
from offline_kit.common.json_text import parse_json
from offline_kit.intake.transfer.connections import SlowAnswer
from offline_kit.intake.transfer.tls_faults import tls_fault

_LONGEST = 60.0  # seconds that a server may make us wait
_TOO_MANY = 429
_WORDS = 200  # characters of a server's own words
_AT_ONCE = 1.0  # seconds in which the same failure of another transfer is no news
_MANY = "run the command again later: it goes on where it stopped; whoever logs in (HF_TOKEN, docker login) may ask more often"


class RetryableError(Exception):
    """An attempt failed in a way that may pass.

    ``delay``: seconds that the server asked for; ``at_most``: retries that make sense; ``remedy``: another than the usual one.
    """

    def __init__(self, reason: str, delay: float | None = None, *, at_most: int | None = None, remedy: str = "") -> None:
        super().__init__(reason)
        self.reason, self.delay, self.at_most, self.remedy = reason, delay, at_most, remedy


class RetryNotes:
    """Says of each retry why, when and which of how many: one line, also where many transfers fail at once for one reason."""

    def __init__(self, tell: Callable[..., None] | None) -> None:
        self._tell, self._lock = tell, threading.Lock()
        self._said: dict[tuple[str, str, int], float] = {}

    def tell(self, where: str, again: RetryableError, wait: float, attempt: int, attempts: int) -> None:
        """``where``: a URL or a name; ``attempt``: the one that follows in ``wait`` seconds, of ``attempts``."""
        server = where.partition("://")[2].partition("/")[0].rpartition("@")[2] or where
        key, now = (server, again.reason, attempt), time.monotonic()
        with self._lock:
            fresh = now - self._said.get(key, -_AT_ONCE) >= _AT_ONCE
            self._said[key] = now
        if self._tell is not None and fresh:
            asked = ", as it asks" if again.delay is not None else ""
            remedy = f" -> {again.remedy}" if again.remedy else ""
            line = f"{server}: {again.reason}: again in {wait:.1f} s{asked}, attempt {attempt} of {attempts}{remedy}"
            facts = {"server": server, "reason": again.reason, "wait": round(wait, 1), "attempt": attempt, "attempts": attempts}
            self._tell(line, event="retry", **facts)


@contextlib.contextmanager
def translate_errors(url: str) -> Iterator[None]:
    """Turns the exceptions of requests, urllib3 and sockets into Again or NetworkError."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
        reason = _reason(error)
        if isinstance(error, requests.exceptions.ProxyError) and "407" in reason:
            raise closed_proxy(url) from error
        if fault := tls_fault(str(error), reason):
            raise NetworkError(fault[0], where=url, remedy=fault[1]) from error
        if slow := _cause(error, SlowAnswer):
            raise RetryableError(str(slow), at_most=0) from error
        if isinstance(error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.TooManyRedirects)):
            raise NetworkError(reason, where=url) from error
        raise RetryableError(reason) from error


def closed_proxy(url: str) -> AccessDenied:
    remedy = "put it into HTTPS_PROXY: http://NAME:PASSWORD@HOST:PORT"
    return AccessDenied("the proxy wants a login, or refuses this one", where=url, remedy=remedy)


def _cause(error: BaseException, kind: type[BaseException]) -> BaseException | None:
    """The exception of ``kind`` among those that led to ``error``."""
    deeper: BaseException | None = error
    for _ in range(8):
        if deeper is None or isinstance(deeper, kind):
            return deeper
        deeper = deeper.__cause__ or deeper.__context__
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause, in a few words."""
    inner: Any = error
    if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)):
        return "timed out"
    while deeper := next(
        (item for item in (getattr(inner, "reason", None), *inner.args) if isinstance(item, BaseException)), None
    ):
        inner = deeper
    text = re.sub(r"^\w+\] |\s*\(_ssl\.c:\d+\)", "", str(inner).rpartition(": ")[2]) or type(inner).__name__
    # urllib3 tells of a SOCKS proxy as of the host behind it: only the name of its connection shows it.
    proxied = isinstance(error, requests.exceptions.ProxyError) or "SOCKS" in str(error)
    return f"through the proxy: {text}" if proxied else text


_REFUSALS: Mapping[int, tuple[type[KitError], str]] = {
    401: (AccessDenied, "log in there, or ask whoever runs the server"),
    403: (AccessDenied, "ask whoever runs the server, or log in there; a proxy may refuse in its place"),
    404: (NotFound, "check the address"),
    410: (NotFound, "it was taken away for good: name another revision, tag or source"),
    451: (AccessDenied, "the law forbids it from where you are: take it from a mirror or another source that you may use"),
}


def refusal(status: int, reason: str, title: str, url: str, said: str = "") -> KitError:
    """The error for an answer that is no success and will not pass; ``said``: the server's own words."""
    kind, remedy = _REFUSALS.get(
        status, (NetworkError, "open the address in a browser: something else may answer in its place")
    )
    return kind(f"HTTP {status} {reason} for {title}{f' (it says: {said})' if said else ''}", where=url, remedy=remedy)


def server_words(body: bytes) -> str:
    """What a server says in the JSON of a refusal, as registries, token services and hubs write it; nothing of a page."""
    try:
        reported = parse_json(body, 1 << 16)
    except ValueError:
        return ""
    entries = reported.get("errors") if isinstance(reported, dict) else None
    first = entries[0] if isinstance(entries, list) and entries else reported
    if not isinstance(first, dict):
        return ""
    texts = (first.get(key) for key in ("message", "details", "detail", "error", "code"))
    found = next((text for text in texts if isinstance(text, str) and text.strip()), "")
    return "".join(letter if letter.isprintable() else " " for letter in found)[:_WORDS].strip()


def retry_after(text: str | None) -> float | None:
    """Seconds, from a number or a date; None where the server said nothing that can be understood."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text.strip(), re.ASCII):
        return float(text)
    try:
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError, TypeError):
        return None


def wait_demanded(status: int, reason: str, headers: Mapping[str, str], url: str) -> RetryableError | NetworkError:
    """What 408, 425, 429 and 5xx mean: how long to wait, or that nobody waits for that long."""
    said = f"HTTP {status} {reason}"
    delay = retry_after(headers.get("Retry-After"))
    if status != _TOO_MANY:
        return RetryableError(said, delay if delay is None or delay <= _LONGEST else _LONGEST)
    said = "was asked too often (HTTP 429)"
    window = re.search(r"(?:^|;)\s*t=([0-9]{1,9})(?:;|$)", headers.get("RateLimit", ""))
    if delay is None and window:
        delay = float(window[1])
    if delay is not None and delay > _LONGEST:
        return NetworkError(f"{said}, and wants {delay:.0f} seconds of quiet", where=url, remedy=_MANY)
    return RetryableError(said, delay, remedy=_MANY)
