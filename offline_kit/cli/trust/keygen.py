"""The command ``offline-kit keygen``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from offline_kit.bundle.signature.keys import generate_key_pair
from offline_kit.common.output import answer


@click.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("offline-kit"),
    show_default=True,
    help="NAME.key and NAME.pub.",
)
@click.option("--no-passphrase", is_flag=True, help="Leave the private key unencrypted: for a job that nobody sits at.")
def keygen(output: Path, no_passphrase: bool) -> None:
    """Make a key pair that signs bundles: ECDSA P-256, PEM. The private key is encrypted with a passphrase.

    The passphrase is asked for, or taken from OFFLINE_KIT_KEY_PASSPHRASE. Give NAME.pub to those who receive bundles:
    'offline-kit verify --key NAME.pub', './install.sh --key NAME.pub', or /etc/offline-kit/keys.d/ on their hosts.
    """
    passphrase = os.environ.get("OFFLINE_KIT_KEY_PASSPHRASE", "")
    if no_passphrase:
        passphrase = ""
    elif not passphrase:
        if not sys.stdin.isatty():
            raise click.UsageError("no terminal to ask for a passphrase: set OFFLINE_KIT_KEY_PASSPHRASE, or --no-passphrase")
        passphrase = click.prompt("Passphrase for the private key", hide_input=True, confirmation_prompt=True, err=True)
    private, public = output.with_name(f"{output.name}.key"), output.with_name(f"{output.name}.pub")
    made = generate_key_pair(private, public, passphrase.encode())
    answer(f"{private} (keep it secret), {public}; key ID {made.id}")
