"""A delta: a bundle without the blobs and model files that an earlier kit has.

Rules: only payload is left out, so that a delta can complete itself with nothing but its own scripts; SHA256SUMS is that of
the full kit; ``bundle.json`` names the base and each file that comes from it, and ``delta/`` holds the rest that the host
needs: bundle.json as the full kit has it, and the same list for the shell. Completed, the kit is the full one, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Base, Contents, Need, parse_contents
from offline_kit.bundle.format.entries import Entry, in_order, small_entry
from offline_kit.bundle.read.inspect import Head
from offline_kit.bundle.read.observed import Evidence, Seen
from offline_kit.common.digest import Digest
from offline_kit.common.errors import BundleDamaged
from offline_kit.spec.lock import Lock


def payload(lock: Lock) -> Iterator[tuple[str, int, Digest]]:
    """Path, size and digest of every image blob and model file."""
    for blob in lock.image_blobs().values():
        yield paths.blob(blob.digest), blob.size, blob.digest
    for key, model in lock.models.items():
        for file in model.files:
            yield paths.model_file(key, file.path), file.size, file.sha256
    for path, extra in lock.files.items():
        yield paths.extra_file(path), extra.size, extra.sha256


def compare(lock: Lock, head: Head) -> Base:
    """What the kit of ``lock`` can take from the earlier one of ``head``."""
    earlier = head.lock
    there: dict[Digest, str] = {}
    for path, _, digest in payload(earlier):
        there.setdefault(digest, path)
    same = {(path, digest) for path, _, digest in payload(earlier)}
    needs = {
        path: Need(size=size, sha256=digest, at=path if (path, digest) in same else there[digest])
        for path, size, digest in payload(lock)
        if digest in there
    }
    return Base(name=earlier.name, version=head.version, lock=head.digest, needs=needs)


def omit_base(entries: Sequence[Entry], base: Base) -> tuple[Entry, ...]:
    """The entries of the delta, from those of the full bundle."""
    kept = {entry.path: entry for entry in entries if entry.path not in base.needs}
    full = kept[paths.BUNDLE].content or b""
    contents = parse_contents(full, paths.BUNDLE).model_copy(update={"base": base})
    for path, content in (
        (paths.BUNDLE, contents.text().encode()),
        (paths.DELTA_BUNDLE, full),
        (paths.DELTA_NEEDS, needs_text(base)),
    ):
        kept[path] = small_entry(path, content)
    return in_order(kept.values())


def needs_text(base: Base) -> bytes:
    """delta/needs, for the shell: size, path in the base, path here, by tabs, sorted by the last; digests: SHA256SUMS."""
    ordered = sorted(base.needs.items(), key=lambda item: item[0].encode())
    return "".join(f"{need.size}\t{need.at}\t{path}\n" for path, need in ordered).encode()


def apply_base(evidence: Evidence) -> None:
    """Of a delta: checks what only a delta has, and puts the full kit's files in its place, for all other checks."""
    own = evidence.files.get(paths.BUNDLE)
    contents = _contents(own)
    if own is None or contents is None or contents.base is None:
        return
    evidence.base = contents.base
    expected = {paths.DELTA_BUNDLE: contents.full().text().encode(), paths.DELTA_NEEDS: needs_text(contents.base)}
    for path, text in expected.items():
        seen = evidence.files.pop(path, None)
        if seen is None:
            evidence.found(path, "is missing")
        elif seen.digest not in (None, Digest.of(text)):
            evidence.found(path, f"is not what follows from {paths.BUNDLE}")
    # The bundle.json that is proven against SHA256SUMS is the one that stays.
    full = expected[paths.DELTA_BUNDLE]
    evidence.files[paths.BUNDLE] = Seen(len(full), own.mode, Digest.of(full), full, None)
    for path, need in contents.base.needs.items():
        if not paths.is_payload(path):
            evidence.found(paths.BUNDLE, f"says that the base has {path}, which no delta leaves out")
        elif path in evidence.files:
            evidence.found(path, f"is there, and {paths.BUNDLE} says that the base has it")
        else:
            evidence.files[path] = Seen(need.size, None, need.sha256, None, None)


def _contents(seen: Seen | None) -> Contents | None:
    try:
        return parse_contents(seen.content, paths.BUNDLE) if seen is not None and seen.content is not None else None
    except BundleDamaged:  # ``checks`` reports it
        return None
