"""The commands ``offline-kit store ls``, ``verify`` and ``prune``."""

from __future__ import annotations

import contextlib
import glob
import re
import time
from pathlib import Path

import click

from offline_kit.cli.shared import options
from offline_kit.cli.shared.find_manifest import find_manifest
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.errors import DigestMismatch, DiskError, KitError, SpecError
from offline_kit.common.files import read_plain_file
from offline_kit.common.output import answer, answer_json, say
from offline_kit.common.units import size
from offline_kit.intake import store_maintenance
from offline_kit.spec.lock import Lock, parse_lock

_AGE = re.compile(r"([0-9]{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def parse_age(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """A callback for options: 90m, 12h, 30d, 4w."""
    if text is None:
        return None
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a time: write it as 12h, 30d or 4w", context, parameter)
    return float(match.group(1)) * _SECONDS[match.group(2)]


@click.group()
def store() -> None:
    """Look after the blobs that are kept between builds."""


@store.command("ls")
@options.store
@click.option("--json", "as_json", is_flag=True, help="As JSON on stdout.")
def list_blobs(store: Path | None, as_json: bool) -> None:
    """Show what is in the store, the largest first: size, days since a build used it, digest, name.

    Names are those of the locks beside the manifest that a command without -m would take.
    """
    opened = options.open_store(store)
    found = store_maintenance.list_blobs(opened)
    names = _names()
    if as_json:
        answer_json(
            [
                {
                    "digest": str(item.digest), "bytes": item.size, "used": int(item.used), "partial": item.partial,
                    "names": names.get(str(item.digest), []),
                }
                for item in found
            ]
        )  # fmt: skip
        return
    for item in found:
        days = max(0.0, time.time() - item.used) / 86400
        shown = ", ".join(names.get(str(item.digest), [])) + (" (partial download)" if item.partial else "")
        answer(f"{size(item.size):>10}  {days:5.0f} d  {item.digest}  {shown}".rstrip())
    partial = [item for item in found if item.partial]
    say(
        f"{opened.root}: {len(found) - len(partial)} blobs, {size(sum(i.size for i in found if not i.partial))}; "
        f"{len(partial)} partial downloads, {size(sum(i.size for i in partial))}"
    )


def _names() -> dict[str, list[str]]:
    """What the locks of this project call a blob, by digest; nothing where there is none that can be read."""
    found: dict[str, list[str]] = {}
    with contextlib.suppress(click.UsageError, KitError, OSError):
        for path in sorted(find_manifest().parent.glob("*.lock.json")):
            lock = parse_lock(read_plain_file(path, SMALL_DOCUMENT, follow=True).decode(errors="replace"), str(path))
            pairs = [(str(blob.digest), f"image {key}") for key, image in lock.images.items() for blob in image.blobs()]
            pairs += [(str(file.sha256), f"{key}: {file.path}") for key, model in lock.models.items() for file in model.files]
            pairs += [(str(file.sha256), f"files/{name}") for name, file in lock.files.items()]
            for digest, name in pairs:
                if name not in found.setdefault(digest, []):
                    found[digest].append(name)
    return found


@store.command("verify")
@options.store
@options.jobs
@options.log_format
@options.quiet
def verify_blobs(store: Path | None, jobs: int, log_format: str, quiet: bool) -> None:
    """Hash every blob; damaged ones are removed, so that the next build fetches them again. Exit code 8 if there were any."""
    damaged, whole = store_maintenance.verify(
        options.open_store(store), jobs=jobs, progress=options.progress(quiet, log_format)
    )
    for item in damaged:
        answer(f"{item.digest}: damaged, removed")
    if damaged:
        what = f"{len(damaged)} of {len(damaged) + whole} blobs were damaged and are removed"
        raise DigestMismatch(what, where=str(store or "the store"), remedy="the next build fetches them again; check the disk")
    answer(f"{whole} blobs, all whole")


@store.command("prune")
@options.store
@click.option(
    "--keep-locks",
    "patterns",
    multiple=True,
    metavar="GLOB",
    help="Keep what these lock files name: 'manifests/*.lock.json'. Can be given again.",
)
@click.option("--older-than", callback=parse_age, metavar="TIME", default=None, help="Keep what was used since: 12h, 30d, 4w.")
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
def prune_blobs(store: Path | None, patterns: tuple[str, ...], older_than: float | None, dry_run: bool) -> None:
    """Remove blobs and partial downloads that no kept lock names and that nobody has used for a time.

    Says what went on stdout. Does nothing while a build uses the store, or when a lock cannot be read.
    """
    if not patterns and older_than is None:
        raise click.UsageError("say what to keep: --keep-locks 'manifests/*.lock.json', --older-than 30d, or both")
    keep = [_lock(Path(name)) for pattern in patterns for name in _matching(pattern)]
    going = store_maintenance.prune(options.open_store(store), keep, older_than=older_than or 0.0, dry_run=dry_run)
    for item in going:
        answer(f"{item.digest}  {size(item.size)}")
    verb = "would go" if dry_run else "removed"
    say(f"{len(going)} {verb}, {size(sum(item.size for item in going))}")


def _matching(pattern: str) -> list[str]:
    found = sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  a pattern may be absolute, which Path.glob refuses
    if not found:
        raise SpecError("no lock file matches; nothing was removed", where=f"--keep-locks {pattern!r}")
    return found


def _lock(path: Path) -> Lock:
    try:
        text = read_plain_file(path, SMALL_DOCUMENT, follow=True)
        return parse_lock(text.decode("utf-8", "replace"), str(path))
    except OSError as error:
        raise DiskError(f"cannot be read, nothing was removed: {error.strerror}", where=str(path)) from error
