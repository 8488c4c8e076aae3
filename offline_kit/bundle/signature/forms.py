"""The two files of one signature, and their names.

Rules: both hold the same bytes. ``.sig`` is the DER signature, for ``openssl dgst -verify`` and ``cosign verify-blob
--signature``; ``.sigstore.json`` is a Sigstore bundle of version 0.3 (message signature, public key by hint, no transparency
log: there is none to ask without a network), for ``cosign verify-blob --bundle``. A first signer's files have the plain names;
further ones carry their key ID. Source of the form: protobuf-specs of sigstore, ``sigstore_bundle.proto``.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from offline_kit.bundle.format.paths import is_signature
from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.common.files import read_plain_file

SIG, SIGSTORE = ".sig", ".sigstore.json"
MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
AT_MOST = 64 << 10  # bytes of a signature file; a larger one is not read


def file_names(signed: str, key_id: str = "") -> tuple[str, str]:
    """The names of both files of a signature of ``signed``; with ``key_id``, those of a further signer."""
    stem = f"{signed}.{key_id}" if key_id else signed
    return stem + SIG, stem + SIGSTORE


def sigstore_text(signature: bytes, content: bytes, public: PublicKey) -> bytes:
    """The Sigstore bundle of a signature over ``content``."""
    digest = {"algorithm": "SHA2_256", "digest": base64.b64encode(hashlib.sha256(content).digest()).decode()}
    document = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": public.id}},
        "messageSignature": {"messageDigest": digest, "signature": base64.b64encode(signature).decode()},
    }
    return (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()


def is_by_another(text: bytes, content: bytes, key_id: str) -> bool:
    """Whether the Sigstore bundle ``text`` is a signature over ``content`` by another key than ``key_id``."""
    hint = signer_of(text, content)
    return hint is not None and hint != key_id


def signer_of(text: bytes, content: bytes) -> str | None:
    """The key ID in the Sigstore bundle ``text``, if it says that it is one over ``content``; nothing is proven by that."""
    try:
        document = json.loads(text)
        digest = document["messageSignature"]["messageDigest"]["digest"]
        hint = document["verificationMaterial"]["publicKey"]["hint"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return str(hint) if digest == base64.b64encode(hashlib.sha256(content).digest()).decode() else None


def signatures_of(signed: Path) -> Iterator[tuple[Path, bytes]]:
    """The DER signatures that lie beside ``signed``, sorted by name. Raises OSError."""
    for path in sorted(signed.parent.iterdir()):
        if path.name.endswith(SIG) and is_signature(path.name, signed.name) and path.is_file() and not path.is_symlink():
            yield path, read_plain_file(path, AT_MOST)
