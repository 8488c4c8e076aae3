"""Diff: what changed from one version of a kit to another, and how much of it would travel.

Rules: reads the heads of both and nothing else; images and models come from the locks, all other files from SHA256SUMS, so
that for a bare lock nothing is said of them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from offline_kit.bundle import delta, paths
from offline_kit.bundle.inspect import Head
from offline_kit.spec.lock import LockedImage, LockedModel


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
    changes = []
    for key in sorted(a.lock.images.keys() | b.lock.images.keys()):
        before, after = a.lock.images.get(key), b.lock.images.get(key)
        if before is None or after is None or before.manifest != after.manifest or before.reference != after.reference:
            own = {paths.blob(blob.digest) for blob in after.blobs()} if after else set()
            size = sum(new[path] for path in own & new.keys())
            changes.append(Change("image", key, _how(before, after), _image(before, after), size))
    for key in sorted(a.lock.models.keys() | b.lock.models.keys()):
        changes += _models(key, a.lock.models.get(key), b.lock.models.get(key), new)
    for name in sorted(a.lock.files.keys() | b.lock.files.keys()):
        old, now = a.lock.files.get(name), b.lock.files.get(name)
        if old is None or now is None or old.sha256 != now.sha256:
            path = paths.extra_file(name)
            changes.append(Change("file", path, _how(old, now), now.source if now else "", new.get(path, 0)))
    if a.sums is not None and b.sums is not None:
        for path in sorted(a.sums.keys() | b.sums.keys()):
            if not paths.is_payload(path) and a.sums.get(path) != b.sums.get(path):
                changes.append(Change("file", path, _how(a.sums.get(path), b.sums.get(path)), "", 0))
    else:
        for name in sorted(a.lock.config.keys() | b.lock.config.keys()):
            if a.lock.config.get(name) != b.lock.config.get(name):
                how = _how(a.lock.config.get(name), b.lock.config.get(name))
                changes.append(Change("file", f"{paths.CONFIG}/{name}", how, "", 0))
    payload = sum(size for _, size, _ in delta.payload(b.lock))
    return Difference(a.title, b.title, tuple(changes), sum(new.values()), payload)


def _models(key: str, before: LockedModel | None, after: LockedModel | None, new: dict[str, int]) -> list[Change]:
    """The model, if it came, went or is another revision; and each of its files that did."""
    old = {file.path: file for file in before.files} if before else {}
    now = {file.path: file for file in after.files} if after else {}
    changed = [path for path in sorted(old.keys() | now.keys()) if old.get(path) != now.get(path)]
    if not changed and before and after and before.commit == after.commit and before.source == after.source:
        return []
    size = sum(new.get(paths.model_file(key, path), 0) for path in now)
    changes = [Change("model", key, _how(before, after), f"{_revision(before)} -> {_revision(after)}", size)]
    if before and after:
        for path in changed:
            name = paths.model_file(key, path)
            changes.append(Change("file", name, _how(old.get(path), now.get(path)), "", new.get(name, 0)))
    return changes


def _how(before: object, after: object) -> str:
    return "added" if before is None else "removed" if after is None else "changed"


def _image(before: LockedImage | None, after: LockedImage | None) -> str:
    names = [f"{image.reference or image.source} {image.config.digest.short}" if image else "-" for image in (before, after)]
    return " -> ".join(names)


def _revision(model: LockedModel | None) -> str:
    return "-" if model is None else f"{model.source} {model.commit[:12] if model.commit else 'local folder'}"
