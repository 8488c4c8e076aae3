#!/usr/bin/env python3
"""Unpacks an offline-kit bundle and proves every file on the way, many at once.

Use: python3 unpack.py BUNDLE [FOLDER]

Standard library only, Python 3.8 or later, one file: it is carried beside bundles (hence its length), and the command
``offline-kit unpack`` calls it. It shares no code with the packer: it is another reader of docs/bundle-format.md.

Rules: nothing is written outside a new folder of this run, which gets its name only when every file in it is as SHA256SUMS
says, and on the disk; only plain files and folders, each once, made anew and never opened through a link; nothing is written
that does not fit on the disk or that SHA256SUMS does not name; all findings are reported, then nothing is left.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import stat
import struct
import sys
import tempfile
import threading
import time
import unicodedata
import zlib
from bisect import bisect_right
from collections import deque
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

MARK = "Unpacks an offline-kit bundle"
HEAD = bytes.fromhex("1f8b0804 00000000 00ff 0c00 4f4b0800")
GZIP_HEAD, FRAME, TRAILER, RECORD, BLOCK = 24, 5, 8, 512, 0xFFFF
STEP = FRAME + BLOCK
CHUNK = 16 * STEP
NAME_AT_MOST = 4096
PARTS, PARTS_AT_MOST = ".parts.json", 4 << 20
SUMS, BUNDLE, LOCK, NEEDS, FULL = "SHA256SUMS", "bundle.json", "lock.json", "delta/needs", "delta/bundle.json"
HEADS, LAYOUT = (SUMS, BUNDLE, LOCK), ("images/oci-layout", "images/index.json", "images/manifest.json")
PAYLOAD = ("images/blobs/sha256/", "files/", "models/")
LIST_AT_MOST, VALUES_AT_MOST = 8 << 20, 1_000_000
BEGIN = 1 << 20  # bytes of a tar in which a name of a kit is looked for
FOLDERS = ("config", "deploy", "files", "images", "models", "runtime", "scripts")
WORK, LEFT_BEHIND = ".unpack-", 60.0  # seconds
DEEPEST, ENTRIES_AT_MOST, NAMES_AT_MOST = 64, 50_000, 16 << 20
# No control characters, and no marks that change how a name is shown.
SEGMENT = re.compile(r"[^\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\\]+")
LINE = re.compile(r"([0-9a-f]{64})  ([^\n]+)")
Advance = Callable[[int], None]
Source = Any  # anything with size and pread(count, offset)


class Refused(Exception):
    """The bundle is not whole; ``findings``: everything that was found, a line each."""

    def __init__(self, findings: Sequence[str]) -> None:
        super().__init__("\n".join(findings))
        self.findings = list(findings)


class Item(NamedTuple):
    """A file or folder of the archive; ``path`` below the top folder, "" for that itself; ``offset``: of its first block."""

    path: str
    is_folder: bool
    size: int
    mode: int
    mtime: int
    offset: int
    tar: bytes


class Files:
    """The bundle's file, or its parts, as one run of bytes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would wait for ever.
        self._files = [os.open(str(path), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK) for path in paths]
        self._starts, self._paths = [0], list(paths)
        for file, path in zip(self._files, paths):
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise ValueError(f"{path} is not a file")
            self._starts.append(self._starts[-1] + os.fstat(file).st_size)
        self.size = self._starts[-1]

    def pread(self, count: int, offset: int) -> bytes:
        pieces = []
        while count > 0 and offset < self.size:
            part = bisect_right(self._starts, offset) - 1
            try:
                piece = os.pread(self._files[part], min(count, self._starts[part + 1] - offset), offset - self._starts[part])
            except OSError as error:
                error.filename = str(self._paths[part])
                raise
            if not piece:
                break
            pieces.append(piece)
            count, offset = count - len(piece), offset + len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def close(self) -> None:
        for file in self._files:
            os.close(file)


def shown(name: str) -> str:
    return name if name.isprintable() and name else ascii(name)


def safe(path: str) -> bool:
    """Whether a path stays below its folder on every file system."""
    parts = path.split("/")
    if any(part in ("", ".", "..") or not SEGMENT.fullmatch(part) for part in parts) or parts[0][0] in "-~":
        return False
    if len(parts) > DEEPEST:
        return False
    try:
        return all(len(part.encode()) <= 255 for part in parts) and len(path) < NAME_AT_MOST
    except UnicodeEncodeError:
        return False


def folded(path: str) -> str:
    """What a file system that knows neither case nor forms of Unicode makes of a name."""
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", unicodedata.normalize("NFKD", path).casefold())


def read_header(tar: bytes, offset: int) -> Item:
    """What a tar header says, with a GNU long name before it or not. Raises ValueError that says what is wrong."""
    record = tar[-RECORD:]
    total = int(record[148:154], 8)
    if total != sum(record[:148]) + sum(record[156:]) + 8 * 32 or record[257:265] != b"ustar\x0000":
        raise ValueError("its tar header is damaged")
    kind, mode, mtime = record[156:157], int(record[100:107], 8), int(record[136:147], 8)
    if kind not in (b"0", b"5"):
        raise ValueError("is neither a file nor a folder")
    size = int.from_bytes(record[125:136], "big") if record[124] == 0x80 else int(record[124:135], 8)
    name, prefix = (part.split(b"\0", 1)[0] for part in (record[:100], record[345:500]))
    if len(tar) > RECORD:
        name, prefix = tar[RECORD:-RECORD].split(b"\0", 1)[0], b""
    path = (prefix + b"/" + name if prefix else name).decode()
    is_folder = kind == b"5"
    if is_folder != path.endswith("/") or (is_folder and size) or mode not in ((0o755,) if is_folder else (0o644, 0o755)):
        raise ValueError("its tar header is not one that a bundle has")
    if tar != make_header(path.encode(), kind, size, mode, mtime):
        raise ValueError("its tar header is not in the one form that a bundle has")
    return Item(path[:-1] if is_folder else path, is_folder, size, mode, mtime, offset, tar)


def make_header(name: bytes, kind: bytes, size: int, mode: int, mtime: int) -> bytes:
    """The one form of a tar header: a name that is too long is cut at a slash, or stands in a GNU entry before it."""
    cut = name.find(b"/", max(len(name) - 101, 0), len(name) - 1) if len(name) > 100 else -1
    if len(name) <= 100 or 0 < cut <= 155:
        return _record(name[cut + 1 :], kind, size, mode, mtime, name[: max(cut, 0)])
    long = name + b"\0"
    head = _record(b"././@LongLink", b"L", len(long), 0o644, 0, b"")
    return head + long + bytes(-len(long) % RECORD) + _record(name[:100], kind, size, mode, mtime, b"")


def _record(name: bytes, kind: bytes, size: int, mode: int, mtime: int, prefix: bytes) -> bytes:
    number = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    owner = b"0000000\0" * 2
    head = name.ljust(100, b"\0") + b"%07o\0" % mode + owner + number + b"%011o\0" % mtime
    tail = kind + bytes(100) + b"ustar\x0000" + bytes(80) + prefix.ljust(155, b"\0") + bytes(12)
    return head + b"%06o\0 " % (sum(head) + sum(tail) + 8 * 32) + tail


def head_length(record: bytes) -> int:
    """Bytes of the tar header that begins so. Raises ValueError."""
    if record[156:157] != b"L":
        return RECORD
    length = int(record[124:135], 8)
    if not 100 < length <= NAME_AT_MOST:
        raise ValueError("its name is of an impossible length")
    return 2 * RECORD + length + -length % RECORD


def place(path: str) -> Tuple[int, int, bytes]:
    """Sort key of a file: small ones come first, then images, further files and models."""
    if path in HEADS:
        return 0, HEADS.index(path), b""
    if path.startswith("images/"):
        return 2, LAYOUT.index(path) if path in LAYOUT else len(LAYOUT), path.encode()
    return {"files": 3, "models": 4}.get(path.split("/", maxsplit=1)[0], 1) if "/" in path else 1, 0, path.encode()


def in_order(files: Iterable[str]) -> List[str]:
    """The entries of a bundle with these files: each after its folders, which have a slash at their end."""
    names: Dict[str, None] = {"/": None}
    for path in sorted(files, key=place):
        names.update((path[: at + 1], None) for at in range(len(path)) if path[at] == "/")
        names[path] = None
    return list(names)


class Inventory:
    """What may be written: admits the archive's entries one by one, and holds the files against SHA256SUMS."""

    def __init__(self) -> None:
        self.findings: List[str] = []
        self.size = 0  # bytes of all files
        self.top = ""
        self.files: Dict[str, Item] = {}
        self.sums: Dict[str, str] = {}
        self._folders = {""}
        self._order: List[str] = []  # of all entries, those of folders with a slash
        self._mtime: Optional[int] = None
        self._folded: Dict[str, str] = {}
        self._names = 0

    def admit(self, item: Item) -> Optional[Item]:
        """The entry with its path below the top folder; None, and a finding, if it must not be written."""
        top, _, path = item.path.partition("/")
        self._names += len(item.path)
        if len(self.files) + len(self._folders) > ENTRIES_AT_MOST or self._names > NAMES_AT_MOST:
            raise ValueError("more files than a bundle may have")
        self.top = self.top or top
        problem = ""
        if not safe(item.path):
            problem = "its path is absolute, leaves the folder, or holds characters that no path may have"
        elif top != self.top or (not path and not item.is_folder):
            problem = "lies outside the bundle's folder"
        elif path in self.files or (path and path in self._folders):
            problem = "comes twice"
        elif self._folded.setdefault(folded(path), path) != path:
            problem = f"is one name with {self._folded[folded(path)]} on some hosts"
        elif path and path.rpartition("/")[0] not in self._folders:
            problem = "its folder has no entry before it"
        elif path and (path == ".env" or path.split("/")[0] == ".state"):
            problem = "is a path that belongs to the host"
        elif item.mtime != (item.mtime if self._mtime is None else self._mtime):
            problem = "has another time than the first entry"
        if problem:
            self.findings.append(f"{shown(item.path)}: {problem}")
            return None
        self.size += item.size
        self._mtime = item.mtime
        self._order.append(path + "/" * item.is_folder)
        item = item._replace(path=path)
        if item.is_folder:
            self._folders.add(path)
        else:
            self.files[path] = item
        return item

    def read_sums(self, text: bytes) -> None:
        """Takes the list that every file is held against."""
        lines = text.decode("utf-8", "replace").split("\n")
        matches = [LINE.fullmatch(line) for line in lines[:-1]]
        self.sums = {match.group(2): match.group(1) for match in matches if match}
        names = [path.encode("utf-8", "replace") for path in self.sums]
        if (
            lines[-1]
            or None in matches
            or len(names) != len(matches)
            or names != sorted(names)
            or not all(map(safe, self.sums))
            or any(path in (SUMS, ".env") or path.startswith(".state/") for path in self.sums)
        ):
            self.findings.append(f"{SUMS}: is not a list of sums in the form of a bundle")

    def expected(self, path: str) -> Optional[str]:
        """The digest that a file must have. A delta brings two bundle.json, of which SHA256SUMS means the one that stays."""
        delta = NEEDS in self.files
        return self.sums.get({FULL: BUNDLE, BUNDLE: ""}.get(path, path) if delta else path)

    def compare(self, digests: Dict[str, str], from_base: Sequence[str]) -> None:
        """Every file is listed and as listed; every listed file is there, or the base has it."""
        free = {SUMS, BUNDLE, NEEDS} if NEEDS in self.files else {SUMS}
        for path in self.files:
            wanted = self.expected(path)
            if wanted is None and path not in free:
                self.findings.append(f"{shown(path)}: is extra: {SUMS} does not name it")
            elif wanted is not None and path in digests and digests[path] != wanted:
                self.findings.append(f"{path}: is changed: {digests[path]} instead of {wanted}")
        needed = {path[:at] for path in self.files for at in range(len(path)) if path[at] == "/"}
        self.findings.extend(f"{shown(path)}: is an empty folder" for path in self._folders - needed - {""})
        for path, item in self.files.items():
            payload = path.startswith(PAYLOAD)
            if (item.mode != 0o644 and payload) or (item.mode != 0o755 and path == "install.sh"):
                self.findings.append(f"{path}: {'is executable, and may not be' if payload else 'is not executable'}")
        if self._order != (order := in_order(self.files)):
            first = next(one or other for one, other in zip_longest(self._order, order) if one != other)
            self.findings.append(f"{shown(first)}: is not at its place: files and folders are not in the order of a bundle")
        missing = sorted(self.sums.keys() - self.files.keys() - set(from_base))
        self.findings.extend(f"{path}: is missing" for path in missing)


def scan(source: Source, inventory: Inventory) -> List[Item]:
    """Every member's place, hopping from header to header; the end mark must end the file."""
    items: List[Item] = []
    offset = 0
    peek = GZIP_HEAD + FRAME + 2 * RECORD + NAME_AT_MOST
    while True:
        start = source.pread(peek, offset)
        reported = struct.unpack_from("<Q", start, len(HEAD))[0] if len(start) >= GZIP_HEAD + FRAME + RECORD else 0
        end = bytes(2 * RECORD)
        if (
            start[GZIP_HEAD + FRAME :] == end + struct.pack("<II", zlib.crc32(end), len(end))
            and offset + reported == source.size
        ):
            if start[: GZIP_HEAD + FRAME] != _open(reported, len(end), True):
                inventory.findings.append("the end mark is damaged")
            return items
        try:
            record = start[GZIP_HEAD + FRAME : GZIP_HEAD + FRAME + RECORD]
            if not reported or start[: len(HEAD)] != HEAD:
                raise ValueError("the bundle is cut off or damaged here")
            tar = start[GZIP_HEAD + FRAME : GZIP_HEAD + FRAME + head_length(record)]
            item = read_header(tar, offset + GZIP_HEAD + FRAME + len(tar))
            if reported != _length(len(tar), item.size) or offset + reported > source.size:
                raise ValueError(f"{shown(item.path)}: its length is not that of its content, or the bundle is cut off")
            if start[: GZIP_HEAD + FRAME] != _open(reported, len(tar), not item.size):
                raise ValueError(f"{shown(item.path)}: its gzip header is damaged")
            admitted = inventory.admit(item)
        except (ValueError, UnicodeDecodeError) as error:
            inventory.findings.append(f"offset {offset}: {error}; what lies behind was not read")
            return items
        if admitted is not None:
            items.append(admitted)
        offset += reported


def _open(length: int, tar: int, last: bool) -> bytes:
    return HEAD + struct.pack("<Q", length) + struct.pack("<BHH", last, tar, tar ^ 0xFFFF)


def _length(tar: int, size: int) -> int:
    content = size + -size % RECORD
    return GZIP_HEAD + FRAME + tar + content + FRAME * -(-content // BLOCK) + TRAILER


def content(source: Source, item: Item, advance: Advance) -> Iterator[List[memoryview]]:
    """The bytes of a file in blocks, some at a time; if it ends, frames and CRC were right. Raises ValueError."""
    left = item.size + -item.size % RECORD
    total, size, check, offset = len(item.tar) + left, item.size, zlib.crc32(item.tar), item.offset
    while left:
        chunk = memoryview(source.pread(min(CHUNK, left + FRAME * -(-left // BLOCK)), offset))
        offset += len(chunk)
        advance(len(chunk))
        blocks = []
        for at in range(0, len(chunk), STEP):
            payload = chunk[at + FRAME : at + STEP]
            length = len(payload)
            left -= length
            if chunk[at : at + FRAME] != struct.pack("<BHH", not left, length, length ^ 0xFFFF) or not length:
                raise ValueError("bytes between its blocks are damaged")
            check = zlib.crc32(payload, check)
            if any(payload[size:]):
                raise ValueError("bytes behind its content are damaged")
            blocks.append(payload[:size])
            size -= min(size, length)
        if not chunk:
            raise ValueError("could not be read to its end")
        yield blocks
    if source.pread(TRAILER, offset) != struct.pack("<II", check, total & 0xFFFFFFFF):
        raise ValueError("its gzip checksum does not match")


def write(folder: int, item: Item, pieces: Iterator[List[memoryview]]) -> str:
    """Makes a new file below ``folder``; the digest of what was written."""
    digest = hashlib.sha256()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(item.path, flags, 0o600, dir_fd=folder)
    try:
        for blocks in pieces:
            for block in blocks:
                digest.update(block)
            while blocks:
                written = os.writev(file, blocks)
                while blocks and written >= len(blocks[0]):
                    written -= len(blocks.pop(0))
                if blocks:
                    blocks[0] = blocks[0][written:]
        os.fchmod(file, item.mode)
        os.utime(file, (item.mtime, item.mtime))
    finally:
        os.close(file)
    return digest.hexdigest()


class Stream:
    """A tar without the container around it, in pieces: somebody compressed the bundle again."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def some(self, count: int) -> memoryview:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                raise ValueError("the archive is cut off")
            self._rest = memoryview(piece)
        part, self._rest = self._rest[:count], self._rest[count:]
        return part

    def exactly(self, count: int) -> bytes:
        pieces = []
        while count:
            pieces.append(bytes(self.some(count)))
            count -= len(pieces[-1])
        return b"".join(pieces)

    def content(self, size: int, advance: Advance) -> Iterator[List[memoryview]]:
        padding = -size % RECORD
        while size:
            part = self.some(size)
            size -= len(part)
            advance(len(part))
            yield [part]
        if any(self.exactly(padding)):
            raise ValueError("bytes behind its content are damaged")

    def header(self) -> Optional[Item]:
        """The next entry, or None at the end, behind which nothing may follow."""
        record = self.exactly(RECORD)
        if any(record):
            return read_header(record + self.exactly(head_length(record) - RECORD), 0)
        if any(self.exactly(RECORD)) or self._rest or any(self._pieces):
            raise ValueError("something follows after the end of the archive")
        return None


def gunzip(source: Source) -> Iterator[bytes]:
    """The bytes of all gzip members, at most 1 MiB at a time. Raises ValueError."""
    engine, data, offset, given = None, b"", 0, 0
    while True:
        if not data:
            data = source.pread(1 << 18, offset)
            offset += len(data)
            if not data and engine is None:
                return
        if engine is None:
            engine, given = zlib.decompressobj(31), 0
        try:
            piece = engine.decompress(data, 1 << 20)
        except zlib.error as error:
            raise ValueError("the gzip stream is damaged, or something else follows after its end") from error
        if not data and not piece and not engine.eof:
            raise ValueError("the gzip stream is cut off")
        given += len(piece)
        data = engine.unconsumed_tail
        if engine.eof:
            if not given:
                raise ValueError("an empty gzip member is glued in")
            data, engine = engine.unused_data, None
        if piece:
            yield piece


def begins_as_kit(source: Source) -> bool:
    """Whether the tar in this gzip begins with names of a kit; also where it cannot be read so far, which is told later."""
    begin = b""
    try:
        for piece in gunzip(source):
            begin += piece
            if len(begin) >= BEGIN:
                break
    except ValueError:
        return True
    names = [f"/{name}\0" for name in (*HEADS, "install.sh")] + [f"/{name}/" for name in FOLDERS]
    return not begin or any(name.encode() in begin for name in names)


class Unpacking:
    """One run into a new folder: ``members`` of a bundle in its own container, or the ``stream`` of another's tar."""

    def __init__(self, source: Source, folder: Path, jobs: Optional[int], advance: Advance) -> None:
        self._source, self._folder, self._advance, self._stop = source, folder, advance, threading.Event()
        self._jobs = jobs or len(os.sched_getaffinity(0))
        state = os.statvfs(str(folder))
        self._space = state.f_bavail * state.f_frsize
        self.inventory = Inventory()
        self.digests: Dict[str, str] = {}

    def members(self, descriptor: int, top: Callable[[str], None]) -> None:
        """Every file of the bundle in its own container; nothing is written if its structure is not whole."""
        items = scan(self._source, self.inventory)
        sums = self.inventory.files.get(SUMS)
        if sums is None or sums.size > LIST_AT_MOST:
            self.inventory.findings.append(f"{SUMS}: is missing, or too large")
        if sums is None or self.inventory.findings:
            return
        self.inventory.read_sums(self._text(sums))
        self.inventory.compare({}, self.taken_from_base())
        if self.inventory.findings:
            return
        self._check_space()
        top(self.inventory.top)
        self._make_folders(descriptor, items)
        files = sorted((item for item in items if not item.is_folder), key=lambda item: -item.size)
        self._write_all(descriptor, files)

    def _write_all(self, descriptor: int, files: List[Item]) -> None:
        """Every file, by threads that nobody has to wait for: a Ctrl-C can come while a lock is held that they need."""
        waiting: Deque[Item] = deque(files)
        failures: List[Exception] = []

        def work() -> None:
            try:
                while waiting and not self._stop.is_set():
                    item = waiting.popleft()
                    self.digests[item.path] = self._one(descriptor, item)
            except IndexError:  # another thread took the last one
                return
            except Exception as error:  # noqa: BLE001  raised again by whoever waits
                failures.append(error)
                self._stop.set()

        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self._jobs, len(files)))]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(1)
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join(10)
        if failures:
            raise failures[0]

    def _one(self, descriptor: int, item: Item) -> str:
        try:
            return write(descriptor, item, content(self._source, item, self._count))
        except ValueError as error:
            self.inventory.findings.append(f"{item.path}: {error}")
            return self.inventory.expected(item.path) or ""

    def _count(self, amount: int) -> None:
        if self._stop.is_set():
            raise InterruptedError("interrupted")
        self._advance(amount)

    def stream(self, descriptor: int, plain: Iterator[bytes], top: Callable[[str], None]) -> None:
        """Every file of a tar, one after another, up to the first that must not be written."""
        reader = Stream(plain)
        place = "the beginning"
        try:
            while True:
                item = reader.header()
                if item is None:
                    return
                place = shown(item.path)
                first = not self.inventory.top
                admitted = self.inventory.admit(item)
                if admitted is None:
                    return
                self._check_space()
                if first:
                    top(self.inventory.top)
                if admitted.is_folder:
                    self._make_folders(descriptor, [admitted])
                    continue
                pieces = reader.content(admitted.size, self._advance)
                self.digests[admitted.path] = write(descriptor, admitted, pieces)
        except (ValueError, UnicodeDecodeError) as error:
            self.inventory.findings.append(f"after {place}: {error}; what lies behind was not read")

    def _make_folders(self, descriptor: int, items: Sequence[Item]) -> None:
        for item in items:
            if item.is_folder and item.path:
                os.mkdir(item.path, 0o755, dir_fd=descriptor)
                os.chmod(item.path, 0o755, dir_fd=descriptor)

    def _check_space(self) -> None:
        if self.inventory.size > self._space:
            text = f"does not fit on the disk: {self.inventory.size} bytes, {self._space} are free"
            raise OSError(errno.ENOSPC, f"{text}; free some, or name another FOLDER", str(self._folder.resolve()))

    def taken_from_base(self) -> List[str]:
        """The paths of a delta that come from its base."""
        needs = self.inventory.files.get(NEEDS)
        if needs is None or needs.size > LIST_AT_MOST:
            return []
        return paths_in(self._text(needs))

    def _text(self, item: Item) -> bytes:
        try:
            return b"".join(block for blocks in content(self._source, item, lambda amount: None) for block in blocks)
        except ValueError as error:
            self.inventory.findings.append(f"{item.path}: {error}")
            return b""


def unpack(
    source: Source,
    folder: Path,
    jobs: Optional[int] = None,
    plain: Optional[Iterator[bytes]] = None,
    check: Callable[[Path], List[str]] = lambda kit: [],
    advance: Advance = lambda amount: None,
) -> Path:
    """Unpacks the bundle in ``source`` into a new folder in ``folder``, and returns that: the kit.

    ``plain``: the tar within, for a bundle that is not in its own container. ``check``: looks at the finished kit before it
    gets its name, and returns what it finds. Raises Refused, and OSError (FileExistsError: the kit is there already).
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(WORK + "*"):
        remove_left_behind(old)
    work = Path(tempfile.mkdtemp(prefix=WORK, dir=str(folder)))
    work_lock = os.open(str(work), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock(work_lock)
        kit = work / "kit"
        kit.mkdir(0o755)
        kit.chmod(0o755)
        run = Unpacking(source, folder, jobs, advance)

        def top(name: str) -> None:
            if os.path.lexists(str(folder / name)):
                raise FileExistsError(17, "is there already", str(folder / name))

        descriptor = os.open(str(kit), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if plain is None:
                run.members(descriptor, top)
                from_base = run.taken_from_base() if not run.inventory.findings else []
            else:
                run.stream(descriptor, plain, top)
                from_base = _lists(kit, run.inventory) if not run.inventory.findings else []
        finally:
            os.close(descriptor)
        if not run.inventory.findings:
            run.inventory.compare(run.digests, from_base)
        findings = run.inventory.findings or _documents(kit, run.inventory.top) or check(kit)
        if findings:
            raise Refused(sorted(set(findings)))
        target = folder / run.inventory.top
        top(run.inventory.top)
        sync_disk(work_lock)  # a name that outlives a power cut must not stand for files that do not
        try:
            kit.rename(target)
        except OSError:
            top(run.inventory.top)  # another run was done meanwhile
            raise
        sync_disk(work_lock)
        return target
    finally:
        shutil.rmtree(str(work), ignore_errors=True)
        os.close(work_lock)


def lock(descriptor: int) -> bool:
    """Whether the folder is this run's now; where there are no locks, it is."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno != errno.EWOULDBLOCK
    return True


def remove_left_behind(work: Path) -> None:
    """Takes away what a run left that was killed; not what somebody works in, or is about to lock."""
    try:
        if time.time() - work.lstat().st_mtime < LEFT_BEHIND:
            return
        descriptor = os.open(str(work), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if lock(descriptor):
            shutil.rmtree(str(work), ignore_errors=True)
    finally:
        os.close(descriptor)


def sync_disk(descriptor: int) -> None:
    """Everything that was written to the file system of an open folder is on the disk when this returns. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "syncfs"):
        os.sync()
    elif library.syncfs(descriptor):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _documents(kit: Path, top: str) -> List[str]:
    """Whether both documents are in their one form, and the folder has the name that bundle.json says."""
    name = ""
    for document in (LOCK, BUNDLE):
        try:
            text = (kit / document).read_bytes() if (kit / document).stat().st_size <= LIST_AT_MOST else b""
            if sum(text.count(mark) for mark in (b",", b"[", b"{")) > VALUES_AT_MOST:
                raise ValueError
            contents = json.loads(text)
            if (json.dumps(contents, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode() != text:
                return [f"{document}: is not in the one form that it is written in"]
            name = f"{contents['name']}-{contents['version']}" if document == BUNDLE else ""
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return [f"{document}: cannot be read"]
    return [] if name == top else [f"{shown(top)}/: is the folder's name, {BUNDLE} says {shown(name)}"]


def _lists(kit: Path, inventory: Inventory) -> List[str]:
    """Of a tar that was read in one pass: takes SHA256SUMS from what was written, and gives what a delta's base has."""
    sums, needs = inventory.files.get(SUMS), inventory.files.get(NEEDS)
    if sums is None or sums.size > LIST_AT_MOST or (needs is not None and needs.size > LIST_AT_MOST):
        inventory.findings.append(f"{SUMS}: is missing, or too large")
        return []
    inventory.read_sums((kit / SUMS).read_bytes())
    return paths_in((kit / NEEDS).read_bytes()) if needs else []


def paths_in(needs: bytes) -> List[str]:
    """The paths that delta/needs names."""
    return [line.split("\t")[2] for line in needs.decode("utf-8", "replace").split("\n") if line.count("\t") == 2]


def files_of(path: Path) -> List[Path]:
    """The bundle's file, or all its parts, by its .parts.json or any of them. Raises OSError, ValueError and Refused."""
    match = re.fullmatch(r"(.+)\.[0-9]{3,4}", path.name)
    listed = path
    if match:
        listed = path.with_name(_list_name(match.group(1)))
    if listed.name.endswith(PARTS) and (listed == path or listed.exists()):
        whole, names = _listed(listed)
        if listed.name != _list_name(whole):
            raise Refused([f"{shown(listed.name)}: is the list of {shown(whole)}: it was renamed"])
    elif match:
        whole = match.group(1)
        pattern = re.compile(re.escape(whole) + r"\.[0-9]{3,4}")
        names = sorted(file.name for file in path.parent.iterdir() if pattern.fullmatch(file.name))
        if not names:
            raise FileNotFoundError(2, "no such file", str(path))
    else:
        return [path]
    if names != _numbered(whole, names):
        raise Refused([f"{shown(whole)}: its parts are not numbered from 1 on without a gap"])
    extra = sorted({file.name for file in path.parent.iterdir() if file.name.startswith(whole + ".")} - set(names))
    if extra:
        raise Refused([f"{shown(name)}: is extra: it is no part of the bundle, but 'cat' would take it" for name in extra])
    return [path.with_name(name) for name in names]


def _list_name(whole: str) -> str:
    return re.sub(r"\.tar\.[a-z0-9]+\Z", "", whole) + PARTS


def _numbered(whole: str, names: Sequence[str]) -> List[str]:
    digits = len(names[0]) - len(whole) - 1
    return [f"{whole}.{number:0{max(digits, 1)}}" for number in range(1, len(names) + 1)]


def _listed(path: Path) -> Tuple[str, List[str]]:
    """The name of the whole and those of its parts. Raises OSError and ValueError."""
    source = Files([path])
    try:
        text = source.pread(PARTS_AT_MOST + 1, 0)
    finally:
        source.close()
    try:
        data: Any = json.loads(text) if len(text) <= PARTS_AT_MOST else None
        whole, names = data["name"], [part["name"] for part in data["parts"]]
        good = bool(names) and all(isinstance(name, str) and safe(name) and "/" not in name for name in [whole, *names])
    except (ValueError, KeyError, TypeError, RecursionError):
        good = False
    if not good:
        raise ValueError(f"{path} is not a list of parts")
    return whole, names


def utf8_names() -> None:
    """Starts anew in Python's UTF-8 mode where this locale would write other names; what cannot be shown is escaped."""
    if sys.getfilesystemencoding().lower() != "utf-8":
        arguments = Path("/proc/self/cmdline").read_bytes().split(b"\0")[1:-1]
        if sys.argv[0] == "-":  # this text came through a pipe that is read by now
            sys.exit("error: names of files would not be written as UTF-8: python3 -X utf8 - ...")
        os.execv(sys.executable, [os.fsencode(sys.executable), b"-X", b"utf8", *arguments])
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            output.reconfigure(errors="backslashreplace")


def main() -> int:
    """The command line; returns an exit code."""
    utf8_names()
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)
    codes = "Exit codes: 0 whole; 2 usage; 9 disk; 20 damaged; 21 not a bundle; 130 interrupted."
    parser = argparse.ArgumentParser(description=f"{MARK} and proves every file on the way, many at once.", epilog=codes)
    parser.add_argument("bundle", type=Path, help="NAME-VERSION.tar.gz, its .parts.json, or one of its parts")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), help="where the kit's folder is made [default: here]")
    parser.add_argument("--jobs", "-j", type=int, default=None, help="threads [default: all cores]")
    options = parser.parse_args()
    try:
        source = Files(files_of(options.bundle))
        start = source.pread(4, 0)
        if start[:2] != b"\x1f\x8b":
            raise ValueError(f"{options.bundle} is not a gzip file (of a .tar.zst: tar --zstd -xf, then sha256sum -c {SUMS})")
        plain = None if start[:3] == HEAD[:3] and start[3] & HEAD[3] else gunzip(source)
        if plain is not None and not begins_as_kit(source):
            raise ValueError(f"{options.bundle} was not made by offline-kit")
        kit = unpack(source, options.folder, options.jobs, plain)
    except Refused as error:
        print("\n".join(error.findings))
        print(f"error: {options.bundle}: damaged, {len(error.findings)} finding(s); nothing was left", file=sys.stderr)
        return 20
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"error: {told}", file=sys.stderr)
        return 9 if isinstance(error, OSError) and not isinstance(error, FileNotFoundError) else 21
    except KeyboardInterrupt:
        print("error: interrupted; nothing was left", file=sys.stderr)
        return 130
    print(f"{kit}: every file is as {SUMS} says")
    if (kit / NEEDS).exists():
        print("This is a delta: ./install.sh --base EARLIER_KIT completes it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
