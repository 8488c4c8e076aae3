"""The command ``offline-kit doctor``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import click

from offline_kit.cli.shared import options
from offline_kit.cli.shared.defaults_file import Defaults
from offline_kit.cli.shared.find_manifest import SHOWN_DEFAULT, find_manifest
from offline_kit.cli.shared.take_defaults import taken_defaults
from offline_kit.cli.start.machine_checks import FAILED, OK, WARNING, Check, check_machine
from offline_kit.cli.start.network_checks import check_network
from offline_kit.common.errors import KitError
from offline_kit.common.output import answer, answer_json
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.project import Project, open_project

_MARKS = {OK: "ok  ", WARNING: "note", FAILED: "FAIL"}


@click.command()
@click.option(
    "--manifest",
    "-m",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help=f"Whose registries and hubs are asked. [default: {SHOWN_DEFAULT}]",
)
@click.option("--output", "-o", type=click.Path(path_type=Path), default=Path(), help="Where bundles will be written.")
@click.option("--offline", is_flag=True, help="Ask no registry and no hub.")
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
@options.store
@options.mirrors
def doctor(
    manifest: Path | None, output: Path, offline: bool, as_json: bool, store: Path | None, mirrors: dict[str, str]
) -> None:
    """What this builder has and what it lacks: disks, Docker, proxies, certificates, tokens, registries, hubs, clock, locale.

    Fetches nothing and writes nothing. Exit code 0: a build can begin. Otherwise that of the first failure, as a build would
    have it: 3 manifest, 6 access denied, 7 network, 9 disk, 10 Docker.
    """
    found = list(_defaults())
    project, of_manifest = _project(manifest)
    found += of_manifest
    found += check_machine(project, store or Store.default_root(), output)
    if not offline and not any(check.state == FAILED for check in found if check.name == "manifest"):
        quick = dataclasses.replace(options.transfers(None, mirrors), retries=0, connect_timeout=5.0, read_timeout=10.0)
        with HttpClient(quick) as client:
            found += check_network(project.manifest if project else None, client)
    if as_json:
        answer_json([dataclasses.asdict(check) for check in found])
    else:
        for check in found:
            answer(f"{_MARKS[check.state]}  {check.name}: {check.what}" + (f" -> {check.remedy}" if check.remedy else ""))
    if code := next((check.code for check in found if check.state == FAILED), 0):
        raise click.exceptions.Exit(code)


def _defaults() -> Iterator[Check]:
    """What offline-kit.toml says, where there is one."""
    taken = taken_defaults()
    if isinstance(taken, Defaults):
        yield Check("defaults", OK, f"{taken.path}: {', '.join(taken.given) or 'empty'}")
    elif taken:
        yield Check.of("defaults", taken)


def _project(named: Path | None) -> tuple[Project | None, list[Check]]:
    """The project that is meant, and what is wrong with it; none where there is no manifest yet."""
    try:
        path = named or find_manifest()
        if not named and not os.path.lexists(path):
            return None, [Check("manifest", WARNING, "none here", "'offline-kit init' writes one")]
        project = open_project(path)
    except KitError as error:
        return None, [Check.of("manifest", error)]
    locked = "locked" if project.lock else "not locked yet"
    return project, [Check("manifest", OK, f"{path}: {len(project.manifest.models)} models, {locked}")]
