"""``offline-kit plan``"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.bundle.configuration import read_configuration
from offline_kit.cli import options
from offline_kit.errors import SpecError
from offline_kit.host.fit import cards, plan_for
from offline_kit.host.services import check_services
from offline_kit.runtime import draw, gpus

_SMI = ["nvidia-smi", f"--query-gpu={','.join(gpus.FIELDS)}", "--format=csv,nounits"]


def _named(context: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, gpus.Gpu] | None:
    """A callback for ``--gpu``: what cannot be meant is said before a hub is asked for anything."""
    if text is None:
        return None
    try:
        return {gpu.id: gpu for gpu in gpus.parse(text)}
    except ValueError as error:
        raise click.BadParameter(f"{error} -> write it like 2x48GiB, or like 'NVIDIA L40S:2'", context, parameter) from error


@click.command()
@click.argument("source", type=click.Path(path_type=Path), default=Path("manifests/knowflow.yaml"))
@click.option(
    "--gpu",
    "named",
    metavar="GPUS",
    callback=_named,
    help="For these: 2x48GiB, or 'NVIDIA L40S:2'. [default: target, or this machine's]",
)
@click.option("--gpu-file", type=click.Path(path_type=Path, dir_okay=False), help="For those in a file: nvidia-smi's CSV.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@options.store
@options.jobs
@options.quiet
def plan(
    source: Path,
    named: dict[str, gpus.Gpu] | None,
    gpu_file: Path | None,
    as_json: bool,
    store: Path | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Do the engines of SOURCE fit GPUs that you name? For each GPU and engine the arithmetic, and what would fit instead.

    SOURCE is a manifest (its lock is used; models without one are looked up, no weights are read), a bundle or a kit.
    Exit code 0: it fits. 3: it does not.
    """
    if named and gpu_file:
        raise click.UsageError("--gpu and --gpu-file both name the GPUs: leave one out")
    if source.suffix in (".yaml", ".yml"):
        project = pipeline.open_project(source)
        config, accelerator, target = project.config, project.manifest.accelerator, project.manifest.target
        there = {} if accelerator == "cpu" else named or _gpus(gpu_file, target.gpus if target else None)
        models, cuda = pipeline.plan_facts(project, options.open_store(store), jobs=jobs, progress=options.progress(quiet))
    else:
        contents, config = read_configuration(source)
        models = dict.fromkeys(contents.models, None) | (dict(contents.plan.models) if contents.plan else {})
        cuda, accelerator = contents.plan.cuda if contents.plan else None, contents.accelerator
        there = {} if accelerator == "cpu" else named or _gpus(gpu_file, None)
    settings = check_services(config, models.keys(), accelerator)
    verdict, found = plan_for(settings, models, there, cuda)
    if as_json:
        click.echo(json.dumps(draw.as_json(verdict, found), indent=2))
    else:
        click.echo("\n".join(draw.lines(verdict, found)))
    if not verdict.fits:
        raise click.exceptions.Exit(3)


def _gpus(file: Path | None, target: str | None) -> dict[str, gpus.Gpu]:
    """The GPUs of a file, of the manifest's target, or of this machine. Raises SpecError."""
    if target and not file:
        return cards(target)
    where, remedy = str(file or "nvidia-smi"), "name them: --gpu 2x48GiB, --gpu 'NVIDIA L40S:2' or --gpu-file"
    try:
        text = (
            file.read_text(encoding="utf-8")
            if file
            else subprocess.run(_SMI, capture_output=True, text=True, check=True).stdout
        )
        return {gpu.id: gpu for gpu in gpus.parse_csv(text)}
    except ValueError as error:
        raise SpecError(str(error), where=where, remedy=remedy) from error
    except (OSError, subprocess.CalledProcessError) as error:
        what = "cannot be read" if file else "this machine shows no GPUs"
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SpecError(f"{what}: {why}", where=where, remedy=remedy) from error
