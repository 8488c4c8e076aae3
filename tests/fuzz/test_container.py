"""2,000 mutations of a small bundle, of fixed seeds: none is accepted, none crashes, none writes outside the target.

Accepted: ``verify`` finds nothing; or ``unpack`` makes a kit that is not the original's, file by file. The named fixtures for
each class are in ``test_verify`` and ``test_unpack``.
"""

from __future__ import annotations

import gzip
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import pytest

from offline_kit.bundle import unpack
from offline_kit.bundle.format import member
from offline_kit.bundle.verify.verify import verify
from offline_kit.common.errors import KitError
from offline_kit.common.progress import Silent
from tests.support.bundle_sample import make_sample, raw_member

TOP = "kit-v1.0.0"
Item = TypeVar("Item")


class Draw:
    """The choices of one mutation: the same for the same seed. The ends of a range come more often than what lies between."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def integers(self, least: int, most: int) -> int:
        return self._random.choice([least, most]) if self._random.random() < 0.1 else self._random.randint(least, most)

    def booleans(self) -> bool:
        return self._random.random() < 0.5

    def binary(self, *, min_size: int = 0, max_size: int) -> bytes:
        return self._random.randbytes(self.integers(min_size, max_size))

    def sampled_from(self, items: Sequence[Item]) -> Item:
        return self._random.choice(items)


@dataclass(frozen=True)
class Original:
    """The bundle, its members, and what each of these holds: header and content."""

    data: bytes
    members: tuple[bytes, ...]
    parts: tuple[tuple[bytes, bytes], ...]
    files: dict[str, tuple[bytes, int]]
    box: Path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    folder = tmp_path_factory.mktemp("mutations")
    box = folder / "box"
    (box / "target").mkdir(parents=True)
    data = make_sample(folder / "blobs", weights=600).pack(folder / "kit.tar.gz").read_bytes()
    starts = [at for at in range(len(data)) if data.startswith(member.MAGIC, at)]
    members = tuple(data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True))
    kit = unpack.unpack(unpack.Files([folder / "kit.tar.gz"]), folder)
    return Original(data, members, tuple(map(inside, members[:-1])), snapshot(kit), box)


def inside(one: bytes) -> tuple[bytes, bytes]:
    """Header and content of a member."""
    tar = gzip.decompress(one)
    head = member.head_length(tar[: member.RECORD])
    return tar[:head], tar[head : head + member.parse(tar[:head]).size]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*")}
    return {name: (b"" if path.is_dir() else path.read_bytes(), path.lstat().st_mode) for name, path in files.items()}


def glue(parts: list[bytes]) -> bytes:
    return b"".join(parts)


# ---- each mutation: of the bytes, of the order of the members, of one header, of one content, of the container


def flips(draw: Draw, original: Original) -> bytes:
    data = bytearray(original.data)
    for _ in range(draw.integers(1, 3)):
        data[draw.integers(0, len(data) - 1)] ^= 1 << draw.integers(0, 7)
    return bytes(data)


def cut(draw: Draw, original: Original) -> bytes:
    start = draw.integers(0, len(original.data))
    length = draw.integers(0, 3000)
    behind: bytes = draw.sampled_from([original.data[start + length :], b"", draw.binary(max_size=40) + original.data[start:]])
    return original.data[:start] + behind


def order(draw: Draw, original: Original) -> bytes:
    """Members swapped, twice, or missing."""
    members = list(original.members)
    one, other = (draw.integers(0, len(members) - 1) for _ in range(2))
    how = draw.sampled_from(["swap", "repeat", "drop", "drop the end"])
    if how == "swap":
        members[one], members[other] = members[other], members[one]
    elif how == "repeat":
        members.insert(other, members[one])
    else:
        del members[one if how == "drop" else -1]
    return glue(members)


NAMES = (
    "../evil", f"{TOP}/../../evil", "{box}/evil", f"{TOP}/README.md", f"{TOP}/scripts", f"{TOP}/models/chat", "-rf",
    f"{TOP}/.env", f"{TOP}/.state/installed", f"{TOP}/delta/needs", f"{TOP}/delta/bundle.json", f"{TOP}/a\\b", "evil",
    "kit-v2/README.md", f"{TOP}/{'x' * 300}", f"{TOP}/" + "/".join("d" * 50 for _ in range(40)), f"{TOP}//README.md",
    f"{TOP}/evil", f"{TOP}/a\nb", f"./{TOP}/x",
)  # fmt: skip


def renamed(draw: Draw, original: Original) -> bytes:
    """A member in good form under another name, in place of itself or besides."""
    members = list(original.members)
    index = draw.integers(0, len(original.parts) - 1)
    tar, content = original.parts[index]
    header = member.parse(tar)
    name = draw.sampled_from(NAMES).format(box=original.box) + ("/" if header.is_folder else "")
    changed = raw_member(member.render(member.Header(name, header.size, header.mode, header.mtime)), content)
    at = draw.integers(0, len(members) - 1)
    members[index : index + 1] = [changed] if draw.booleans() else [original.members[index]]
    return glue([*members[:at], changed, *members[at:]]) if members == list(original.members) else glue(members)


def another_header(draw: Draw, original: Original) -> bytes:
    """Another type, mode, time, owner or declared size, with the right checksums."""
    members = list(original.members)
    index = draw.integers(0, len(original.parts) - 1)
    tar, content = original.parts[index]
    record = bytearray(tar[-member.RECORD :])
    field = draw.sampled_from(["type", "mode", "mtime", "uid", "size", "linkname", "magic", "prefix", "rest"])
    if field == "type":
        record[156:157] = draw.sampled_from(
            [b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"x", b"g", b"L", b"K", b"S", b"\0"]
        )
        record[157:257] = draw.sampled_from([bytes(100), b"/etc/passwd".ljust(100, b"\0"), b"../../evil".ljust(100, b"\0")])
    elif field == "size":
        size = draw.integers(*draw.sampled_from([(0, 2**20), (2**33, 2**88 - 1)]))
        record[124:136] = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    else:
        start, length = {"mode": (100, 8), "mtime": (136, 12), "uid": (108, 16), "linkname": (157, 100), "magic": (257, 8)}.get(
            field, (345, 155) if field == "prefix" else (500, 12)
        )
        text = draw.sampled_from([b"7777", b"0000644", b"0004755", b"17777777777", b"evil", b"/", b"\xff\xfe"])
        record[start : start + length] = text.ljust(length, b"\0")[:length]
    record[148:156] = b" " * 8
    record[148:156] = b"%06o\0 " % sum(record)
    members[index] = raw_member(tar[: -member.RECORD] + bytes(record), content)
    return glue(members)


def another_content(draw: Draw, original: Original) -> bytes:
    """Another file, in good form; often one of those that judge the others."""
    members = list(original.members)
    files = [index for index, (tar, _) in enumerate(original.parts) if not member.parse(tar).is_folder]
    index = draw.sampled_from(draw.sampled_from([files, files[:3]]))
    tar, content = original.parts[index]
    lines = content.splitlines(keepends=True) or [b""]
    at = draw.integers(0, len(lines) - 1)
    how = draw.sampled_from(["drop", "repeat", "swap", "insert", "replace", "append"])
    if how == "drop":
        del lines[at]
    elif how == "repeat":
        lines.insert(at, lines[at])
    elif how == "swap":
        lines[at], lines[0] = lines[0], lines[at]
    elif how == "insert":
        lines.insert(at, draw.sampled_from([b"0" * 64 + b"  ../../evil\n", b"0" * 64 + b"  evil\n", b"\n", b"\xff", b"{}"]))
    else:
        position = len(content) if how == "append" else draw.integers(0, max(len(content) - 1, 0))
        lines = [content[:position], draw.binary(min_size=1, max_size=3), content[position + (how == "replace") :]]
    changed = b"".join(lines)
    header = member.parse(tar)
    members[index] = raw_member(member.render(member.Header(header.path, len(changed), header.mode, header.mtime)), changed)
    return glue(members)


def container(draw: Draw, original: Original) -> bytes:
    """The bytes around the content: gzip header, extra field, frames, trailer; what is glued before and behind."""
    members = list(original.members)
    index = draw.integers(0, len(members) - 1)
    one = bytearray(members[index])
    where = draw.sampled_from(["extra", "length", "frame", "trailer", "reblock", "front", "behind", "twice", "deflated"])
    if where == "extra":
        one[draw.integers(3, 15)] = draw.integers(0, 255)
    elif where == "length":
        one[16:24] = struct.pack("<Q", draw.integers(*draw.sampled_from([(0, 2 * len(one)), (2**40, 2**64 - 1)])))
    elif where == "frame":
        one[24 + draw.integers(0, 4)] = draw.integers(0, 255)
    elif where == "trailer":
        one[-draw.integers(1, 8)] = draw.integers(0, 255)
    elif where == "reblock":  # the same tar in other stored blocks: right for gunzip, but not the one form
        tar = gzip.decompress(bytes(one))
        place = draw.integers(1, len(tar) - 1)
        body = member.frame(place, False) + tar[:place] + member.frame(len(tar) - place, True) + tar[place:]
        one = bytearray(member.gzip_head(24 + len(body) + 8) + body + bytes(one[-8:]))
    elif where == "deflated":  # one member compressed by somebody else, in the middle
        if index == 0:  # then the bundle is somebody else's gzip as a whole, which is allowed
            return original.data
        one = bytearray(gzip.compress(gzip.decompress(bytes(one)), 6, mtime=0))
    members[index] = bytes(one)
    data = glue(members)
    junk = draw.sampled_from(
        [gzip.compress(b"", mtime=0), b"\0", bytes(512), draw.binary(min_size=1, max_size=30), members[-1]]
    )
    glued: dict[str, bytes] = {"front": junk + data, "behind": data + junk, "twice": data + data}
    return glued.get(where, data)


def recompressed(draw: Draw, original: Original) -> bytes:
    """Somebody else's gzip around a tar that is not the original's, or damaged itself."""
    tar = gzip.decompress(original.data)
    other = gunzipped(draw.sampled_from([flips, cut, order, renamed, another_header, another_content])(draw, original))
    packed = bytearray(gzip.compress(tar if other is None else other, draw.integers(0, 9), mtime=0))
    if other in (None, tar):
        packed[draw.integers(10, len(packed) - 1)] ^= 1 << draw.integers(0, 7)
        if gunzipped(bytes(packed)) == tar:  # the bits that fill up the last byte of a deflate stream mean nothing
            return original.data
    return bytes(packed)


def gunzipped(data: bytes) -> bytes | None:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


KINDS: list[Callable[[Draw, Original], bytes]] = [
    flips,
    cut,
    order,
    renamed,
    another_header,
    another_content,
    container,
    recompressed,
]


def test_no_mutation_is_accepted(original: Original) -> None:
    for seed in range(2000):
        check(original, seed)


def check(original: Original, seed: int) -> None:
    """What one mutation becomes; a failure shows the ``seed``."""
    draw = Draw(seed)
    mutation = draw.sampled_from(KINDS)
    mutated = mutation(draw, original)
    if mutated == original.data:
        return
    bundle, target = original.box / "kit.tar.gz", original.box / "target"
    shutil.rmtree(target)
    target.mkdir()
    bundle.write_bytes(mutated)
    try:
        report = verify(bundle, jobs=1, progress=Silent())
        assert not report.whole, f"verify accepted it: {mutation.__name__}"
    except KitError as error:
        assert error.exit_code in (20, 21)
    source = unpack.Files([bundle])
    try:
        ours = mutated[:3] == unpack.HEAD[:3] and len(mutated) > 3 and mutated[3] & unpack.HEAD[3]
        kit = unpack.unpack(source, target, 1, None if ours else unpack.gunzip(source))
        assert snapshot(kit) == original.files, f"unpack made another kit: {mutation.__name__}"
        shutil.rmtree(kit)
    except unpack.Refused as refused:
        assert refused.findings
    finally:
        source.close()
    assert {path.name for path in original.box.iterdir()} == {"kit.tar.gz", "target"}, "written outside the target"
    assert list(target.iterdir()) == [], "left in the target"
