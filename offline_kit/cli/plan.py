"""The command ``offline-kit plan``."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import click

from offline_kit import locking
from offline_kit.bundle.read.configuration import read_configuration
from offline_kit.cli.shared import options
from offline_kit.common.errors import SpecError
from offline_kit.common.output import answer, answer_json
from offline_kit.host.log_comparison import compare, text
from offline_kit.host.start_log import StartLog, decode_log, parse_log
from offline_kit.host.target_check import plan_for, target_cards
from offline_kit.host.validate import check_services
from offline_kit.project import open_project
from offline_kit.runtime.gpu_plan import gpus, report
from offline_kit.runtime.gpu_plan.evaluate import Verdict
from offline_kit.runtime.gpu_plan.vllm_version import Vllm
from offline_kit.runtime.kit import image_of
from offline_kit.runtime.parsers import with_parsers
from offline_kit.runtime.settings.model import Settings
from offline_kit.spec.manifest import Target
from offline_kit.spec.parsers import parsers_of

_LONGEST_LOG = 64 << 20  # bytes that are read of a log
_SMI = ["nvidia-smi", f"--query-gpu={','.join(gpus.FIELDS)}", "--format=csv,nounits"]

_CSV_AT_MOST = 1 << 20


def _named(context: click.Context, parameter: click.Parameter, text: str | None) -> dict[str, gpus.Gpu] | None:
    """A callback for ``--gpu``: what cannot be meant is said before a hub is asked for anything."""
    if text is None:
        return None
    try:
        return {gpu.id: gpu for gpu in gpus.parse(text)}
    except ValueError as error:
        raise click.BadParameter(f"{error} -> write it like 2x48GiB, or like 'NVIDIA L40S:2'", context, parameter) from error


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@options.manifest_too
@click.option(
    "--gpu",
    "named",
    metavar="GPUS",
    callback=_named,
    help="For these: 2x48GiB, or 'NVIDIA L40S:2'. [default: target, or this machine's]",
)
@click.option("--gpu-file", type=click.Path(path_type=Path, dir_okay=False), help="For those in a file: nvidia-smi's CSV.")
@click.option(
    "--compare",
    "log",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The log of an engine's start: planned against logged, line by line.",
)
@click.option("--engine", metavar="KEY", help="Whose log it is. [default: by the model's name in it]")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@options.store
@options.jobs
@options.quiet
def plan(
    source: Path | None,
    manifest: Path | None,
    named: dict[str, gpus.Gpu] | None,
    gpu_file: Path | None,
    log: Path | None,
    engine: str | None,
    as_json: bool,
    store: Path | None,
    jobs: int,
    quiet: bool,
) -> None:
    """Do the engines of SOURCE start on GPUs that you name? For each engine the arithmetic, and what would start instead.

    SOURCE is a manifest (its lock is used; models without one are looked up, no weights are read), a bundle or a kit.
    With --compare, the plan is held against what an engine logged: send that when the plan was wrong.

    Exit code 0: it starts, or the bounds of the estimates do not agree that it does. 3: it does not start.
    """
    source = options.source_or_manifest(source, manifest)
    if named and gpu_file:
        raise click.UsageError("--gpu and --gpu-file both name the GPUs: leave one out")
    started = _start_log(log) if log else None
    if source.suffix in (".yaml", ".yml"):
        project = open_project(source)
        config, accelerator, target = project.config, project.manifest.accelerator, project.manifest.target
        there = {} if accelerator == "cpu" else named or _gpus(gpu_file, target)
        parsers = parsers_of(project.lock) if project.lock else {}
        progress = options.progress(quiet)
        for line in locking.unserved_models(project):
            progress.note(f"warning: {line}")
        models, image = locking.plan_facts(project, options.session(store, jobs, None, progress))
    else:
        contents, config = read_configuration(source)
        models = dict.fromkeys(contents.models, None) | (dict(contents.plan.models) if contents.plan else {})
        parsers = contents.plan.parsers if contents.plan else {}
        image = image_of(contents.plan.model_dump(mode="json") if contents.plan else {})
        accelerator = contents.accelerator
        there = {} if accelerator == "cpu" else named or _gpus(gpu_file, None)
    settings = with_parsers(check_services(config, models.keys(), accelerator).settings, parsers)
    if started and not image.vllm.known:
        image = dataclasses.replace(image, vllm=Vllm.parse(started.version))
    verdict, found = plan_for(settings, models, there, image)
    if started:
        _compare(verdict, engine or _engine_of(settings, started), started, as_json=as_json)
        return
    if as_json:
        answer_json(report.as_json(verdict, found))
    else:
        answer("\n".join(report.lines(verdict, found)))
    if not verdict.fits:
        raise click.exceptions.Exit(3)


def _start_log(path: Path) -> StartLog:
    """The log in ``path``, - for stdin. Raises SpecError."""
    try:
        with click.open_file(str(path), "rb") as stream:
            log = parse_log(decode_log(stream.read(_LONGEST_LOG)))
    except ValueError as error:
        raise SpecError(str(error), where=str(path), remedy="save it again as UTF-8") from error
    except OSError as error:
        raise SpecError(f"cannot be read: {error.strerror}", where=str(path), remedy="name the log of an engine") from error
    if log.v0:
        what = "is the log of vLLM's V0 engine, which the plan does not know: it counts what V1 takes"
        raise SpecError(what, where=str(path), remedy="leave VLLM_USE_V1=0 out, or use an engine image of vLLM 0.9 or later")
    if log.is_empty:
        remedy = "'docker logs' of the engine has it, from its start on ('deploy.sh logs KEY' in a kit)"
        raise SpecError("says nothing of an engine's start", where=str(path), remedy=remedy)
    if len(log.names) > 1:
        remedy = "give the log of one: 'docker logs CONTAINER', or 'deploy.sh logs KEY' in a kit"
        raise SpecError(f"holds the starts of several engines ({', '.join(log.names[:5])})", where=str(path), remedy=remedy)
    return log


def _engine_of(settings: Settings, log: StartLog) -> str:
    """The key of the model whose log this is. Raises UsageError."""
    named = [model.key for model in settings.models if log.name in (model.name, model.path, model.key)]
    keys = named or [model.key for model in settings.models]
    if len(keys) != 1:
        raise click.UsageError(f"the log does not say whose it is: add --engine with one of {', '.join(keys)}")
    return keys[0]


def _compare(verdict: Verdict, key: str, log: StartLog, *, as_json: bool) -> None:
    if key not in {model.key for model in verdict.settings.models}:
        raise click.UsageError(f"there is no model '{key}': name one of {', '.join(m.key for m in verdict.settings.models)}")
    if as_json:
        compared = [dataclasses.asdict(line) for line in compare(verdict, key, log)]
        answer_json({"engine": key, "vllm": log.version, "refused": log.refused, "lines": compared})
    else:
        answer("\n".join(text(verdict, key, log)))


def _gpus(file: Path | None, target: Target | None) -> dict[str, gpus.Gpu]:
    """The GPUs of a file, of the manifest's target, or of this machine. Raises SpecError."""
    if target and not file:
        return target_cards(target)
    where, remedy = str(file or "nvidia-smi"), "name them: --gpu 2x48GiB, --gpu 'NVIDIA L40S:2' or --gpu-file"
    try:
        text = _csv(file) if file else subprocess.run(_SMI, capture_output=True, text=True, check=True).stdout
        return {gpu.id: gpu for gpu in gpus.parse_csv(text)}
    except ValueError as error:
        raise SpecError(str(error), where=where, remedy=remedy) from error
    except (OSError, subprocess.CalledProcessError) as error:
        what = "cannot be read" if file else "this machine shows no GPUs"
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise SpecError(f"{what}: {why}", where=where, remedy=remedy) from error


def _csv(file: Path) -> str:
    """What nvidia-smi printed; a pipe (``<(ssh HOST nvidia-smi ...)``) is as good as a file. Raises OSError and ValueError."""
    with file.open(encoding="utf-8") as stream:
        text = stream.read(_CSV_AT_MOST + 1)
    if len(text) > _CSV_AT_MOST:
        raise ValueError("is far too long for a list of GPUs")
    return text
