"""A kit: the bundle's folder, unpacked, perhaps installed and in use.

Rules: nothing is followed or waited for that is not a plain file or folder; a file is read up to the size that it had, and one
that changes meanwhile is a finding; a tree deeper or larger than any bundle's is not walked to its end; `.env` and `.state/`
are the host's and are not looked at; who may have changed what is decided in ``checks``.
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from pathlib import Path

from offline_kit.bundle.format import paths
from offline_kit.bundle.read.observed import ENTRIES_AT_MOST, SMALL, Evidence, FileObserver, KeepPolicy, Seen, TooMany, shown
from offline_kit.common.concurrency import Advance, Buffers, map_files
from offline_kit.common.digest import CHUNK
from offline_kit.common.progress import Progress
from offline_kit.spec.names import DEEPEST

_BUFFERS = Buffers(CHUNK)


def observe(folder: Path, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    """The evidence of the kit in ``folder``. Raises OSError when the folder itself cannot be listed."""
    evidence = Evidence("kit", installed=(folder / paths.INSTALLED).is_file())
    walk = _Walk(folder, evidence)
    try:
        walk.below("")
    except TooMany as error:
        evidence.found(f"{folder}/", f"{error}: {ENTRIES_AT_MOST}")
        return evidence
    sizes = walk.sizes
    policy = KeepPolicy()

    def work(path: str, advance: Advance) -> Seen | str:
        try:
            return _read(folder / path, path, policy, quick, advance)
        except OSError as error:
            return f"cannot be read: {error.strerror}"

    with progress.task("verify", sum(sizes.values())) as task:
        first = [path for path in paths.HEAD if path in sizes]
        rest = sorted(sizes.keys() - set(first), key=lambda path: (-sizes[path], path))
        results = map_files(work, first, 1, task.advance) + map_files(work, rest, jobs, task.advance)
    for path, seen in zip(first + rest, results, strict=True):
        if isinstance(seen, str):
            evidence.found(path, seen)
        evidence.files[path] = Seen(sizes[path], None, None, None, None) if isinstance(seen, str) else seen
    return evidence


class _Walk:
    """What lies below a folder: ``sizes`` of the plain files by path; all else is a finding."""

    def __init__(self, folder: Path, evidence: Evidence) -> None:
        self._folder, self._evidence = folder, evidence
        self._left = ENTRIES_AT_MOST
        self.sizes: dict[str, int] = {}

    def below(self, prefix: str) -> None:
        """Raises OSError when the folder cannot be listed."""
        with os.scandir(self._folder / prefix) as entries:
            found = sorted(islice(entries, self._left + 1), key=lambda entry: entry.name)
        self._left -= len(found)
        if self._left < 0:
            raise TooMany("more files than a kit may have")
        for entry in found:
            if (path := prefix + entry.name) not in (paths.ENV, paths.STATE):
                self._take(entry, path)

    def _take(self, entry: os.DirEntry[str], path: str) -> None:
        try:
            state = entry.stat(follow_symlinks=False)
            if stat.S_ISREG(state.st_mode):
                self.sizes[path] = state.st_size
            elif not stat.S_ISDIR(state.st_mode):
                what = "is a symbolic link" if entry.is_symlink() else "is neither a file nor a folder"
                self._evidence.found(shown(path), what)
            elif path.count("/") >= DEEPEST:
                self._evidence.found(shown(path), f"is a folder below {DEEPEST} others, and was not looked into")
            else:
                self.below(f"{path}/")
        except OSError as error:
            self._evidence.found(shown(path), f"cannot be listed: {error.strerror}")


def _read(file: Path, path: str, policy: KeepPolicy, quick: bool, advance: Advance) -> Seen:
    """Raises OSError, also where the file is not at rest."""
    # Since the folder was listed, a pipe may have come to this name: without O_NONBLOCK, opening it would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(file, flags), "rb", buffering=0) as stream:
        state = os.fstat(stream.fileno())
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file any more")
        hashing = not quick or state.st_size <= SMALL
        observer = FileObserver(path, state.st_size, None, policy, hashing)
        left = state.st_size
        while left and (hashing or observer.wants_more):
            count = stream.readinto(_BUFFERS.buffer[:left])
            if not count:
                break
            observer.feed(_BUFFERS.buffer[:count])
            left -= count
            advance(count)
        if hashing and (left or stream.read(1)):
            raise OSError(errno.EBUSY, "it changed while it was read")
        return observer.seen()
