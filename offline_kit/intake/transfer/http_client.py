"""The line to the outside: sessions, time limits, retries, errors in words.

Rules: what may pass by itself (timeouts, resets, 408, 425, 429, 5xx) is tried again, after a growing, jittered pause or the
one that the server asks for; everything else is said at once; an attempt that brought bytes starts the count anew, so a bad
line may break as often as it likes while it moves; proxies and CA bundles come from the environment as usual
(``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``, ``SSL_CERT_FILE``); credentials go to the host that they are for and to no other.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

import requests

from offline_kit import __version__
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import CHUNK
from offline_kit.common.errors import Interrupted, NetworkError
from offline_kit.intake.transfer.body import finish_redirect, read_small
from offline_kit.intake.transfer.connections import Session, shut_down
from offline_kit.intake.transfer.http_errors import RetryableError, RetryNotes, closed_proxy, translate_errors, wait_demanded
from offline_kit.intake.transfer.messages import Auth, Authorization, Body, Reply
from offline_kit.intake.transfer.origins import (
    REDIRECTS,
    certificates,
    check_url,
    harmless,
    origin,
    proxies_for,
    redirect_target,
    same_origin,
)
from offline_kit.intake.transfer.rate_limit import LeastRate, RateLimiter, TransferStats

T = TypeVar("T")
_log = logging.getLogger(__name__)
_PASSING = {408, 425, 429}
_NEVER = 501  # not implemented: asking again changes nothing
_REDIRECTS_AT_MOST = 10
_REMEDY = "check the network and HTTPS_PROXY, then run the command again: it goes on where it stopped"
_CIRCLE = "check the address; a login page or a proxy may answer in its place: open it in a browser"
_WORTH = 1 << 20  # bytes: an attempt that brought this many was no failure


@dataclass(frozen=True)
class TransferOptions:
    """How patient to be: ``retries`` in a row, pauses from ``backoff`` seconds on, timeouts in seconds.

    ``limit_rate``: bytes a second of all transfers together; ``min_rate``: of each one at least, looked at every ``slow_for``
    seconds; ``unknown``: bytes that are taken from a server that does not say how many there are; ``segment``: bytes that are
    fetched again when a partial file is found damaged; ``span``: bytes that one request brings at most, where the server keeps
    to ranges; ``mirrors``: registry -> where to ask instead, a host with an optional port, or a URL.
    """

    retries: int = 5
    backoff: float = 0.5
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    limit_rate: int | None = None
    min_rate: int = 1024
    slow_for: float = 10.0
    unknown: int = 1 << 30
    segment: int = 16 << 20
    span: int = 256 << 20
    mirrors: Mapping[str, str] = field(default_factory=dict)


class HttpClient:
    """Everything that requests of one run share. Use as a context manager; safe for several threads.

    ``slots``: how many more transfers may run at once, of ``jobs`` in all; ``tell``: a ``note`` that hears of retries.
    """

    def __init__(self, options: TransferOptions, jobs: int = 4, tell: Callable[..., None] | None = None) -> None:
        self.options, self.stats, self.stopped = options, TransferStats(), threading.Event()
        self.jobs, self.slots = jobs, threading.Semaphore(jobs)
        self.chunk = CHUNK if options.limit_rate is None else max(4096, min(CHUNK, options.limit_rate // 10))
        self._limiter, self._retries = RateLimiter(options.limit_rate), RetryNotes(tell)
        self._local, self._lock = threading.local(), threading.Lock()
        self._sessions: list[requests.Session] = []
        self._open: set[requests.Response] = set()

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for session in self._sessions:
            session.close()

    def stop(self) -> None:
        """Ends every transfer of this client soon, also one that waits for bytes."""
        self.stopped.set()
        with self._lock:
            waiting = list(self._open)
        for response in waiting:
            shut_down(response)

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Holds one of the slots; waits for it. Raises Interrupted as soon as the client is stopped."""
        while not self.slots.acquire(timeout=0.2):
            if self.stopped.is_set():
                raise Interrupted("stopped")
        try:
            yield
        finally:
            self.slots.release()

    def spend(self, amount: int) -> None:
        """Waits as long as ``limit_rate`` wants after ``amount`` bytes. Raises Interrupted."""
        delay = self._limiter.delay(amount)
        if delay > 0:
            self.pause(delay)

    def least_rate(self) -> LeastRate:
        """How slow one body may be."""
        return LeastRate(self.options.min_rate, self.options.slow_for)

    def pause(self, seconds: float) -> None:
        """Waits; raises Interrupted as soon as the client is stopped."""
        if self.stopped.wait(seconds):
            raise Interrupted("stopped")

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        headers: Mapping[str, str],
        auth: Auth | None = None,
        form: Mapping[str, str] | None = None,
        stay: bool = False,
    ) -> Iterator[requests.Response]:
        """One attempt: a response whose body is not read yet. ``form`` makes it a POST; ``stay``: no other host.

        Raises RetryableError (also while the body is read inside the block), NetworkError (no sense in trying again).
        """
        with translate_errors(url), contextlib.ExitStack() as stack:
            response = stack.enter_context(self._send(url, headers, auth, form, stay))
            if response.status_code == 401 and auth is not None and same_origin(url, response.url):
                refused = response.request.headers.get("Authorization")
                if auth.renew(response.headers.get("WWW-Authenticate", ""), refused):
                    response = stack.enter_context(self._send(url, headers, auth, form, stay))
            if response.status_code == 407:
                raise closed_proxy(url)
            if response.status_code in _PASSING or (response.status_code >= 500 and response.status_code != _NEVER):
                raise wait_demanded(response.status_code, str(response.reason), response.headers, url)
            yield response

    def send(
        self, method: str, url: str, headers: Mapping[str, str], auth: Auth | None = None, data: bytes | Body | None = None
    ) -> Reply:
        """One attempt at a request that changes something, and its small answer; it is sent on nowhere.

        Raises RetryableError (also where a body that is read as it is sent would have to begin anew), NetworkError.
        """
        with translate_errors(url):
            refused = auth.header() if auth else None  # before it is sent: another thread may renew it meanwhile
            reply = self._send_once(method, url, headers, auth, data)
            told = reply.headers.get("WWW-Authenticate", "")
            if reply.status == 401 and auth is not None and auth.renew(told, refused):
                if data is not None and not isinstance(data, bytes):
                    raise RetryableError("the login had to be renewed", 0.0)
                reply = self._send_once(method, url, headers, auth, data)
            if reply.status == 407:
                raise closed_proxy(url)
            if reply.status in _PASSING or (reply.status >= 500 and reply.status != _NEVER):
                raise wait_demanded(reply.status, reply.reason, reply.headers, url)
            return reply

    def _send_once(
        self, method: str, url: str, headers: Mapping[str, str], auth: Auth | None, data: bytes | Body | None
    ) -> Reply:
        target = check_url(url)
        # urllib3 sends a body under the limit for connecting, which is too short for a server that pauses while it writes.
        timeout = (self.options.read_timeout if data else self.options.connect_timeout, self.options.read_timeout)
        with self._session().request(
            method, target, headers=headers, data=data, auth=Authorization(auth), stream=True,
            timeout=timeout, allow_redirects=False, proxies=proxies_for(target),
        ) as response:  # fmt: skip
            _log.debug("%s %s: HTTP %d", method, target, response.status_code)
            body = read_small(response, SMALL_DOCUMENT, self.least_rate())
            return Reply(response.status_code, response.headers, body, response.url, reason=str(response.reason))

    def read(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        form: Mapping[str, str] | None = None,
        limit: int = SMALL_DOCUMENT,
        stay: bool = False,
    ) -> Reply:
        """A small answer of any status that is no passing failure; ``stay``: from this host alone. Raises NetworkError."""

        def attempt() -> Reply:
            with self.get(url, headers or {}, auth, form, stay) as response:
                body = read_small(response, limit, self.least_rate())
                hops = [item.headers for item in response.history]
                return Reply(response.status_code, response.headers, body, response.url, tuple(hops))

        return self.retrying(url, attempt)

    def retrying(
        self, where: str, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0, retries: int | None = None
    ) -> T:
        """The result of ``attempt``, tried again on Again. ``reached``: how many bytes there are; ``retries`` overrides.

        Raises NetworkError, Interrupted.
        """
        allowed = self.options.retries if retries is None else retries
        failures = 0
        while True:
            before = reached()
            try:
                return attempt()
            except RetryableError as again:
                if self.stopped.is_set():
                    raise Interrupted("stopped") from again
                failures = 1 if reached() - before >= _WORTH else failures + 1
                most = allowed if again.at_most is None else min(allowed, again.at_most)
                if failures > most:
                    raise NetworkError(
                        f"{again.reason} ({failures} attempts)", where=where, remedy=again.remedy or _REMEDY
                    ) from again
                self.stats.add(retried=1)
                grown = min(60.0, self.options.backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
                wait = grown if again.delay is None else again.delay
                self._retries.tell(where, again, wait, failures + 1, most + 1)
                self.pause(wait)

    @contextlib.contextmanager
    def _send(
        self, url: str, headers: Mapping[str, str], auth: Auth | None, form: Mapping[str, str] | None, stay: bool
    ) -> Iterator[requests.Response]:
        if self.stopped.is_set():
            raise Interrupted("stopped")
        response = self._follow(url, {"Accept-Encoding": "identity", **headers}, auth, form, stay)
        with self._lock:
            self._open.add(response)
        try:
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def _follow(
        self, url: str, headers: Mapping[str, str], auth: Auth | None, form: Mapping[str, str] | None, stay: bool
    ) -> requests.Response:
        """The answer behind all redirects. What proves who we are stays with the origin of ``url``."""
        timeout = (self.options.connect_timeout, self.options.read_timeout)
        target = check_url(url)
        passed: list[requests.Response] = []
        for _ in range(_REDIRECTS_AT_MOST):
            response = self._session().request(
                "GET" if form is None else "POST", target, headers=headers, data=form, auth=Authorization(auth),
                stream=True, timeout=timeout, allow_redirects=False, proxies=proxies_for(target),
            )  # fmt: skip
            _log.debug("%s %s: HTTP %d", "GET" if form is None else "POST", target, response.status_code)
            location = self._session().get_redirect_target(response) if response.status_code in REDIRECTS else None
            response.history = passed
            if location is None:
                return response
            finish_redirect(response, self.least_rate())
            passed = [*passed, response]
            following = redirect_target(target, location)
            if stay and origin(following)[1] != origin(url)[1]:
                what = f"sends questions on to another host: {origin(following)[1]}"
                raise NetworkError(what, where=url, remedy="name that one in the manifest, if it is to be asked")
            if not same_origin(target, following):
                if form is not None:
                    raise NetworkError(f"sends what proves who we are on to another host: {following[:200]}", where=url)
                headers, auth = harmless(headers), None
            if response.status_code not in (307, 308):
                form = None
            target = following
        what = f"sends on more than {_REDIRECTS_AT_MOST} times, the last time to {target[:200]}"
        raise NetworkError(what, where=url, remedy=_CIRCLE)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = Session()
            session.headers["User-Agent"] = f"offline-kit/{__version__}"
            session.verify = certificates()
            with self._lock:
                self._sessions.append(session)
        return session
