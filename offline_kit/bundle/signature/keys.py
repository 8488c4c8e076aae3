"""Keys that sign and keys that are trusted: ECDSA on the curve P-256, in PEM files.

Rules: one algorithm, the one that openssl, cosign and every PKCS#11 token share; a key is named by its key ID, the first 16 hex
digits of the SHA-256 of its public part in DER (SubjectPublicKeyInfo); a private key is written with mode 0600, never over a
file that is there, and encrypted unless the caller says that it shall not be.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from offline_kit.common.errors import DiskError, SpecError
from offline_kit.common.files import read_plain_file

_PEM_AT_MOST = 64 << 10  # bytes: no key is near it
_REMEDY = "an ECDSA key on the curve P-256 in PEM form: 'offline-kit keygen' makes one"


@dataclass(frozen=True)
class PublicKey:
    """A key that signatures are checked with; ``name``: the file that it came from, or the token that holds it."""

    name: str
    key: ec.EllipticCurvePublicKey

    @property
    def id(self) -> str:
        """The key ID, 16 hex digits."""
        der = self.key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(der).hexdigest()[:16]

    @property
    def pem(self) -> bytes:
        """The key as ``openssl dgst -verify`` reads it."""
        return self.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def accepts(self, signature: bytes, content: bytes) -> bool:
        """Whether ``signature`` (DER) over the SHA-256 of ``content`` was made with this key."""
        try:
            self.key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def load_public_key(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises SpecError (not such a key, or several: one alone would be asked) and DiskError."""
    text = _read(path)
    if text.count(b"-----BEGIN ") > 1:
        raise SpecError("holds more than one key", where=str(path), remedy="one file for each key")
    try:
        key = serialization.load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SpecError("not a public key", where=str(path), remedy=_REMEDY) from error
    return PublicKey(str(path), _on_p256(key, path))


def load_private_key(path: Path, passphrase: bytes | None) -> ec.EllipticCurvePrivateKey:
    """The private key in a PEM file. Raises SpecError (not such a key, a wrong or missing passphrase) and DiskError."""
    try:
        key = serialization.load_pem_private_key(_read(path), passphrase or None)
    except TypeError as error:
        remedy = "set OFFLINE_KIT_KEY_PASSPHRASE, or type it at the prompt" if not passphrase else "leave the passphrase away"
        what = "the key is encrypted and there is no passphrase" if not passphrase else "the key is not encrypted"
        raise SpecError(what, where=str(path), remedy=remedy) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SpecError("not a private key, or the passphrase is wrong", where=str(path), remedy=_REMEDY) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SpecError("not an ECDSA key", where=str(path), remedy=_REMEDY)
    _on_p256(key.public_key(), path)
    return key


def sign_content(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    """The signature (DER) over the SHA-256 of ``content``."""
    return key.sign(content, ec.ECDSA(hashes.SHA256()))


def is_encrypted(path: Path) -> bool:
    """Whether the private key in ``path`` needs a passphrase. Raises DiskError."""
    text = _read(path)
    return b"ENCRYPTED" in text


def generate_key_pair(private: Path, public: Path, passphrase: bytes | None) -> PublicKey:
    """Makes a key pair and writes both files, which must not exist. Raises DiskError."""
    key = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    made = PublicKey(str(public), key.public_key())
    _create(public, made.pem, 0o644)
    try:
        _create(private, text, 0o600)
    except DiskError:
        public.unlink(missing_ok=True)
        raise
    return made


def _on_p256(key: object, path: Path) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SpecError("not an ECDSA key on the curve P-256", where=str(path), remedy=_REMEDY)
    return key


def _read(path: Path) -> bytes:
    try:
        return read_plain_file(path, _PEM_AT_MOST, follow=True)
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=str(path)) from error


def _create(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
    except FileExistsError as error:
        raise DiskError(
            "is there already; a key is never written over", where=str(path), remedy="choose another --output"
        ) from error
    except OSError as error:
        raise DiskError(f"cannot be written: {error.strerror}", where=str(path)) from error
