"""The entry of a finished release in the index, its signature and its notes.

Rules: what is told is read from the bundle that lies there, not from what was meant; notes are written before the entry, so
that the entry names only what is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from offline_kit.bundle.diff import compare
from offline_kit.bundle.format import parts
from offline_kit.bundle.format.media import Medium
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.signature.check import check_signatures
from offline_kit.bundle.signature.sign import Signed, sign
from offline_kit.bundle.signature.signers import Signer
from offline_kit.bundle.write.copy_unpacker import carry_checker
from offline_kit.common.digest import Digest
from offline_kit.common.files import disk_errors, replace_file
from offline_kit.common.progress import Progress
from offline_kit.common.units import size
from offline_kit.host import assets
from offline_kit.host.manual.facts import facts
from offline_kit.project import Project
from offline_kit.release.index import Release
from offline_kit.release.notes import SUFFIXES, notes
from offline_kit.spec.lock import Lock


@dataclass(frozen=True)
class Draft:
    """What a release was made from. ``content``: all but its version; ``earlier``: the head of the release before;
    ``just_written``: by this run."""

    project: Project
    lock: Lock
    version: str
    content: Digest
    now: datetime
    earlier: Head | None
    just_written: bool


@dataclass(frozen=True)
class Record:
    """A transfer record is wanted. ``medium``: what its parts are numbered by."""

    medium: Medium | None


def describe(draft: Draft, path: Path, signer: Signer | None, record: Record | None, progress: Progress) -> Release:
    """The entry of the bundle at ``path``, signed by ``signer``, with its notes and its record beside it. Raises KitError."""
    signed = sign(path, signer) if signer else None
    if signed:
        carry_checker(path.parent, assets.checker(), progress)
    files = [file.name for file in signed.files] if signed else []
    files += [file.name for file in _write_record(draft, path, signed, record, progress)] if record else []
    release = _entry(draft, path, signed, files)
    target = draft.project.manifest.target
    described = facts(draft.lock, draft.version, draft.project.services) | {
        "release": release,
        "sums": _sums(path).name,
        "target": target.gpus if target else None,
    }
    for suffix, text in notes(described).items():
        replace_file(path.with_name(_stem(path) + suffix), text)
    return release


def _write_record(draft: Draft, path: Path, signed: Signed | None, record: Record, progress: Progress) -> list[Path]:
    from offline_kit.record.gather import gather  # noqa: PLC0415  what draws pages is loaded only by who wants them
    from offline_kit.record.write import write_record  # noqa: PLC0415

    keys = [signed.public] if signed else []
    return write_record(gather(path, keys, record.medium, progress, just_written=draft.just_written), path.parent)


def _entry(draft: Draft, path: Path, signed: Signed | None, more: Sequence[str]) -> Release:
    head, files = read_head(path), parts.locate(path).files
    base = head.contents.base if head.contents else None
    with disk_errors(path):
        sums = parts.read_sums(parts.locate(path))
        total = sum(file.stat().st_size for file in files)
    named = [path.name, *(file.name for file in files), _sums(path).name, *more]
    return Release(
        version=draft.version,
        made=f"{draft.now:%Y-%m-%dT%H:%M:%SZ}",
        content=draft.content,
        lock=head.digest,
        fingerprint=check_signatures(path, [], None).fingerprint,
        file=path.name,
        files=tuple(dict.fromkeys([*named, *(_stem(path) + suffix for suffix in SUFFIXES)])),
        size=total,
        sha256=sums,
        base=base.version if base else None,
        signed_by=signed.public.id if signed else None,
        changes=tuple(_changes(draft.earlier, head)) if draft.earlier else (),
    )


def _changes(earlier: Head, head: Head) -> Iterator[str]:
    """What is new since the release before, a line each."""
    difference = compare(earlier, head)
    for change in difference.changes:
        how = f" {change.what}" if change.what else ""
        yield f"{change.how} {change.kind} {change.name}{how}{f' ({size(change.bytes)})' if change.bytes else ''}"


def _sums(path: Path) -> Path:
    return path.with_name(parts.sums_name(parts.locate(path).name))


def _stem(path: Path) -> str:
    return _sums(path).name.removesuffix(".sha256")
