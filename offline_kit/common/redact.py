"""Text that may leave this machine's memory: no secret is in it, and nothing that a terminal obeys.

Rules: every line for a terminal, a log or a program passes ``shown``, at the one place that writes it (``common.output``); a
secret is known because it was learnt when it was read (in plain, percent, base64 and JSON form), or by how it looks: userinfo
of an URL, values of a signed query, tokens; what reorders, hides or controls text is written as its number.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import urllib.parse
from collections.abc import Iterable, Mapping

HIDDEN = "..."
_SHORTEST = 6  # characters: what is shorter would hide ordinary words
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_USERINFO = re.compile(r"(//)[^\s/?#'\"<>]*@(?!sha256:)")  # docker://NAME@sha256:... is an image by digest
_NAMES = "signature|sig|token|credential|secret|password|passwd|pwd|key|auth|policy|session|sas|jwt"
_QUERY = re.compile(rf"([?&;][^=&;\s'\"]*(?:{_NAMES})[^=&;\s'\"]*=)[^&;\s'\"<>)]+", re.IGNORECASE)
_LONG_VALUE = re.compile(r"([?&;][^=&;\s'\"]+=)(?![0-9a-f]{40}\b)(?=[^&;\s'\"]*[0-9])[A-Za-z0-9_+/=%~-]{24,}(?![.\w+/=%~-])")
_TOKENS = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{8,}|gh[a-z]_[A-Za-z0-9]{20,}|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?)|(?<=Bearer )[\w.~+/=-]{8,}"
)
_URLS = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT", "MODELSCOPE_DOMAIN", "OFFLINE_KIT_REGISTRY_MIRROR")
_TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "MODELSCOPE_API_TOKEN", "OFFLINE_KIT_HUB_TOKENS", "AWS_SESSION_TOKEN")
_PHRASES = ("OFFLINE_KIT_KEY_PASSPHRASE", "OFFLINE_KIT_PIN", "AWS_SECRET_ACCESS_KEY")
_SURE = 8  # characters: a shorter one may stand somewhere by chance
_LOCK = threading.Lock()
_SECRETS: set[str] = set()
_pattern: re.Pattern[str] | None = None


def register_secrets(*secrets: str | None) -> None:
    """From now on these are never shown, in whatever form."""
    global _pattern  # noqa: PLW0603  one process has one set of secrets, and whoever prints does not know who read them
    fresh = {form for secret in secrets if secret for form in _forms(secret) if len(form) >= _SHORTEST}
    with _LOCK:
        if fresh <= _SECRETS:
            return
        _SECRETS.update(fresh)
        _pattern = re.compile("|".join(re.escape(item) for item in sorted(_SECRETS, key=lambda item: (-len(item), item))))


def register_environment(environment: Mapping[str, str]) -> None:
    """Registers the passwords in URLs of proxies and hubs, the tokens, and what opens a key that signs."""
    for name, value in environment.items():
        if name.upper() in _URLS:
            register_url(value)
        elif name.upper() == "NO_PROXY":
            for item in value.split(","):
                register_url(item)
        elif name in _PHRASES:
            register_secrets(value)
        elif name in _TOKEN_VARIABLES:
            register_secrets(value, *(item.partition("=")[2].strip() for item in value.split(",")))


def register_url(url: str) -> None:
    """Registers what may be secret of an URL's userinfo, also where the URL is malformed."""
    rest = url.partition("://")[2 if "://" in url else 0]
    head, mark, _ = rest.rpartition("@" if "@" in rest else "%40")  # encoded by who took it for a part of the password
    if mark and (":" in head or "/" not in head):
        password = head.partition(":")[2] or head
        register_secrets(head, password, urllib.parse.unquote(password), *re.split(r"[^A-Za-z0-9_.~-]+", password))


def redact(text: str) -> str:
    """``text`` without secrets."""
    pattern = _pattern
    if pattern is not None:
        text = pattern.sub(HIDDEN, text)
    return _redact_by_form(text)


def _redact_by_form(text: str) -> str:
    """``text`` without what looks like a secret."""
    if "//" in text:
        text = _USERINFO.sub(rf"\1{HIDDEN}@", text)
    if "=" in text:
        text = _LONG_VALUE.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", text))
    return _TOKENS.sub(HIDDEN, text)


def escape(text: str) -> str:
    """``text`` with everything that a terminal obeys, or that hides or reorders what is shown, as its number."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def shown(text: str) -> str:
    """``text`` as it may be shown: no secrets, nothing that a terminal obeys. Line breaks and tabs stay."""
    return escape(redact(text))


def redact_value(value: object) -> object:
    """Every text in what becomes JSON without secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): redact_value(item) for name, item in value.items()}
    return [redact_value(item) for item in value] if isinstance(value, (list, tuple)) else value


def find_secret(text: str) -> str | None:
    """Where a secret that was learnt stands in ``text``, None: nowhere. A word that may be ordinary is no proof."""
    for found in _pattern.finditer(text) if _pattern is not None else ():
        if len(found[0]) >= _SURE and not (found[0].isalpha() and found[0].islower()):
            return f"line {text.count(chr(10), 0, found.start()) + 1}"
    return None


def public_url(url: str) -> str:
    """``url`` as it may be written into a file that is passed on: without userinfo and the values of a signed query.

    The same on every machine: what was learnt has no part in it.
    """
    return _redact_by_form(url)


def _forms(secret: str) -> Iterable[str]:
    """The secret and how it looks in an URL, in a header and in JSON."""
    plain = secret.encode("utf-8", "surrogateescape")
    return (
        secret,
        urllib.parse.quote(plain, safe=""),
        json.dumps(secret)[1:-1],
        base64.b64encode(plain).decode().rstrip("="),
        base64.urlsafe_b64encode(plain).decode().rstrip("="),
    )
