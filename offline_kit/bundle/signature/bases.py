"""The earlier kit that a delta is completed from: is it the one that is meant, and who signed it?

Rules: a delta leaves out what its base has, so half of what serves crossed with the base: where a policy says ``signed_bases``,
that base is signed by the policy's signers or there is no delta; a lock, which nobody signs, is no such base; what is not at
hand is not signed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.signature.check import check_signatures
from offline_kit.bundle.signature.keys import PublicKey, load_public_key
from offline_kit.common.errors import NotTrusted
from offline_kit.spec.policy import Policy


def check_base_signers(base: Path, policies: Sequence[tuple[str, Policy]]) -> None:
    """Raises NotTrusted where one of the policies demands signed bases, and its signers did not sign the one at ``base``."""
    for name, policy in policies:
        if policy.signed_bases:
            _check(base, [load_public_key(Path(signer)) for signer in policy.signers], policy.threshold, name)


def check_base_of(head: Head, base: Path | None, keys: Sequence[PublicKey], threshold: int | None, demanding: str) -> None:
    """Of a delta, whose head is ``head``: ``base`` is what completes it, and signed by ``keys``. Nothing else has a base.

    ``demanding``: the policy that wants to see it, if any. Raises NotTrusted and every error of reading a bundle's head.
    """
    wanted = head.contents.base if head.contents else None
    if wanted is None:
        return
    if base is None:
        if demanding:
            what = f"{demanding} demands 'signed_bases', and nothing shows who signed {wanted.title}, the base of this delta"
            raise NotTrusted(what, where=head.title, remedy=f"--base with the bundle or folder of {wanted.title}")
        return
    shown = read_head(base)
    if shown.digest != wanted.lock or wanted.version not in (None, shown.version):
        raise NotTrusted(f"is not {wanted.title}, which completes {head.title}", where=str(base), remedy="name that one")
    if keys:
        _check(base, keys, threshold, demanding)


def _check(base: Path, keys: Sequence[PublicKey], threshold: int | None, demanding: str) -> None:
    if base.name.endswith(".json") and not base.name.endswith(".parts.json"):
        raise NotTrusted("is a lock, which nobody signs", where=str(base), remedy="name the bundle or the kit's folder")
    try:
        check_signatures(base, keys, threshold)
    except NotTrusted as error:
        why = f" ({demanding} demands 'signed_bases')" if demanding else ""
        raise NotTrusted(f"{error.what}{why}", where=error.where, remedy="a delta needs a base that was approved") from error
