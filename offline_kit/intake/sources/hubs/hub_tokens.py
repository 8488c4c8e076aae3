"""Which token goes to which hub.

Rules: a source's own token (HF_TOKEN, MODELSCOPE_API_TOKEN) goes to the hub that the environment names and to the public one,
and never to a hub that only a manifest names; OFFLINE_KIT_HUB_TOKENS gives tokens to further hosts, each to its own; a token
that cannot stand in a header is refused by its variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from offline_kit.common.errors import AccessDenied, SpecError
from offline_kit.common.redact import register_secrets
from offline_kit.intake.sources.credentials import Fixed
from offline_kit.intake.transfer.origins import origin, same_origin

VARIABLE = "OFFLINE_KIT_HUB_TOKENS"
_FORM = re.compile(r"[\x21-\x7e]+")


def login(endpoint: str, own: str | None, name: str, trusted: Iterable[str]) -> Fixed | None:
    """What to send to ``endpoint``; ``own``: the token ``name``, which is for the hubs ``trusted``. Raises KitError."""
    token, variable = _for_host(endpoint), VARIABLE
    if token is None and own and any(same_origin(endpoint, home) for home in trusted):
        token, variable = own, name
    if token is None:
        return None
    register_secrets(token)
    if not _FORM.fullmatch(token):
        what = f"{variable} holds a character that no token has (a space, a quote or an ellipsis that was copied along?)"
        raise AccessDenied(what, where=endpoint, remedy=f"copy the token again into {variable}")
    return Fixed(f"Bearer {token}")


def advice(endpoint: str, own: str, trusted: Iterable[str], whose: str) -> str:
    """How a token for ``endpoint``, one of ``whose``, is given."""
    if any(same_origin(endpoint, home) for home in trusted):
        return f"set {own} to {whose}"
    host = endpoint.partition("://")[2].partition("/")[0]
    return f"set {VARIABLE} to {host}=TOKEN with {whose} ({own} goes to its own hub only)"


def _for_host(endpoint: str) -> str | None:
    """The token of OFFLINE_KIT_HUB_TOKENS for the host of ``endpoint``, whatever the case of its name. Raises SpecError."""
    text = os.environ.get(VARIABLE, "")
    host, port = origin(endpoint)[1:]
    for item in text.replace(",", " ").split():
        place, mark, token = item.partition("=")
        register_secrets(token)
        if not (mark and place and token) or "/" in place or "@" in place:
            raise SpecError("is not HOST=TOKEN[,HOST=TOKEN]", where=VARIABLE, remedy="a host with its port, as in the URL")
        if place.lower() in (host, f"{host}:{port}") and (":" in place.rpartition("]")[2] or port in (80, 443)):
            return token
    return None
