"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from offline_kit.bundle.compression import COMPRESSIONS
from offline_kit.cli.shared.defaults_file import Defaults
from offline_kit.cli.shared.find_manifest import SHOWN_DEFAULT, find_manifest
from offline_kit.cli.shared.size_options import medium_option, parse_size
from offline_kit.cli.shared.take_defaults import is_default, taken_defaults
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import DiskError, SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.common.progress import JsonLines, Progress, Silent, Terminal, show_details

if TYPE_CHECKING:
    from offline_kit.intake.session import Session
    from offline_kit.intake.store.store import Store
    from offline_kit.intake.transfer.http_client import TransferOptions
    from offline_kit.spec.policy import Policy

Function = TypeVar("Function", bound=Callable[..., Any])

manifest: Callable[[Function], Function] = click.option(
    "--manifest",
    "-m",
    type=click.Path(path_type=Path, dir_okay=False),
    default=find_manifest,
    show_default=SHOWN_DEFAULT,
    help="The manifest to work from.",
)
manifest_too: Callable[[Function], Function] = click.option(
    "--manifest", "-m", type=click.Path(path_type=Path, dir_okay=False), default=None, help="The same as SOURCE, as elsewhere."
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
policy: Callable[[Function], Function] = click.option(
    "--policy",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="The site's policy, a YAML file: what may be carried (docs/policy.md).",
)
form: Callable[[Function], Function] = click.option(
    "--format",
    "form",
    type=click.Choice(["tar.gz", *(item.suffix[1:] for item in COMPRESSIONS if item.suffix)]),
    default="tar.gz",
    show_default=True,
    help="tar.zst: smaller and slower, for hosts that have zstd.",
)
medium: Callable[[Function], Function] = click.option(
    "--medium",
    callback=medium_option,
    metavar="MEDIUM",
    default=None,
    help="What carries it: DVD, BD25, BD50, FAT32, or a SIZE as 64GB; parts that each fill one.",
)
record: Callable[[Function], Function] = click.option(
    "--record", is_flag=True, help="A transfer record beside it, as 'offline-kit record' writes: .pdf to sign, .csv, .json."
)
rehearse: Callable[[Function], Function] = click.option(
    "--rehearse",
    type=click.Choice(["configuration", "start"]),
    is_flag=False,
    flag_value="configuration",
    default=None,
    help="Try it out first, with the network cut, as 'offline-kit rehearse' (or --start) does; findings refuse it.",
)
_VERBOSE = "offline_kit.verbose"
_verbose: Callable[[Function], Function] = click.option(
    "--verbose",
    "-v",
    is_flag=True,
    expose_value=False,
    callback=lambda context, parameter, value: _remember_verbose(context, value),
    help="Also each question to a registry or hub, each program that is run, and where options come from.",
)


def quiet(function: Function) -> Function:
    """``--quiet`` as a parameter, and ``--verbose``, which ``progress`` takes up."""
    return click.option("--quiet", "-q", is_flag=True, help="No progress, errors only.")(_verbose(function))


limit_rate: Callable[[Function], Function] = click.option(
    "--limit-rate",
    callback=parse_size,
    metavar="SIZE",
    default=None,
    envvar="OFFLINE_KIT_LIMIT_RATE",
    help="Download no faster than this a second, all transfers together: 20MiB.",
)
min_rate: Callable[[Function], Function] = click.option(
    "--min-rate",
    callback=parse_size,
    metavar="SIZE",
    default="1KiB",
    show_default=True,
    envvar="OFFLINE_KIT_MIN_RATE",
    help="Give up a transfer that is slower than this a second for 10 seconds. 0: wait however long it takes.",
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


def _remember_verbose(context: click.Context, value: bool) -> None:
    context.meta[_VERBOSE] = value


def _remember_format(context: click.Context, value: str) -> str:
    """Leaves the choice where ``main`` finds it: an error is said in the same form."""
    if isinstance(context.obj, dict):
        context.obj["log_format"] = value
    return value


def transfers(limit_rate: int | None, mirrors: dict[str, str], min_rate: int | None = None) -> TransferOptions:
    """How to fetch, from the options above."""
    from offline_kit.intake.transfer.http_client import TransferOptions  # noqa: PLC0415  only commands that fetch load what fetches

    default = TransferOptions.min_rate
    return TransferOptions(limit_rate=limit_rate, min_rate=default if min_rate is None else min_rate, mirrors=mirrors)


def source_or_manifest(source: Path | None, manifest: Path | None) -> Path:
    """What SOURCE or ``--manifest`` names, or the manifest that is found. Raises UsageError: both are given."""
    if source and manifest and not is_default("manifest"):
        raise click.UsageError("SOURCE and --manifest both name it: leave one out")
    return source or manifest or find_manifest()


def policies(path: Path | None) -> tuple[tuple[str, Policy], ...]:
    """The policy in the file ``path``, with its name; none where none is given. Raises SpecError, DiskError."""
    if path is None:
        return ()
    from offline_kit.spec.document import decode_text  # noqa: PLC0415  as above
    from offline_kit.spec.policy import parse_policy  # noqa: PLC0415  as above

    try:
        text = decode_text(read_plain_file(path, SMALL_DOCUMENT, follow=True), str(path))
        return ((str(path), parse_policy(text, str(path)).located_in(path.parent)),)
    except FileNotFoundError as error:
        raise SpecError("no such file (policy)", where=str(path), remedy="correct --policy") from error
    except OSError as error:
        raise DiskError(f"cannot be read (policy): {error.strerror}", where=str(path)) from error


def open_store(path: Path | None) -> Store:
    """The store at ``path``, or at its default place."""
    from offline_kit.intake.store.store import Store  # noqa: PLC0415  as above

    return Store(path or Store.default_root())


def session(store: Path | None, jobs: int, options: TransferOptions | None, progress: Progress) -> Session:
    """What a command works with, from the options above."""
    from offline_kit.intake.session import Session  # noqa: PLC0415  as above

    opened = open_store(store)
    return Session(opened, jobs, options, progress) if options else Session(opened, jobs, progress=progress)


def progress(quiet: bool, log_format: str = "text") -> Progress:
    """Bars and notes on stderr, or nothing; with ``--verbose`` details, too. Raises UsageError: both are asked for."""
    shown = JsonLines() if log_format == "json" else Terminal()
    if click.get_current_context().meta.get(_VERBOSE):
        if quiet:
            raise click.UsageError("--quiet and --verbose: leave one out")
        show_details(shown)
        defaults = taken_defaults()
        if isinstance(defaults, Defaults):
            shown.note(f"defaults of {', '.join(defaults.given) or 'nothing'}: {defaults.path}", event="detail")
    return Silent() if quiet else shown
