"""What signs: a PEM file, a key in a PKCS#11 token, or a command of the site's own.

Rules: each gives a DER signature (ECDSA P-256 over SHA-256) and the public key that belongs to it, and every signature is
checked with that key before it is handed on: a token or command that answers with something else is an error, not a file.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from offline_kit.bundle.signature.keys import PublicKey, load_private_key, load_public_key, sign_content
from offline_kit.common.errors import SpecError

_PATIENCE = 300.0  # seconds that a command may take: a person may have to press a button


@dataclass(frozen=True)
class Signer:
    """A way to sign. ``make``: content -> DER signature."""

    public: PublicKey
    make: Callable[[bytes], bytes]

    def sign(self, content: bytes) -> bytes:
        """The DER signature over ``content``. Raises SpecError."""
        signature = self.make(content)
        if not self.public.accepts(signature, content):
            raise SpecError(
                "what it gave is not a signature by the public key",
                where=self.public.name,
                remedy="ECDSA P-256 over SHA-256 in DER form is wanted; check that key and public key belong together",
            )
        return signature


def open_signer(key: str, public: Path | None, passphrase: Callable[[Path], bytes | None]) -> Signer:
    """The signer that ``key`` names: ``pkcs11:...`` (RFC 7512), ``command:PROGRAM ARGUMENTS`` with ``public``, or a PEM file.

    ``passphrase``: asked for the passphrase of a PEM file. Raises SpecError and DiskError.
    """
    if key.startswith("pkcs11:"):
        from offline_kit.bundle.signature import token  # noqa: PLC0415  needs a library that is not always there

        return Signer(*token.open_token(key))
    if key.startswith("command:"):
        command = key.removeprefix("command:")
        if public is None:
            raise SpecError("a command needs its public key too", where=_program(command), remedy="--public KEY.pub")
        return Signer(load_public_key(public), functools.partial(_run_command, command))
    path = Path(key)
    private = load_private_key(path, passphrase(path))
    return Signer(PublicKey(key, private.public_key()), functools.partial(sign_content, private))


def _run_command(command: str, content: bytes) -> bytes:
    """Runs ``command`` in a shell: content on stdin, DER signature on stdout."""
    try:
        done = subprocess.run(["/bin/sh", "-c", command], input=content, capture_output=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired as error:
        raise SpecError(f"the command did not sign within {_PATIENCE:.0f} s", where=_program(command)) from error
    except OSError as error:
        raise SpecError(f"the command did not sign: {error.strerror}", where=_program(command)) from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        what = f"the command ended with {done.returncode}: {said[-1] if said else 'it said nothing'}"
        raise SpecError(what, where=_program(command))
    return done.stdout


def _program(command: str) -> str:
    """What is run, without the words behind it and the variables before it: either may hold a PIN."""
    return next((word for word in command.split() if "=" not in word), "command:")
