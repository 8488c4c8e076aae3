"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_kit.cli.sizes import parse_size
from offline_kit.progress import JsonLines, Progress, Silent, Terminal

if TYPE_CHECKING:
    from offline_kit.intake.line import Options
    from offline_kit.intake.store import Store

Function = TypeVar("Function", bound=Callable[..., Any])

manifest: Callable[[Function], Function] = click.option(
    "--manifest",
    "-m",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("manifests/knowflow.yaml"),
    show_default=True,
    help="The manifest to work from.",
)
store: Callable[[Function], Function] = click.option(
    "--store",
    "store",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder that keeps blobs between builds. [default: $OFFLINE_KIT_STORE or ~/.cache/offline-kit]",
)
jobs: Callable[[Function], Function] = click.option(
    "--jobs", "-j", type=click.IntRange(1, 64), default=4, show_default=True, help="How many transfers at once."
)
quiet: Callable[[Function], Function] = click.option("--quiet", "-q", is_flag=True, help="No progress, errors only.")


limit_rate: Callable[[Function], Function] = click.option(
    "--limit-rate",
    callback=parse_size,
    metavar="SIZE",
    default=None,
    envvar="OFFLINE_KIT_LIMIT_RATE",
    help="Download no faster than this a second, all transfers together: 20MiB.",
)
mirrors: Callable[[Function], Function] = click.option(
    "--registry-mirror",
    "mirrors",
    multiple=True,
    metavar="HOST=MIRROR",
    callback=lambda context, parameter, values: _mirrors(values),
    envvar="OFFLINE_KIT_REGISTRY_MIRROR",
    help="Ask MIRROR (host, host/prefix or http://host) for the images of the registry HOST. Can be given again.",
)
log_format: Callable[[Function], Function] = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="OFFLINE_KIT_LOG_FORMAT",
    callback=lambda context, parameter, value: _remember_format(context, value),
    help="json: progress, notes and errors on stderr as one JSON object a line.",
)


def _mirrors(values: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for value in values:
        host, mark, mirror = value.partition("=")
        if not (mark and host and mirror) or "/" in host:
            raise click.BadParameter(f"{value!r} is not HOST=MIRROR, such as docker.io=mirror.example:5000")
        found[host] = mirror
    return found


def _remember_format(context: click.Context, value: str) -> str:
    """Leaves the choice where ``main`` finds it: an error is said in the same form."""
    if isinstance(context.obj, dict):
        context.obj["log_format"] = value
    return value


def transfers(limit_rate: int | None, mirrors: dict[str, str]) -> Options:
    """How to fetch, from the options above."""
    from offline_kit.intake.line import Options  # noqa: PLC0415  only commands that fetch load what fetches

    return Options(limit_rate=limit_rate, mirrors=mirrors)


def open_store(path: Path | None) -> Store:
    """The store at ``path``, or at its default place."""
    from offline_kit.intake.store import Store  # noqa: PLC0415  as above

    return Store(path or Store.default_root())


def progress(quiet: bool, log_format: str = "text") -> Progress:
    """Bars and notes on stderr, or nothing."""
    if quiet:
        return Silent()
    return JsonLines() if log_format == "json" else Terminal()
