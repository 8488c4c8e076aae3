"""Where a request really goes: origins, redirects, proxies and certificates, decided here and not by the HTTP library.

Rules: an URL is read once, by the parser of the library that sends, and refused where another parser could read it otherwise;
what proves who we are (a header, a cookie, a form) goes to the origin that it was meant for and to no other, however
often we are sent on; ~/.netrc is never read; proxies and certificates come from the environment and are checked before they are
used, and no password of theirs is in an error.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

import requests
import urllib3
from requests.utils import get_environ_proxies, requote_uri, select_proxy

from offline_kit.common.errors import NetworkError
from offline_kit.common.redact import register_url

REDIRECTS = (301, 302, 303, 307, 308)
_CERTIFICATES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_PROXY_SCHEMES = ("http", "https", "socks4", "socks4a", "socks5", "socks5h")
# What a request says of what it wants, never of who asks.
_HARMLESS = ("accept", "accept-encoding", "range", "if-range", "user-agent")
_PORTS = {"http": 80, "https": 443}
_NO_URL = re.compile(r"[\x00-\x20\x7f-\xa0\\\"<>^`{|}\u2028\u2029\ud800-\udfff]")
_HOST = re.compile(r"[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\]")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host (lower case) and port of ``url``, which has no other reading. Raises ValueError that shows no secret."""
    if "@" in url:
        register_url(url)
    if _NO_URL.search(url):
        raise ValueError("holds a character that no URL has")
    try:
        parts = urllib3.util.parse_url(url)
        other = urllib.parse.urlsplit(url)
        host, scheme = (parts.host or "").lower(), parts.scheme or ""
        port = parts.port if parts.port is not None else _PORTS.get(scheme, 0)
        same = (other.scheme, other.hostname, other.port or _PORTS.get(scheme)) == (scheme, host.strip("[]"), port)
    except (ValueError, urllib3.exceptions.LocationParseError):
        raise ValueError("cannot be read as an URL") from None
    if scheme not in _PORTS:
        raise ValueError("is not http:// or https://")
    if parts.auth is not None or "@" in other.netloc:
        raise ValueError("holds a name or a password, which belongs elsewhere")
    if not _HOST.fullmatch(host) or not 0 < port < 65536 or not same:
        raise ValueError("has no host and port that can be read in one way only")
    return scheme, host, port


def check_url(url: str, where: str = "") -> str:
    """``url`` itself, if there is one way to read it. Raises NetworkError; ``where``: what is shown in place of the URL."""
    try:
        origin(url)
    except ValueError as error:
        raise NetworkError(f"the URL {error}", where=where or url[:200], remedy="correct it") from error
    return url


def same_origin(one: str, other: str) -> bool:
    """Whether both URLs are of one server as far as credentials go; an URL that cannot be read is of none."""
    try:
        return origin(one) == origin(other)
    except ValueError:
        return False


def redirect_target(url: str, location: str) -> str:
    """Where ``url`` sends us on to. Raises NetworkError (not HTTP, or not a URL)."""
    target = location
    try:
        target = requote_uri(urllib.parse.urljoin(url, location))
        origin(target)
    except (ValueError, requests.exceptions.RequestException) as error:
        raise NetworkError(f"sends on to what is no HTTP address: {target[:200]!r} ({error})", where=url) from error
    return target


def harmless(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of ``headers`` that another origin may see."""
    return {name: value for name, value in headers.items() if name.lower() in _HARMLESS}


def certificates() -> str | bool:
    """The file of certificates that the environment names, or True for the library's own. Raises NetworkError."""
    for variable in _CERTIFICATES:
        path = os.environ.get(variable)
        if path and not Path(path).exists():
            remedy = f"correct or unset {variable}"
            raise NetworkError(f"the file of certificates that {variable} names is not there", where=path, remedy=remedy)
        if path:
            _check_certificates(path, variable)
            return path
    return True


@functools.lru_cache(maxsize=8)  # every thread has a session, and reading the usual file takes 30 ms
def _check_certificates(path: str, variable: str) -> None:
    try:
        folder = Path(path).is_dir()
        ssl.create_default_context(cafile=None if folder else path, capath=path if folder else None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = f"the file of certificates that {variable} names cannot be read: {getattr(error, 'strerror', None) or error}"
        raise NetworkError(what, where=path, remedy=f"give PEM files of certificates, or unset {variable}") from error


def proxies_for(url: str) -> dict[str, str]:
    """The proxies that the environment names for ``url``. Raises NetworkError (one that cannot be used)."""
    found: dict[str, str] = dict(get_environ_proxies(url))
    chosen = select_proxy(url, found)
    if chosen:
        _check_proxy(chosen)
    return found


def _check_proxy(proxy: str) -> None:
    text = proxy if "://" in proxy else f"http://{proxy}"
    register_url(text)
    shown = re.sub(r"[?#].*", "", re.sub(r"//.*(@|%40)", r"//...\1", text))
    remedy = "write HTTP_PROXY, HTTPS_PROXY or ALL_PROXY as http://host:port, with the password percent-encoded"
    try:
        parts = urllib.parse.urlsplit(text)
        usable = parts.scheme.lower() in _PROXY_SCHEMES and bool(parts.hostname) and parts.port != 0
        # A proxy has no path: what looks like one is most likely the rest of a password that holds a slash.
        usable = usable and parts.path in ("", "/") and not parts.query and not parts.fragment
    except ValueError:
        usable = False
    if not usable or re.search(r"\s", text):
        raise NetworkError("the proxy that the environment names cannot be used", where=shown, remedy=remedy)
    if parts.scheme.lower().startswith("socks") and importlib.util.find_spec("socks") is None:
        raise NetworkError("a SOCKS proxy needs the package PySocks", where=shown, remedy="pip install pysocks")
