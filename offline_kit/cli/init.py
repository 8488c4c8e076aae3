"""The command ``offline-kit init``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit.common.errors import DiskError
from offline_kit.common.output import answer, say
from offline_kit.host.assets import starter_files
from offline_kit.spec.manifest import schema


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
def init(folder: Path) -> None:
    """Write a manifest, its configuration and its schema into FOLDER (default: here), to start from.

    Makes manifests/knowflow.yaml, config/models.json, config/vllm_config.yaml and config/environment.yaml. Files that exist are
    left as they are.
    """
    files = {**starter_files(), "manifests/manifest.schema.json": schema().encode()}
    for name, content in sorted(files.items()):
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as stream:
                stream.write(content)
            answer(f"wrote {path}")
        except FileExistsError:
            answer(f"kept  {path}")
        except OSError as error:
            raise DiskError(f"cannot be written: {error.strerror}", where=str(path)) from error
    say("next: edit manifests/knowflow.yaml, then 'offline-kit lock' and 'offline-kit build --version v1.0.0'")
