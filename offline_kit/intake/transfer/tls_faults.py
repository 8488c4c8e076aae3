"""What a failed TLS handshake means, and what to do.

Rules: OpenSSL's own names decide, which its versions share; what is told here does not pass, and is not tried again.
"""

from __future__ import annotations

import re

_CLOCK = "is the clock of this machine right (date)? else"
# What is said of a certificate that is refused, and what to do; the last one is for all others.
_DISTRUST = (
    ("not yet valid", f"{_CLOCK} whoever runs the server has put it in place too early"),
    ("has expired", f"{_CLOCK} whoever runs the server has to renew it"),
    ("not valid for", "use a name that it is for; a proxy or a login page may answer in the server's place"),
    ("", "if a company CA signs here, name its file in SSL_CERT_FILE"),
)
# OpenSSL's names of what goes wrong before any certificate is looked at: asking again changes nothing.
_HANDSHAKES = (
    (
        r"WRONG_VERSION_NUMBER|HTTP_REQUEST|RECORD_LAYER_FAILURE|record layer failure|PACKET_LENGTH_TOO_LONG",
        "what answers there speaks no TLS, most likely plain HTTP",
        "say 'insecure: true' where its network may be trusted (of a hub with http:// as 'endpoint'); check HTTPS_PROXY",
    ),
    (
        r"UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION|INSUFFICIENT_SECURITY|LEGACY_RENEGOTIATION|"
        r"DH_KEY_TOO_SMALL|NO_(?:SHARED_CIPHER|CIPHERS|PROTOCOLS)",
        "the server speaks only TLS that is too old or too weak",
        "whoever runs it has to give it TLS 1.2 or later; or name another ('endpoint', --registry-mirror)",
    ),
    (
        r"ALERT_HANDSHAKE_FAILURE",
        "the server ends the handshake of TLS: it is too old or too weak, or wants a certificate of its clients",
        "ask whoever runs it; or name another ('endpoint', --registry-mirror)",
    ),
    (
        r"ALERT_CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE|ALERT_UNKNOWN_CA",
        "the server wants a certificate of its clients, which offline-kit does not give",
        "name a server that takes a name and a password, or a token",
    ),
)


def tls_fault(text: str, reason: str) -> tuple[str, str] | None:
    """What is wrong with the server's TLS, and what to do; None where ``text`` tells of something else."""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        remedy = next(remedy for said, remedy in _DISTRUST if said in reason)
        return f"the server's certificate is not trusted: {reason}", remedy
    return next(((what, remedy) for names, what, remedy in _HANDSHAKES if re.search(names, text)), None)
