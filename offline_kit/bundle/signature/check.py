"""Check: is this bundle or kit signed by those who are trusted?

Rules: "no signature" never passes where a key is demanded; a signature counts once, for the key that made it; as many trusted
keys must have signed as the threshold says, all of them by default. ``verify`` says what the payload is, this whose list it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle.signature import forms
from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.bundle.signature.sign import SignedList, read_signed_list
from offline_kit.common.errors import DiskError, NotTrusted, SpecError

_GROUP, _GROUPS = 4, 6


@dataclass(frozen=True)
class Signatures:
    """``signers``: the trusted keys that signed; ``found``: how many signatures lie there; ``digest``: of SHA256SUMS, hex."""

    signers: tuple[PublicKey, ...]
    found: int
    digest: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.digest)


def fingerprint(digest: str) -> str:
    """The first 96 bits of a SHA-256 (hex) in groups: short enough for a telephone, and out of reach of a second preimage."""
    return " ".join(digest[at : at + _GROUP] for at in range(0, _GROUP * _GROUPS, _GROUP))


def check_signatures(path: Path, keys: Sequence[PublicKey], threshold: int | None, expected: str | None = None) -> Signatures:
    """Who of ``keys`` signed the bundle or kit at ``path``; ``threshold`` of them must have, all by default.

    ``expected``: what the digest or fingerprint of its list, or the digest of its lock, must be. Raises NotTrusted (too few, or
    another bundle), SpecError (a threshold that cannot be met, no digest) and every error of reading a bundle's head.
    """
    distinct = {key.id: key for key in keys}
    wanted = len(distinct) if threshold is None else threshold
    if wanted > len(distinct):
        raise SpecError(
            f"{wanted} signers are demanded and {len(distinct)} key(s) given", remedy="give more --key, or a lower --threshold"
        )
    signed = read_signed_list(path, with_lock=expected is not None)
    try:
        signatures = [signature for _, signature in forms.signatures_of(signed.place)]
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=str(signed.place.parent)) from error
    signers = tuple(key for key in distinct.values() if any(key.accepts(signature, signed.content) for signature in signatures))
    if len(signers) < wanted:
        raise NotTrusted(
            _missing(distinct, signers, len(signatures)), where=str(path), remedy="do not install it; ask who built it"
        )
    if expected is not None:
        _check_expected(signed, expected, path)
    return Signatures(signers, len(signatures), signed.digest)


def _check_expected(signed: SignedList, expected: str, path: Path) -> None:
    """Raises NotTrusted unless ``expected`` is the digest or fingerprint of SHA256SUMS, or the digest of the lock."""
    wanted = expected.removeprefix("sha256:").replace(" ", "").replace("-", "").lower()
    if len(wanted) < _GROUP * _GROUPS or set(wanted) - set("0123456789abcdef") or len(wanted) > 64:
        raise SpecError(
            f"{expected!r} is neither a sha256 nor a fingerprint",
            remedy=f"64 hex digits, or at least the {_GROUPS} groups of {_GROUP}",
        )
    lock = signed.lock.hex if signed.lock else ""
    if not signed.digest.startswith(wanted) and lock != wanted:
        raise NotTrusted(
            f"is not the one that was expected: SHA256SUMS is {fingerprint(signed.digest)}, the lock sha256:{lock}",
            where=str(path),
            remedy="do not install it",
        )


def _missing(keys: dict[str, PublicKey], signers: Sequence[PublicKey], found: int) -> str:
    if not found:
        return "is not signed"
    names = ", ".join(f"{key.name} ({key.id})" for key in keys.values() if key not in signers)
    return f"is not signed by {names}; {found} signature(s) lie there"
