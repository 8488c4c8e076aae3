"""The command ``offline-kit rehearse``."""

from __future__ import annotations

from pathlib import Path

import click

from offline_kit import pipeline
from offline_kit.cli.shared import options
from offline_kit.cli.shared.fetching import Fetching, fetching
from offline_kit.common.output import answer, answer_json
from offline_kit.spec.rehearsal import RehearsalRecord


@click.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@options.manifest_too
@click.option("--start", is_flag=True, help="Then install it as a project that is thrown away, watched, asked and removed.")
@click.option("--dummy-weights", is_flag=True, help="The same, with random numbers for weights: vLLM's load_format dummy.")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON on stdout.")
@fetching
def rehearse(
    source: Path | None,
    manifest: Path | None,
    start: bool,
    dummy_weights: bool,
    as_json: bool,
    fetching: Fetching,
) -> None:
    """Would the models of SOURCE be served where there is no network? Tried out here, in their own engine image.

    SOURCE is a manifest (what it names is fetched), a bundle or a kit. For every model, without a GPU: vLLM reads its command
    line, its configuration, tokenizer and processor, renders the chat template and tokenizes a request. Meanwhile every
    question for a name and every connection is seen, and told with the process that made it. Needs Docker (or Podman, by
    DOCKER_HOST) on this machine. Exit code 25: something was found, each with a remedy.

    --start goes on: the kit's own install.sh in a project under a name of its own, on free ports of the loopback, every service
    watched, its smoke test, and all of it removed. Needs Docker's client, Compose, and what the engines need: GPUs, unless they
    run on the CPU. --dummy-weights starts engines without reading their weights, which is quicker, and says nothing of these.
    """
    record = pipeline.rehearse(
        options.source_or_manifest(source, manifest),
        "start" if start or dummy_weights else "configuration",
        fetching.session(),
        dummy=dummy_weights,
    )
    if as_json:
        answer_json(record.model_dump(mode="json"))
    else:
        answer("\n".join(_lines(record)))


def _lines(record: RehearsalRecord) -> list[str]:
    told = {key: ", ".join(f"{step} {said}" for step, said in steps.items()) for key, steps in record.models.items()}
    told |= record.services
    width = max(len(name) for name in told)
    return [*(f"{name:{width}}  {text}" for name, text in told.items()), record.summary]
