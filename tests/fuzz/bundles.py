"""Bundles changed at random, and every reader that there is: ours, unpack.py, GNU tar, bsdtar and BusyBox.

Rules: what ``verify`` calls whole, all readers take, and make one tree of; what ``unpack.py`` alone takes, the others make the
same tree of; ``unpack`` takes what ``verify`` calls whole and nothing else; no reader of ours ends in anything but a finding or
an error of its own.

One file, for it is one loop: each way to change a bundle stands beside the readers that are asked about it, in one process.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import zstandard

from offline_kit.bundle import unpack
from offline_kit.bundle.extract import extract
from offline_kit.bundle.format import member, paths
from offline_kit.bundle.read.inspect import inspect, read_head
from offline_kit.bundle.verify.verify import verify
from offline_kit.bundle.write.pack import DEFAULT_TIME
from offline_kit.common.errors import KitError
from offline_kit.common.progress import Silent
from offline_kit.spec.manifest import canonical
from tests.fuzz.mutations import change_bytes, change_text, change_value
from tests.fuzz.worker import Subject
from tests.support.bundle_sample import Files, files_of, forge, make_sample, raw_member, seal

TOP = "kit-v1.0.0"
Member = tuple[bytes, bytes]  # tar header and content
Tree = dict[str, tuple[object, ...]]
NAMES = (
    *(
        "../evil",
        "/tmp/evil",
        f"{TOP}/../../evil",
        f"{TOP}//x",
        f"{TOP}/./x",
        f"./{TOP}/x",
        "other/x",
        "-rf",
        f"{TOP}/-x",
        f"{TOP}/~x",
    ),
    *(
        f"{TOP}/.env",
        f"{TOP}/.state/installed",
        f"{TOP}/a\\b",
        f"{TOP}/a\nb",
        f"{TOP}/\u202ex",
        f"{TOP}/\u200bx",
        f"{TOP}/\x85",
        f"{TOP}/é",
    ),
    *(
        f"{TOP}/e\u0301",
        f"{TOP}/README.MD",
        f"{TOP}/SHA256SUMS/x",
        f"{TOP}/{'n' * 255}",
        f"{TOP}/{'n' * 256}",
        f"{TOP}/{'é' * 120}",
    ),
    *(
        f"{TOP}/" + "d/" * 61 + "f",
        f"{TOP}/" + "d/" * 300 + "f",
        f"{TOP}/{'m' * 99}/{'n' * 100}",
        f"{TOP}/" + "/".join(["p" * 200] * 19),
    ),
)
KINDS = (b"0", b"\0", b"1", b"2", b"3", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"V", b"D", b"M", b"A")
Z = zstandard.ZstdCompressor


class Bundles:
    """A valid bundle and the ways to change it; what is made is one file's bytes."""

    def __init__(self, folder: Path) -> None:
        sample = make_sample(folder / "blobs")
        self.data = sample.pack(folder / f"{TOP}.tar.gz").read_bytes()
        self.files: Files = files_of(sample)
        self.tar = gzip.decompress(self.data)
        self.members = list(_members(self.tar))
        self._scratch = folder / "scratch"
        self.ways: list[Callable[[Random], bytes]] = [
            *(
                self.flips,
                self.junk,
                self.order,
                self.header,
                self.name,
                self.kind,
                self.entry,
                self.content,
                self.length,
                self.end,
            ),
            *(self.document, self.files_changed, self.gzip, self.gzip, self.zstd, self.zstd),
        ]

    def pack(self, members: list[Member]) -> bytes:
        return b"".join(raw_member(tar, content) for tar, content in members) + member.END

    def plain(self, random: Random) -> bytes:
        """The tar, or a changed one."""
        if random.random() < 0.4:
            return self.tar
        way = random.choice((self.order, self.header, self.name, self.kind, self.entry, self.content, self.document))
        with contextlib.suppress(OSError, EOFError, zlib.error):
            return gzip.decompress(way(random))
        return change_bytes(random, self.tar)

    def flips(self, random: Random) -> bytes:
        return change_bytes(random, self.data)

    def junk(self, random: Random) -> bytes:
        parts = [b"\0", bytes(512), b"x", self.data, member.END, raw_member(*random.choice(self.members))]
        junk = random.choice([*parts, gzip.compress(b""), gzip.compress(b"x"), gzip.compress(self.tar), Z().compress(self.tar)])
        return random.choice((self.data + junk, junk + self.data, self.data[: random.randrange(len(self.data))] + junk))

    def order(self, random: Random) -> bytes:
        members = list(self.members)
        one, other = random.randrange(len(members)), random.randrange(len(members))
        way = random.randrange(3)
        if way == 0:
            members[one], members[other] = members[other], members[one]
        elif way == 1:
            members.insert(other, members[one])
        else:
            del members[one]
        return self.pack(members)

    def header(self, random: Random) -> bytes:
        """Some field of a tar header, its checksum made right again, or not."""
        members = list(self.members)
        index = random.randrange(len(members))
        tar, content = members[index]
        changed = bytearray(change_bytes(random, tar[-512:])[:512].ljust(512, b"\0"))
        fields = ((100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (156, 1), (157, 100), (257, 8), (265, 32), (345, 155))
        start, size = random.choice(fields)
        if random.random() < 0.5:
            put = random.choice((b"\0" * size, b" " * size, b"7" * size, b"\xff" * size, b"\x80" + b"\1" * (size - 1)))
            changed = bytearray(tar[-512:])
            changed[start : start + size] = put[:size]
        members[index] = (tar[:-512] + (_summed(changed) if random.random() < 0.9 else bytes(changed)), content)
        return self.pack(members)

    def name(self, random: Random) -> bytes:
        members = list(self.members)
        name, index = random.choice(NAMES), random.randrange(len(members))
        content = random.choice((b"", b"x", members[index][1]))
        folder = random.random() < 0.2
        header = member.Header(name + "/" * folder, 0 if folder else len(content), 0o755 if folder else 0o644, DEFAULT_TIME)
        members.insert(random.randrange(len(members) + 1), (member.render(header), b"" if folder else content))
        return self.pack(members)

    def kind(self, random: Random) -> bytes:
        members = list(self.members)
        index = random.randrange(len(members))
        tar, content = members[index]
        record = bytearray(tar[-512:])
        record[156:157] = random.choice(KINDS)
        record[157:257] = random.choice((b"/etc/passwd", b"../../x", b"", f"{TOP}/install.sh".encode())).ljust(100, b"\0")
        members[index] = (tar[:-512] + _summed(record), content)
        return self.pack(members)

    def entry(self, random: Random) -> bytes:
        """An entry of pax or GNU in between, which only some readers know."""
        members = list(self.members)
        index = random.randrange(len(members))
        texts = (
            f"path={TOP}/evil",
            "size=0",
            "linkpath=/etc/passwd",
            "GNU.sparse.map=0,1",
            f"path={TOP}/SHA256SUMS",
            "mtime=1e9",
        )
        line = random.choice(texts)
        number = next(length for length in range(4, 99) if len(f"{length} {line}\n") == length)
        body = random.choice((f"{number} {line}\n".encode(), f"{TOP}/evil\0".encode(), b"n" * 101 + b"\0", b"", b"x" * 600))
        record = bytearray(member.render(member.Header(random.choice(("././@LongLink", "x")), len(body), 0o644, 0)))
        record[156:157] = random.choice((b"x", b"g", b"L", b"K", b"L", b"S"))
        inner = _summed(record) + member.padded(body)
        tar, content = members[index]
        members[index : index + 1] = random.choice(([(inner + tar, content)], [(_summed(record), body), (tar, content)]))
        return self.pack(members)

    def content(self, random: Random) -> bytes:
        members = list(self.members)
        index = random.randrange(len(members))
        tar, content = members[index]
        members[index] = (tar, change_bytes(random, content))
        return self.pack(members)

    def length(self, random: Random) -> bytes:
        """A member that lies about its length."""
        parts = [raw_member(*item) for item in self.members]
        index = random.randrange(len(parts))
        true = len(parts[index])
        told = random.choice((0, 1, true - 1, true + 1, 1 << 63, 2**64 - 1, true + len(parts[(index + 1) % len(parts)])))
        parts[index] = parts[index][:16] + struct.pack("<Q", told) + parts[index][24:]
        return b"".join(parts) + member.END

    def end(self, random: Random) -> bytes:
        parts = b"".join(raw_member(*item) for item in self.members)
        zeros = [
            raw_member(bytes(512), b""),
            raw_member(bytes(512), bytes(512)),
            raw_member(bytes(512), bytes(9728)),
            b"",
            member.END * 2,
        ]
        return parts + random.choice(zeros)

    def document(self, random: Random) -> bytes:
        """A change that agrees with itself: SHA256SUMS is made anew."""
        files = dict(self.files)
        path = random.choice(
            (paths.LOCK, paths.BUNDLE, "config/models.json", "deploy/kit.env", "images/index.json", paths.SUMS)
        )
        content, mode = files[path]
        if path.endswith(".json") and random.random() < 0.7:
            form = random.choice((canonical, json.dumps))
            changed = form(change_value(random, json.loads(content))).encode("utf-8", "replace")
        else:
            changed = change_text(random, content.decode()).encode("utf-8", "replace")
        return self._forge({**files, path: (changed, mode)}, sealed=path != paths.SUMS)

    def files_changed(self, random: Random) -> bytes:
        files = dict(self.files)
        path = random.choice(sorted(files))
        way = random.randrange(4)
        if way == 0:
            del files[path]
        elif way == 1:
            files[f"{random.choice(('', 'scripts/', 'models/chat/', 'files/', 'images/'))}new"] = (b"x", 0o644)
        elif way == 2:
            files[path] = (files[path][0], 0o755 if files[path][1] == 0o644 else 0o644)
        else:
            files[path] = (change_bytes(random, files[path][0]), files[path][1])
        return self._forge(files, sealed=random.random() < 0.8)

    def _forge(self, files: Files, *, sealed: bool) -> bytes:
        return forge(self._scratch, seal(files) if sealed else files).read_bytes()

    def gzip(self, random: Random) -> bytes:
        """Another gzip, of any flags, members, ends and faults."""
        tar = self.plain(random)
        cuts = sorted(random.randrange(len(tar)) for _ in range(random.choice((0, 0, 0, 1, 3))))
        pieces = [tar[start:end] for start, end in zip([0, *cuts], [*cuts, len(tar)], strict=True)]
        data = b"".join(_gzip_member(random, piece) for piece in pieces)
        behind = random.choice(
            (b"", b"", b"", b"\0", bytes(1000), b"junk", b"\x1f\x8b", gzip.compress(b""), gzip.compress(bytes(512)))
        )
        data = data[: -random.randrange(1, 9)] if random.random() < 0.1 else data + behind
        return change_bytes(random, data) if random.random() < 0.2 else data

    def zstd(self, random: Random) -> bytes:
        tar = self.plain(random)
        cut = random.choice((0, 0, random.randrange(len(tar))))
        frames = [piece for piece in (tar[:cut], tar[cut:]) if piece]
        data = b"".join(_zstd_frame(random, frame) for frame in frames)
        skipped = b"\x50\x2a\x4d\x18" + struct.pack("<I", 3) + b"abc"
        data = random.choice((data, data, data, data + skipped, skipped + data, data + b"\0", data[: -random.randrange(1, 9)]))
        return change_bytes(random, data) if random.random() < 0.2 else data


def _gzip_member(random: Random, data: bytes) -> bytes:
    flags = random.choice((0, 0, 0, 1, 2, 4, 8, 16, 31, 0x20, 0x40, 0x80, random.randrange(256)))
    head = b"\x1f\x8b\x08" + bytes([flags]) + random.choice((bytes(4), b"1234")) + random.choice((b"\0\xff", b"\2\3"))
    if flags & 4:
        head += random.choice((b"\0\0", b"\6\0BC\2\0\1\2", b"\x0c\0OK\x08\0" + bytes(8), b"\xff\xff"))
    head += (b"name\0" if flags & 8 else b"") + (b"comment\0" if flags & 16 else b"")
    if flags & 2:
        head += struct.pack("<H", (zlib.crc32(head) ^ random.choice((0, 0, 1))) & 0xFFFF)
    packer = zlib.compressobj(random.randrange(10), zlib.DEFLATED, -15)
    return head + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


def _zstd_frame(random: Random, data: bytes) -> bytes:
    sized, summed, level = random.random() < 0.5, random.random() < 0.5, random.choice((1, 3, 19))
    packer = Z(level=level, write_content_size=sized, write_checksum=summed)
    if sized:
        return packer.compress(data)
    stream = packer.compressobj()
    return stream.compress(data) + stream.flush()


def _summed(record: bytearray | bytes) -> bytes:
    """The tar header with its checksum."""
    changed = bytearray(record[:512])
    changed[148:156] = b" " * 8
    changed[148:156] = b"%06o\0 " % sum(changed)
    return bytes(changed)


def _members(tar: bytes) -> Iterator[Member]:
    at = 0
    while tar[at : at + 512] != bytes(512):
        head = member.head_length(tar[at : at + 512])
        header = member.parse(tar[at : at + head])
        yield tar[at : at + head], tar[at + head : at + head + header.size]
        at += head + member.padded_size(header.size)


def tree(folder: Path) -> Tree:
    """Everything below a folder: what it is, what it holds, whether it can be run."""
    found: Tree = {}
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder)).decode("utf-8", "backslashreplace")
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = ("folder",) if path.is_dir() else ("file", path.read_bytes(), bool(path.stat().st_mode & 0o111))
    return found


class Readers:
    """All of them, each with a folder that is empty before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def compare(self, data: bytes) -> str:
        """What became of a bundle, in a word. Raises AssertionError where two readers differ."""
        zstd = data[:4] == b"\x28\xb5\x2f\xfd"
        bundle = self.folder / f"{TOP}.tar.{'zst' if zstd else 'gz'}"
        bundle.write_bytes(data)
        whole = self._verify(bundle)
        made = self._extract(bundle)
        assert (made is not None) == whole, f"verify says whole: {whole}, unpack the opposite"
        alone = None if zstd else self._alone(bundle)
        assert zstd or not whole or alone == made, "unpack.py makes another tree than verify proves"
        for read in (inspect, read_head):
            with contextlib.suppress(KitError):
                read(bundle)
        if alone is None and made is None:
            return "refused"
        for tool in (["tar", "--zstd"], ["bsdtar"]) if zstd else (["tar", "-z"], ["bsdtar"], ["busybox", "tar", "-z"]):
            code, other = self._tool(tool, bundle)
            assert code == 0 and other == (alone or made), f"{tool} gives another tree ({code}), verify says whole: {whole}"
        return "whole" if whole else "taken by unpack.py alone"

    def _verify(self, bundle: Path) -> bool:
        try:
            return verify(bundle, jobs=1, progress=Silent()).whole
        except KitError as error:
            assert error.exit_code in (20, 21), error
            return False

    def _extract(self, bundle: Path) -> Tree | None:
        with self._empty() as folder:
            try:
                extract(bundle, folder, jobs=1, progress=Silent())
            except KitError as error:
                assert error.exit_code in (9, 20, 21), error
                assert tree(folder) == {}, "something was left"
                return None
            return tree(folder)

    def _alone(self, bundle: Path) -> Tree | None:
        source = unpack.Files([bundle])
        with contextlib.closing(source), self._empty() as folder:
            start = source.pread(4, 0)
            if start[:2] != b"\x1f\x8b":
                return None
            plain = (
                None if start[:3] == unpack.HEAD[:3] and len(start) > 3 and start[3] & unpack.HEAD[3] else unpack.gunzip(source)
            )
            try:
                unpack.unpack(source, folder, 1, plain)
            except unpack.Refused as refused:
                assert refused.findings and tree(folder) == {}, "something was left"
                return None
            return tree(folder)

    def _tool(self, tool: list[str], bundle: Path) -> tuple[int, Tree]:
        with self._empty() as folder:
            done = subprocess.run([*tool, "-xf", str(bundle)], cwd=folder, capture_output=True, check=False)
            return done.returncode, tree(folder)

    @contextlib.contextmanager
    def _empty(self) -> Iterator[Path]:
        folder = self.folder / "empty"
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
        outside = {path.name for path in self.folder.iterdir()} - {f"{TOP}.tar.gz", f"{TOP}.tar.zst"}
        assert not outside, f"written outside: {outside}"


@contextlib.contextmanager
def opened() -> Iterator[Subject]:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        (Path(folder) / "made").mkdir()
        (Path(folder) / "read").mkdir()
        bundles, readers = Bundles(Path(folder) / "made"), Readers(Path(folder) / "read")
        assert readers.compare(bundles.data) == "whole"

        def subject(random: Random) -> str:
            way = random.choice(bundles.ways)
            return f"{way.__name__} {readers.compare(way(random))}"

        yield subject
