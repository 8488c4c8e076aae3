"""Sign: a bundle or a kit gets a signature, in files of its own; nothing of the payload is read or written.

Rules: what is signed is SHA256SUMS, which names every other file by digest; the bundle itself stays as it is, so that a second
signer, the approver, need not write 100 GB anew. Beside a bundle NAME-VERSION.tar.gz lie NAME-VERSION.SHA256SUMS, a copy of the
list, and its signatures; in a kit's folder they lie beside SHA256SUMS. Of a bundle in parts, its .parts.json is signed too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle.format import parts, paths
from offline_kit.bundle.format.bundle_json import parse_contents
from offline_kit.bundle.format.paths import is_signature
from offline_kit.bundle.read.inspect import read_texts
from offline_kit.bundle.signature import forms
from offline_kit.bundle.signature.keys import PublicKey
from offline_kit.bundle.signature.signers import Signer
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DiskError
from offline_kit.common.files import disk_errors, read_plain_file, replace_file


@dataclass(frozen=True)
class Signed:
    """What a signing wrote: ``files``, by the key of ``public``, over the list whose SHA-256 is ``digest`` (hex)."""

    files: tuple[Path, ...]
    public: PublicKey
    digest: str


@dataclass(frozen=True)
class SignedList:
    """SHA256SUMS: its ``content``; ``place``: where it, or of a bundle its copy, lies; ``lock``: the digest of lock.json."""

    place: Path
    content: bytes
    lock: Digest | None

    @property
    def digest(self) -> str:
        """Its SHA-256, hex."""
        return hashlib.sha256(self.content).hexdigest()


def read_signed_list(path: Path, *, with_lock: bool = False) -> SignedList:
    """What is signed of the bundle or kit at ``path``, in one reading of its head. Raises KitError."""
    texts = read_texts(path, (paths.SUMS, *(() if path.is_dir() else (paths.BUNDLE,)), *((paths.LOCK,) if with_lock else ())))
    place = path / paths.SUMS
    if paths.BUNDLE in texts:
        place = path.parent / f"{parse_contents(texts[paths.BUNDLE], f'{path}: {paths.BUNDLE}').top}.{paths.SUMS}"
    return SignedList(place, texts[paths.SUMS], Digest.of(texts[paths.LOCK]) if with_lock else None)


def sign(path: Path, signer: Signer) -> Signed:
    """Signs the bundle (its file, .parts.json or a part) or kit folder at ``path``. Raises KitError."""
    signed = read_signed_list(path)
    written = list(_write_signature(signed.place, signed.content, signer))
    if not path.is_dir():
        replace_file(signed.place, signed.content)
        written.insert(0, signed.place)
        located = parts.locate(path)
        if located.volumes is not None:
            listing = path.parent / parts.json_name(located.name)
            written += _write_signature(listing, _read(listing), signer)
    return Signed(tuple(written), signer.public, signed.digest)


def remove_stale_signatures(bundle: Path) -> list[str]:
    """Removes what lies beside a new bundle and signs an earlier one of its name; gives the names. Raises KitError.

    Who checks such a signature by hand, with the list that lies beside it, would be told that all is well.
    """
    signed, located = read_signed_list(bundle), parts.locate(bundle)
    lists = {signed.place: signed.content}
    if located.volumes is not None:
        listing = bundle.parent / parts.json_name(located.name)
        lists[listing] = _read(listing)
    stale = [path for target, content in lists.items() for path in _stale_signatures(target, content)]
    if signed.place.exists() and _read(signed.place) != signed.content:
        stale.append(signed.place)
    with disk_errors(bundle.parent):
        for path in stale:
            path.unlink(missing_ok=True)
    return [path.name for path in stale]


def _stale_signatures(target: Path, content: bytes) -> Iterator[Path]:
    """Both files of each signature that lies beside ``target`` and says that it is one of other bytes."""
    for path in sorted(target.parent.iterdir()):
        ours = path.name.endswith(forms.SIGSTORE) and is_signature(path.name, target.name)
        if ours and forms.signer_of(_read(path)[: forms.AT_MOST], content) is None:
            yield path
            yield path.with_name(path.name.removesuffix(forms.SIGSTORE) + forms.SIG)


def _write_signature(target: Path, content: bytes, signer: Signer) -> list[Path]:
    """Both files of a signature of ``target``, under the plain names where those are free or this signer's own."""
    signature = signer.sign(content)
    names = forms.file_names(target.name, "" if _plain_is_free(target, content, signer.public) else signer.public.id)
    texts = (signature, forms.sigstore_text(signature, content, signer.public))
    written = [target.parent / name for name in names]
    for file, text in zip(written, texts, strict=True):
        replace_file(file, text)
    return written


def _plain_is_free(target: Path, content: bytes, public: PublicKey) -> bool:
    """Whether the plain names hold no signature of this content by another key."""
    plain = target.parent / forms.file_names(target.name)[1]
    return not plain.exists() or not forms.is_by_another(_read(plain)[: forms.AT_MOST], content, public.id)


def _read(path: Path) -> bytes:
    try:
        return read_plain_file(path, SMALL_DOCUMENT)
    except OSError as error:
        raise DiskError(f"cannot be read: {error.strerror}", where=str(path)) from error
