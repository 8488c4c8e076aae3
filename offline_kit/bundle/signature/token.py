"""A key in a PKCS#11 token (a smart card, an HSM, SoftHSM), named by a URI of RFC 7512.

Rules: the key never leaves the token; the PIN comes from ``pin-source`` (a file) or OFFLINE_KIT_PIN, and is in no error. The
library ``python-pkcs11`` is an extra: ``pip install 'offline-kit[pkcs11]'``.
"""

from __future__ import annotations

import hashlib
import os
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils

from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.common.errors import AccessDenied, DiskError, SpecError
from offline_kit.common.redact import register_secrets

_EXAMPLE = "pkcs11:token=NAME;object=KEY?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=/path/to/pin"


def open_token(uri: str) -> tuple[PublicKey, Callable[[bytes], bytes]]:
    """The public key of the token's key, and what signs with it. Raises SpecError, AccessDenied and DiskError."""
    try:
        import pkcs11  # noqa: PLC0415  an extra
        from pkcs11 import exceptions  # noqa: PLC0415
    except ImportError as error:
        raise SpecError("PKCS#11 needs a library", where=_plain(uri), remedy="pip install 'offline-kit[pkcs11]'") from error
    path, query = _parse(uri)
    pin = _pin(query)

    def in_session(work: Callable[[Any], Any]) -> Any:
        """What ``work`` gives of a session of its own, in which the PIN was shown."""
        try:
            with pkcs11.lib(query["module-path"]).get_token(token_label=path["token"]).open(user_pin=pin) as session:
                return work(session)
        except (exceptions.PinIncorrect, exceptions.PinLocked, exceptions.PinInvalid) as error:
            remedy = "pin-source=FILE or OFFLINE_KIT_PIN"
            raise AccessDenied("the token refuses the PIN", where=_plain(uri), remedy=remedy) from error
        except (exceptions.PKCS11Error, RuntimeError) as error:
            what = f"the token does not give this key: {type(error).__name__} {error}".strip()
            raise SpecError(what, where=_plain(uri), remedy=_EXAMPLE) from error

    def point(session: Any) -> bytes:
        key = session.get_key(object_class=pkcs11.ObjectClass.PUBLIC_KEY, label=path["object"])
        return bytes(key[pkcs11.Attribute.EC_POINT])

    def sign(content: bytes) -> bytes:
        digest = hashlib.sha256(content).digest()

        def raw(session: Any) -> bytes:
            key = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=path["object"])
            return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

        made = in_session(raw)
        return utils.encode_dss_signature(int.from_bytes(made[:32], "big"), int.from_bytes(made[32:], "big"))

    return PublicKey(_plain(uri), _public_key(in_session(point), uri)), sign


def _parse(uri: str) -> tuple[dict[str, str], dict[str, str]]:
    path, _, query = uri.removeprefix("pkcs11:").partition("?")
    names, options = _pairs(path, ";"), _pairs(query, "&")
    missing = [name for name in ("token", "object") if name not in names]
    missing += [name for name in ("module-path",) if name not in options]
    if missing:
        raise SpecError(f"names no {', no '.join(missing)}", where=_plain(uri), remedy=_EXAMPLE)
    return names, options


def _pairs(text: str, separator: str) -> dict[str, str]:
    parts = (part.partition("=") for part in text.split(separator) if part)
    return {name: urllib.parse.unquote(value) for name, _, value in parts}


def _pin(query: dict[str, str]) -> str | None:
    source = query.get("pin-source", "")
    try:
        pin = Path(source.removeprefix("file:")).read_text(encoding="utf-8").strip() if source else query.get("pin-value")
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=source) from error
    register_secrets(pin)
    return pin or os.environ.get("OFFLINE_KIT_PIN")


def _public_key(point: bytes, uri: str) -> ec.EllipticCurvePublicKey:
    """The key of an EC_POINT: an OCTET STRING around the uncompressed point, or the bare point, as tokens differ."""
    data = point
    if len(data) == 67 and data[:2] == b"\x04\x41":
        data = data[2:]
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), data)
    except ValueError as error:
        raise SpecError("not an ECDSA key on the curve P-256", where=_plain(uri)) from error


def _plain(uri: str) -> str:
    """The URI without its query, which can hold a PIN."""
    return uri.partition("?")[0]
