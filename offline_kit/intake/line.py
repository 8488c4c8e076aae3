"""The line to the outside: sessions, time limits, retries, errors in words.

Rules: what may pass by itself (timeouts, resets, 408, 425, 429, 5xx) is tried again, after a growing, jittered pause or the
one that the server asks for; everything else is said at once; an attempt that brought bytes starts the count anew, so a bad
line may break as often as it likes while it moves; proxies and CA bundles come from the environment as usual
(``HTTPS_PROXY``, ``REQUESTS_CA_BUNDLE``, ``SSL_CERT_FILE``); credentials go to the host that they are for and to no other.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, TypeVar

import requests
import requests.auth

from offline_kit import __version__
from offline_kit.digest import CHUNK
from offline_kit.errors import Interrupted, NetworkError
from offline_kit.intake.pace import Figures, Pace
from offline_kit.intake.words import Again, closed_proxy, in_words, retry_after

T = TypeVar("T")
_PASSING = {408, 425, 429}
_WORTH = 1 << 20  # bytes: an attempt that brought this many was no failure


@dataclass(frozen=True)
class Options:
    """How patient to be: ``retries`` in a row, pauses from ``backoff`` seconds on, timeouts in seconds.

    ``limit_rate``: bytes a second of all transfers together; ``segment``: bytes that are fetched again when a partial file is
    found damaged; ``span``: bytes that one request brings at most, where the server keeps to ranges; ``mirrors``: registry ->
    where to ask instead, a host with an optional port, or a URL.
    """

    retries: int = 5
    backoff: float = 0.5
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    limit_rate: int | None = None
    segment: int = 16 << 20
    span: int = 256 << 20
    mirrors: Mapping[str, str] = field(default_factory=dict)


class Auth(Protocol):
    """Credentials for one host."""

    def header(self) -> str | None:
        """The value of ``Authorization``, or None."""

    def renew(self, challenge: str, refused: str | None) -> bool:
        """Called on a 401 with its ``WWW-Authenticate`` and the header that was refused; True: there is a new one to try."""


@dataclass(frozen=True)
class Reply:
    """A small answer, whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Line:
    """Everything that requests of one run share. Use as a context manager; safe for several threads.

    ``seats``: how many more transfers may run at once, of ``jobs`` in all.
    """

    def __init__(self, options: Options, jobs: int = 4) -> None:
        self.options, self.figures, self.stopped = options, Figures(), threading.Event()
        self.jobs, self.seats = jobs, threading.Semaphore(jobs)
        self.chunk = CHUNK if options.limit_rate is None else max(4096, min(CHUNK, options.limit_rate // 10))
        self._pace = Pace(options.limit_rate)
        self._local, self._lock = threading.local(), threading.Lock()
        self._sessions: list[requests.Session] = []
        self._open: set[requests.Response] = set()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for session in self._sessions:
            session.close()

    def stop(self) -> None:
        """Ends every transfer of this line soon, also one that waits for bytes."""
        self.stopped.set()
        with self._lock:
            waiting = list(self._open)
        for response in waiting:
            hang_up(response)

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Holds one of the seats; waits for it. Raises Interrupted as soon as the line is stopped."""
        while not self.seats.acquire(timeout=0.2):
            if self.stopped.is_set():
                raise Interrupted("stopped")
        try:
            yield
        finally:
            self.seats.release()

    def spend(self, amount: int) -> None:
        """Waits as long as ``limit_rate`` wants after ``amount`` bytes. Raises Interrupted."""
        delay = self._pace.delay(amount)
        if delay > 0:
            self.pause(delay)

    def pause(self, seconds: float) -> None:
        """Waits; raises Interrupted as soon as the line is stopped."""
        if self.stopped.wait(seconds):
            raise Interrupted("stopped")

    @contextlib.contextmanager
    def get(
        self, url: str, headers: Mapping[str, str], auth: Auth | None = None, form: Mapping[str, str] | None = None
    ) -> Iterator[requests.Response]:
        """One attempt: a response whose body is not read yet. ``form`` makes it a POST.

        Raises Again (also while the body is read inside the block), NetworkError (no sense in trying again).
        """
        with in_words(url), contextlib.ExitStack() as stack:
            response = stack.enter_context(self._send(url, headers, auth, form))
            if response.status_code == 401 and auth is not None:
                refused = response.request.headers.get("Authorization")
                if auth.renew(response.headers.get("WWW-Authenticate", ""), refused):
                    response = stack.enter_context(self._send(url, headers, auth, form))
            if response.status_code == 407:
                raise closed_proxy(url)
            if response.status_code in _PASSING or response.status_code >= 500:
                raise Again(f"HTTP {response.status_code} {response.reason}", retry_after(response.headers.get("Retry-After")))
            yield response

    def read(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: Auth | None = None,
        form: Mapping[str, str] | None = None,
        limit: int = 8 << 20,
    ) -> Reply:
        """A small answer of any status that is no passing failure. Raises NetworkError."""

        def attempt() -> Reply:
            with self.get(url, headers or {}, auth, form) as response:
                body: bytes = response.raw.read(limit + 1, decode_content=True)
                if len(body) > limit:
                    raise NetworkError(f"answers with more than {limit} bytes", where=url)
                return Reply(response.status_code, response.headers, body)

        return self.persist(url, attempt)

    def persist(
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
            except Again as again:
                if self.stopped.is_set():
                    raise Interrupted("stopped") from again
                failures = 1 if reached() - before >= _WORTH else failures + 1
                if failures > allowed:
                    remedy = "check the network and HTTPS_PROXY, then run the command again: it goes on where it stopped"
                    raise NetworkError(f"{again.reason} ({failures} attempts)", where=where, remedy=remedy) from again
                self.figures.add(retried=1)
                grown = min(60.0, self.options.backoff * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)
                self.pause(grown if again.delay is None else again.delay)

    @contextlib.contextmanager
    def _send(
        self, url: str, headers: Mapping[str, str], auth: Auth | None, form: Mapping[str, str] | None
    ) -> Iterator[requests.Response]:
        if self.stopped.is_set():
            raise Interrupted("stopped")
        sent = {"Accept-Encoding": "identity", **headers}
        timeout = (self.options.connect_timeout, self.options.read_timeout)
        method = "GET" if form is None else "POST"
        response = self._session().request(
            method, url, headers=sent, data=form, auth=_Authorization(auth), stream=True, timeout=timeout
        )
        with self._lock:
            self._open.add(response)
        try:
            yield response
        finally:
            with self._lock:
                self._open.discard(response)
            response.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.headers["User-Agent"] = f"offline-kit/{__version__}"
            # requests knows REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE by itself; the name that OpenSSL and Python use, it does not.
            session.verify = os.environ.get("SSL_CERT_FILE") or True
            with self._lock:
                self._sessions.append(session)
        return session


def hang_up(response: requests.Response) -> None:
    """Ends a response that another thread may be waiting for."""
    # Its own thread may be closing the socket at this moment: then there is nothing left to end.
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        response.raw.shutdown()


class _Authorization(requests.auth.AuthBase):
    """Sets the header; being given at all, it also keeps requests from taking other credentials out of ~/.netrc.

    requests drops the header when a redirect leads to another host.
    """

    def __init__(self, auth: Auth | None) -> None:
        self._auth = auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        header = self._auth.header() if self._auth else None
        if header is not None:
            request.headers["Authorization"] = header
        return request
