"""The command ``offline-kit schema``."""

from __future__ import annotations

import click

from offline_kit.common.output import answer
from offline_kit.spec.manifest import schema as manifest_schema


@click.command()
def schema() -> None:
    """Print the JSON Schema of a manifest, for editors that complete and check it.

    In an editor with a YAML language server, begin the manifest with:
    # yaml-language-server: $schema=manifest.schema.json
    """
    answer(manifest_schema().rstrip("\n"))
