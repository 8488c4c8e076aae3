"""The operator's certificate for port 443: ``.state/tls/server.crt`` and ``server.key``.

Rules: what cannot be read is a mistake here, before anything that runs is touched; a certificate that has run out is none: it
is served, and an alert tells of it. Whether the key is that of the certificate is for the gateway's own nginx to say, since
the engine image does not see the key (``certificate_check`` of scripts/lib/services/engine.sh). When a certificate ends is read
out of it by hand: the standard library tells it only of certificates that it trusts.
"""

from __future__ import annotations

import calendar
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Tuple

from .model import Mistake

FOLDER = ".state/tls"
CERTIFICATE, KEY = "server.crt", "server.key"


@dataclass(frozen=True)
class Pair:
    """There are a certificate and a key; the certificate ends at ``ends``, in seconds since 1970."""

    ends: int


def read(kit: Path, mistakes: List[Mistake]) -> Optional[Pair]:
    """The pair in ``kit``/.state/tls, None where there is none; what is wrong is added to ``mistakes``. Raises OSError."""
    folder = kit / FOLDER
    there = [name for name in (CERTIFICATE, KEY) if (folder / name).is_file()]
    if not there:
        return None
    if len(there) == 1:
        missing = KEY if there == [CERTIFICATE] else CERTIFICATE
        mistakes.append(Mistake(f"{FOLDER}/{missing}", "", "is missing", f"put it beside {there[0]}, or take that away"))
        return None
    try:
        return Pair(ends(_first((folder / CERTIFICATE).read_text("ascii"))))
    except (ValueError, IndexError):
        remedy = "give a certificate and its key as PEM files, the key without a password"
        mistakes.append(Mistake(f"{FOLDER}/{CERTIFICATE}", "", "is no certificate that can be read", remedy))
        return None


def ends(der: bytes) -> int:
    """When the X.509 certificate ``der`` ends, in seconds since 1970. Raises ValueError, IndexError."""
    outer, _ = _element(der, 0)
    fields, _ = _element(outer[1], 0)
    parts = _parts(fields[1])
    # Version comes first and is left out in version 1; then serial number, algorithm, issuer, validity.
    validity = parts[4 if parts[0][0] == 0xA0 else 3]
    tag, content = _parts(validity[1])[1]
    digits = content.decode("ascii").rstrip("Z")
    if tag == 0x17:
        # Two digits of the year: 50 to 99 are of the last century.
        digits = ("19" if int(digits[:2]) >= 50 else "20") + digits
    return calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%S"))


def _first(pem: str) -> bytes:
    head, tail = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.index(head)
    return ssl.PEM_cert_to_DER_cert(pem[start : pem.index(tail, start) + len(tail)] + "\n")


def _element(data: bytes, position: int) -> Tuple[Tuple[int, bytes], int]:
    """(tag, content) of the DER element at ``position``, and the position after it."""
    tag, length, start = data[position], data[position + 1], position + 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[start : start + count], "big"), start + count
    return (tag, data[start : start + length]), start + length


def _parts(data: bytes) -> List[Tuple[int, bytes]]:
    result, position = [], 0
    while position < len(data):
        element, position = _element(data, position)
        result.append(element)
    return result
