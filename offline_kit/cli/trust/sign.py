"""The command ``offline-kit sign``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from offline_kit.bundle.signature import keys, signers
from offline_kit.bundle.signature.check import fingerprint
from offline_kit.bundle.signature.sign import Signed
from offline_kit.bundle.signature.sign import sign as sign_bundle
from offline_kit.bundle.write.copy_unpacker import carry_checker
from offline_kit.cli.shared import options
from offline_kit.common.output import answer, say
from offline_kit.common.redact import register_secrets
from offline_kit.host import assets


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--key", required=True, metavar="KEY", help="A PEM file, pkcs11:URI, or 'command:PROGRAM ...' (DER on stdout).")
@click.option("--public", type=click.Path(path_type=Path, dir_okay=False), help="With command: the public key, a PEM file.")
@options.quiet
def sign(bundle: Path, key: str, public: Path | None, quiet: bool) -> None:
    """Sign a bundle or an unpacked kit: ECDSA P-256 over its SHA256SUMS, in files beside it. The bundle stays as it is.

    A second signer, the approver, signs the same way. Verify a bundle first: a signature says who vouches for the list, and the
    list says what is in the bundle.
    """
    signed = sign_with(bundle, key, public)
    if not bundle.is_dir():
        carry_checker(bundle.parent, assets.checker(), options.progress(quiet))
    for file in signed.files:
        answer(file)
    say(f"signed by {signed.public.id}; fingerprint {fingerprint(signed.digest)}")


def sign_with(bundle: Path, key: str, public: Path | None) -> Signed:
    """Signs ``bundle`` with the key that the option names. Raises KitError."""
    return sign_bundle(bundle, signers.open_signer(key, public, passphrase))


def passphrase(path: Path) -> bytes | None:
    """The passphrase of a private key: from the environment, or from whoever sits at the terminal."""
    if not keys.is_encrypted(path):
        return None
    found = os.environ.get("OFFLINE_KIT_KEY_PASSPHRASE")
    found = found or str(click.prompt(f"Passphrase for {path}", hide_input=True, err=True))
    register_secrets(found)
    return found.encode()
