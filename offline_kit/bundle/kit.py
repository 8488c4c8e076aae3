"""A kit: the bundle's folder, unpacked, perhaps installed and in use.

Rules: nothing is followed that is not a plain file or folder; `.env` and `.state/` are the host's and are not looked at; who
may have changed what is decided in ``checks``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from offline_kit.bundle import paths
from offline_kit.bundle.evidence import SMALL, Collector, Evidence, Interest, Seen, shown
from offline_kit.bundle.parallel import Advance, Buffers, for_each
from offline_kit.digest import CHUNK
from offline_kit.progress import Progress

_BUFFERS = Buffers(CHUNK)


def look(folder: Path, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    """The evidence of the kit in ``folder``. Raises OSError when the folder itself cannot be listed."""
    evidence = Evidence("kit", installed=(folder / paths.INSTALLED).is_file())
    sizes: dict[str, int] = {}
    _walk(folder, "", evidence, sizes)
    interest = Interest()

    def work(path: str, advance: Advance) -> Seen | str:
        try:
            return _read(folder / path, path, interest, quick, advance)
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with progress.task("verify", sum(sizes.values())) as task:
        first = [path for path in paths.HEAD if path in sizes]
        rest = sorted(sizes.keys() - set(first), key=lambda path: (-sizes[path], path))
        results = for_each(work, first, 1, task.advance) + for_each(work, rest, jobs, task.advance)
    for path, seen in zip(first + rest, results, strict=True):
        if isinstance(seen, str):
            evidence.found(path, seen)
        evidence.files[path] = Seen(sizes[path], None, None, None, None) if isinstance(seen, str) else seen
    return evidence


def _walk(folder: Path, prefix: str, evidence: Evidence, sizes: dict[str, int]) -> None:
    with os.scandir(folder / prefix) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = prefix + entry.name
            if path in (paths.ENV, paths.STATE):
                continue
            mode = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(mode.st_mode):
                sizes[path] = mode.st_size
            elif not stat.S_ISDIR(mode.st_mode):
                evidence.found(shown(path), "is a symbolic link" if entry.is_symlink() else "is neither a file nor a folder")
            else:
                try:
                    _walk(folder, f"{path}/", evidence, sizes)
                except OSError as error:
                    evidence.found(shown(path), f"cannot be listed: {error.strerror}")


def _read(file: Path, path: str, interest: Interest, quick: bool, advance: Advance) -> Seen:
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as stream:
        size = os.fstat(stream.fileno()).st_size
        hashing = not quick or size <= SMALL
        collector = Collector(path, size, None, interest, hashing)
        while hashing or collector.wants_more:
            count = stream.readinto(_BUFFERS.buffer)
            if not count:
                break
            collector.feed(_BUFFERS.buffer[:count])
            advance(count)
        return collector.seen()
