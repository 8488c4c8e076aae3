"""Diff: what changed from one version of a kit to another, and how much of it would travel.

Rules: reads the heads of both and nothing else; images and models come from the locks, all other files from SHA256SUMS, so
that for a bare lock nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from offline_kit.bundle import delta
from offline_kit.bundle.format import paths
from offline_kit.bundle.read.inspect import Head
from offline_kit.common.digest import Digest
from offline_kit.spec.lock import Lock, LockedImage, LockedModel

Value = TypeVar("Value")


@dataclass(frozen=True)
class Change:
    """One thing that differs. ``what``: for an image or model, how; ``bytes``: that B has and A has nowhere."""

    kind: str
    name: str
    how: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Difference:
    """From ``a`` to ``b``: ``travels`` bytes of payload in a delta, of ``payload`` bytes in all."""

    a: str
    b: str
    changes: tuple[Change, ...]
    travels: int
    payload: int

    def as_json(self) -> dict[str, Any]:
        return {"same": not self.changes, **asdict(self)}


def compare(a: Head, b: Head) -> Difference:
    """What changed from ``a`` to ``b``."""
    needs = delta.compare(b.lock, a).needs
    new = {path: size for path, size, _ in delta.payload(b.lock) if path not in needs}
    changes = [
        *_images(a.lock, b.lock, new),
        *_models(a.lock, b.lock, new),
        *_extra_files(a.lock, b.lock, new),
        *(_small_files(a.sums, b.sums) if a.sums is not None and b.sums is not None else _configuration(a.lock, b.lock)),
    ]
    payload = sum(size for _, size, _ in delta.payload(b.lock))
    return Difference(a.title, b.title, tuple(changes), sum(new.values()), payload)


def _images(a: Lock, b: Lock, new: Mapping[str, int]) -> Iterator[Change]:
    """Images that came, went, or are another manifest or name; ``new``: size of what travels, by path."""
    for key, before, after in _pairs(a.images, b.images):
        if before is None or after is None or before.manifest != after.manifest or before.reference != after.reference:
            own = {paths.blob(blob.digest) for blob in after.blobs()} if after else set()
            size = sum(new[path] for path in own & new.keys())
            yield Change("image", key, _how(before, after), _image(before, after), size)


def _models(a: Lock, b: Lock, new: Mapping[str, int]) -> Iterator[Change]:
    """Models that differ, each followed by its files that do."""
    for key, before, after in _pairs(a.models, b.models):
        yield from _model(key, before, after, new)


def _model(key: str, before: LockedModel | None, after: LockedModel | None, new: Mapping[str, int]) -> Iterator[Change]:
    """The model, if it came, went or is another revision; and each of its files that did."""
    old = {file.path: file for file in before.files} if before else {}
    now = {file.path: file for file in after.files} if after else {}
    changed = [item for item in _pairs(old, now) if item[1] != item[2]]
    if not changed and before and after and before.commit == after.commit and before.source == after.source:
        return
    size = sum(new.get(paths.model_file(key, path), 0) for path in now)
    yield Change("model", key, _how(before, after), f"{_revision(before)} -> {_revision(after)}", size)
    for path, was, is_now in changed if before and after else []:
        name = paths.model_file(key, path)
        yield Change("file", name, _how(was, is_now), "", new.get(name, 0))


def _extra_files(a: Lock, b: Lock, new: Mapping[str, int]) -> Iterator[Change]:
    """Files of the manifest's ``files`` whose content differs."""
    for name, old, now in _pairs(a.files, b.files):
        if old is None or now is None or old.sha256 != now.sha256:
            path = paths.extra_file(name)
            yield Change("file", path, _how(old, now), now.source if now else "", new.get(path, 0))


def _small_files(a: Mapping[str, Digest], b: Mapping[str, Digest]) -> Iterator[Change]:
    """All other files that differ, by the sums of both kits."""
    for path, old, now in _pairs(a, b):
        if not paths.is_payload(path) and old != now:
            yield Change("file", path, _how(old, now), "", 0)


def _configuration(a: Lock, b: Lock) -> Iterator[Change]:
    """Configuration files that differ: all that a lock says of small files."""
    for name, old, now in _pairs(a.config, b.config):
        if old != now:
            yield Change("file", f"{paths.CONFIG}/{name}", _how(old, now), "", 0)


def _pairs(a: Mapping[str, Value], b: Mapping[str, Value]) -> Iterator[tuple[str, Value | None, Value | None]]:
    """Each key of both, sorted, with what ``a`` and ``b`` have there."""
    for key in sorted(a.keys() | b.keys()):
        yield key, a.get(key), b.get(key)


def _how(before: object, after: object) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def _image(before: LockedImage | None, after: LockedImage | None) -> str:
    names = [f"{image.reference or image.source} {image.config.digest.short}" if image else "-" for image in (before, after)]
    return " -> ".join(names)


def _revision(model: LockedModel | None) -> str:
    return "-" if model is None else f"{model.source} {model.commit[:12] if model.commit else 'local folder'}"
