"""The command ``offline-kit init``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from offline_kit.cli.shared import options
from offline_kit.cli.start.documents import ENGINE_YAML, MONITORING, default_images, manifest_text
from offline_kit.cli.start.propose import Entries, models_json, propose
from offline_kit.cli.start.wanted import WantedModel, distinct, guess_type, make_key, parse_wanted
from offline_kit.cli.start.write_project import write_project
from offline_kit.common.errors import DiskError
from offline_kit.common.output import answer, say
from offline_kit.host.assets import starter_files
from offline_kit.host.target_check import cards
from offline_kit.intake.resolve import resolve_facts
from offline_kit.runtime.gpu_plan import gpus as known_gpus
from offline_kit.runtime.gpu_plan.evaluate import Verdict
from offline_kit.runtime.settings.model import TYPES
from offline_kit.spec.manifest import Accelerator, Manifest, parse_manifest, schema
from offline_kit.spec.names import KEY

_SMI = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]


def _models(type: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    words = "chat, embedding or rerank is found out" if not type else f"to be served as {type}"
    return click.option(f"--{type or 'model'}", multiple=True, metavar="[KEY=]MODEL", help=f"A folder or OWNER/NAME; {words}.")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path())
@_models("")
@_models("chat")
@_models("embedding")
@_models("rerank")
@click.option("--gpus", metavar="GPUS", help="Of the host: 2x48GiB, or 'NVIDIA L40S:2'. cpu: none.")
@click.option("--name", metavar="NAME", help="Of the bundle. [default: that of FOLDER]")
@click.option("--engine", metavar="IMAGE", help="The image of vLLM, such as docker://HOST/REPOSITORY:TAG.")
@click.option("--gateway", metavar="IMAGE", help="The image of nginx.")
@click.option("--monitoring", is_flag=True, help="Carry Prometheus, Grafana and their exporters, too.")
@click.option("--example", is_flag=True, help="The shipped example instead: chat, embedding, rerank on two GPUs of 48 GB.")
@click.option("--non-interactive", is_flag=True, help="Ask nothing, also on a terminal.")
@options.store
@options.quiet
def init(
    folder: Path,
    model: tuple[str, ...],
    chat: tuple[str, ...],
    embedding: tuple[str, ...],
    rerank: tuple[str, ...],
    gpus: str | None,
    name: str | None,
    engine: str | None,
    gateway: str | None,
    monitoring: bool,
    example: bool,
    non_interactive: bool,
    store: Path | None,
    quiet: bool,
) -> None:
    """Write a project into FOLDER (default: here) that plan, lock and build accept: manifest, models.json, vllm_config.yaml.

    Asks on a terminal for what no option says. Reads the models' headers, no weights, and proposes lengths and shares of the
    GPUs that the plan says will start. Nothing that exists is overwritten.
    """
    if example:
        _write_example(folder)
        return
    asking = not non_interactive and sys.stdin.isatty() and sys.stderr.isatty()
    given = zip(("", *TYPES), (model, chat, embedding, rerank), strict=True)
    wanted = distinct(parse_wanted(text, type) for type, texts in given for text in texts)
    wanted = wanted or (_ask_models() if asking else [])
    if not wanted:
        raise click.UsageError("name the models: --model OWNER/NAME or a folder, any number of times; --example for an example")
    gpus = gpus or (_ask("GPUs of the host (2x48GiB, 'NVIDIA L40S:2' or cpu)", _gpus_here()) if asking else None)
    if not gpus:
        raise click.UsageError("name the GPUs of the host: --gpus 2x48GiB, --gpus 'NVIDIA L40S:2' or --gpus cpu")
    accelerator: Accelerator = "cpu" if gpus.strip().lower() == "cpu" else "nvidia"
    there = cards(gpus) if accelerator == "nvidia" else {}
    name = name or (_ask("name of the bundle", _name_of(folder)) if asking else _name_of(folder))
    if not re.fullmatch(KEY, name):
        raise click.BadParameter(f"{name!r}: lower case, digits, . _ -", param_hint="--name")
    images = default_images()
    if accelerator == "cpu" and not engine:
        engine = _ask("image of a vLLM for CPUs", "") if asking else None
        if not engine:
            raise click.UsageError("--gpus cpu needs --engine: the image of a vLLM for CPUs")
    images = {
        "engine": _image(engine or images["engine"]),
        "gateway": _image(gateway or images["gateway"]),
        **({key: images[key] for key in MONITORING if key in images} if monitoring else {}),
    }
    manifest_path = folder / "manifests" / f"{name}.yaml"
    paths = [manifest_path, folder / "config/models.json", folder / "config/vllm_config.yaml"]
    _refuse_existing(paths)
    target = gpus if accelerator == "nvidia" else None
    text = manifest_text(name, accelerator, images, wanted, target)
    manifest = parse_manifest(text, str(manifest_path))
    session = options.session(store, 4, None, options.progress(quiet))
    facts = resolve_facts(manifest, manifest_path.parent, manifest.models, session)
    typed = [WantedModel(one.key, one.source, one.name, guess_type(one, facts[one.key])) for one in wanted]
    entries, verdict = propose(typed, facts, there, ENGINE_YAML.encode(), accelerator)
    schema_path = folder / "manifests/manifest.schema.json"
    contents = dict(zip(paths, (text.encode(), models_json(entries).encode(), ENGINE_YAML.encode()), strict=True))
    if not os.path.lexists(schema_path):
        contents[schema_path] = schema().encode()
    write_project({path: contents[path] for path in reversed(contents)})
    for path in paths:
        answer(f"wrote {path}")
    if not quiet:
        _summarise(entries, verdict, gpus, folder, manifest)


def _summarise(entries: Entries, verdict: Verdict, gpus: str, folder: Path, manifest: Manifest) -> None:
    for key, entry in entries.items():
        share = f", {entry['gpu_memory_utilization']:.2f} of {entry['tensor_parallel_size']} GPU(s)" if verdict.gpus else ""
        say(f"  {key}: {entry['type']}, {entry['max_model_len']} tokens{share} ({manifest.models[key].source})")
    if verdict.gpus:
        say(f"plan for {gpus}: {verdict.outcome}")
        for warning in verdict.warnings:
            say(f"note: {warning}")
    into = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
    say(f"next: {into}offline-kit doctor && offline-kit lock && offline-kit build --version v1.0.0")


def _ask_models() -> list[WantedModel]:
    found: list[WantedModel] = []
    while True:
        text = _ask("a model: a folder or OWNER/NAME" + (" (nothing: no more)" if found else ""), "")
        if not text:
            return distinct(found)
        try:
            one = parse_wanted(text)
        except click.BadParameter as error:
            say(error.message)
            continue
        found.append(WantedModel(one.key, one.source, one.name, _ask_type(one)))


def _ask_type(model: WantedModel) -> str:
    return str(click.prompt(f"  served as ({', '.join(TYPES)})", default=guess_type(model, None), type=click.Choice(TYPES),
                            show_choices=False, err=True))  # fmt: skip


def _ask(question: str, default: str) -> str:
    return str(click.prompt(question, default=default, show_default=bool(default), err=True)).strip()


def _gpus_here() -> str:
    """The GPUs of this machine as ``--gpus`` names them; empty where there are none."""
    try:
        names = subprocess.run(_SMI, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")
        found = [name.strip() for name in names if name.strip()]
        text = f"{found[0]}:{len(found)}" if len(set(found)) == 1 else ""
        return text if text and known_gpus.parse(text) else ""
    except (OSError, subprocess.SubprocessError, ValueError):
        return ""


def _name_of(folder: Path) -> str:
    return make_key(folder.resolve().name) or "models"


def _image(text: str) -> str:
    return text if "://" in text else f"docker://{text}"


def _refuse_existing(paths: list[Path]) -> None:
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there:
        raise DiskError(
            "there already, and not overwritten", where=", ".join(there), remedy="name another FOLDER, or take them away"
        )


def _write_example(folder: Path) -> None:
    files = {**starter_files(), "manifests/manifest.schema.json": schema().encode()}
    there = [folder / name for name in sorted(files) if os.path.lexists(folder / name)]
    write_project({folder / name: content for name, content in sorted(files.items()) if folder / name not in there})
    for name in sorted(files):
        answer(f"{'kept ' if folder / name in there else 'wrote'} {folder / name}")
    say("next: edit manifests/knowflow.yaml, then 'offline-kit lock' and 'offline-kit build --version v1.0.0'")
