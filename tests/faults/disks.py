"""Disks that misbehave for real: full, only to be read, unreadable at one place, cut from power.

Rules: every mount is gone when its block ends; each is a loop device or a tmpfs of its own; what fails is said by the kernel.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def _run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True)


@contextmanager
def _mounted(options: list[str], what: Path | str, where: Path) -> Iterator[Path]:
    if not where.exists():
        where.mkdir(parents=True)
    _run("mount", *options, what, where)
    try:
        yield where
    finally:
        _run("umount", "--lazy", where)


@contextmanager
def small_disk(where: Path, size: int) -> Iterator[Path]:
    """A tmpfs of ``size`` MiB."""
    with _mounted(["-t", "tmpfs", "-o", f"size={size}m"], "none", where) as disk:
        yield disk


def fill(disk: Path, free: int) -> Path:
    """A file that leaves ``free`` bytes of the disk; to be removed again."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    wanted, done = max(1, state.f_bavail * state.f_frsize - free), 0
    with filler.open("wb") as file:
        for step in (64 << 20, 1 << 20, 4096, 1):
            while wanted - done >= step:
                try:
                    os.posix_fallocate(file.fileno(), done, step)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    break  # what the file system keeps of its own grows with the file
                done += step
    return filler


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder and what is in it can only be read."""
    with _mounted(["--bind"], folder, folder):
        _run("mount", "-o", "remount,bind,ro", folder)
        yield


class Disk:
    """An ext4 file system on a loop device, of which the power can be cut: it keeps nothing longer than it was told to.

    Without ``auto_da_alloc`` the kernel does not guess that a renamed file was meant to be written first, and its journal is
    written when somebody syncs, not every five seconds.
    """

    OPTIONS = "loop,noauto_da_alloc,commit=900"

    def __init__(self, folder: Path, size: int) -> None:
        self.image, self.where = folder / "disk.img", folder / "disk"
        with self.image.open("wb") as file:
            os.truncate(file.fileno(), size << 20)
        _run("mkfs.ext4", "-q", "-m", "0", "-J", "size=8", self.image)

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """In use."""
        with _mounted(["-o", self.OPTIONS], self.image, self.where) as disk:
            yield disk

    def sync(self) -> None:
        """What is there now stays."""
        _run("sync", "-f", self.where)

    @contextmanager
    def after_power_cut(self) -> Iterator[Path]:
        """What a machine finds that lost its power now: what was written to the device, not what waits in memory."""
        copy = self.image.with_name("after.img")
        _run("cp", "--sparse=always", self.image, copy)
        try:
            with _mounted(["-o", "loop"], copy, copy.with_suffix("")) as disk:
                yield disk
        finally:
            copy.unlink()


@contextmanager
def unreadable_file(folder: Path, file: Path, offset: int) -> Iterator[None]:
    """In its place, ``file`` gives EIO when the block at ``offset`` is read."""
    tree = folder / "one"
    tree.mkdir(exist_ok=True)
    shutil.copy2(file, tree / file.name)
    with unreadable_at(folder, tree, file.name, offset) as disk, _mounted(["--bind"], disk / file.name, file):
        yield


@contextmanager
def unreadable_at(folder: Path, tree: Path, name: str, offset: int) -> Iterator[Path]:
    """A disk with a copy of ``tree``, whose file ``name`` gives EIO when the block at ``offset`` is read.

    btrfs, the block changed below it: the kernel finds that its checksum is wrong.
    """
    image, where = folder / "bad.img", folder / "bad"
    with image.open("wb") as empty:
        os.truncate(empty.fileno(), 256 << 20)
    _run("mkfs.btrfs", "-q", "-m", "single", "-d", "single", image)
    with _mounted(["-o", "loop"], image, where) as disk:
        _run("cp", "-a", "--reflink=never", f"{tree}/.", disk)
    piece = (tree / name).read_bytes()[offset : offset + 512]
    with image.open("r+b") as file, mmap.mmap(file.fileno(), 0) as blocks:
        at, found = blocks.find(piece), 0
        while at >= 0:
            blocks[at] ^= 1
            at, found = blocks.find(piece, at + 1), found + 1
        assert found, f"{name} is not on the disk as it is: too small, or compressed"
    with _mounted(["-o", "loop"], image, where) as disk:
        yield disk
