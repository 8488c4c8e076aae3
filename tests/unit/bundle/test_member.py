"""The bytes around a file's content: one form, read by everybody, arithmetic that fits."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path

import pytest

from offline_kit.bundle.format import member
from offline_kit.bundle.format.member import Header
from tests.support.bundle_sample import raw_member

LONG = [
    "a" * 100,
    "a" * 99 + "/" + "b" * 100,
    "a" * 155 + "/" + "b" * 100,
    "a" * 156 + "/b",
    "a/" * 200 + "b",
    "ü" * 80,
    "f" * 101,
]


@pytest.mark.parametrize("path", ["kit/x", *LONG])
@pytest.mark.parametrize("folder", [False, True])
def test_header_is_what_tarfile_reads_and_parse_gives_back(path: str, folder: bool) -> None:
    header = Header(path + "/" if folder else path, 0 if folder else 5, 0o755, 315532800)
    raw = member.render(header)
    assert len(raw) % 512 == 0
    assert member.head_length(raw[:512]) == len(raw)
    assert member.parse(raw) == header
    with tarfile.open(fileobj=io.BytesIO(raw + member.padded(b"12345" * (not folder)) + member.END_RECORDS)) as archive:
        (info,) = archive.getmembers()
    assert (info.name, info.size, info.mode, info.mtime, info.isdir()) == (path, header.size, 0o755, 315532800, folder)
    assert (info.uid, info.gid, info.uname, info.gname) == (0, 0, "", "")


@pytest.mark.parametrize("size", [8**11 - 1, 8**11, 10 * 2**30, 2**62])
def test_large_sizes(size: int) -> None:
    raw = member.render(Header("kit/x", size, 0o644, 1))
    assert tarfile.TarInfo.frombuf(raw, "utf-8", "strict").size == size
    assert member.parse(raw).size == size


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65023, 65024, 65535, 65536, 131070, 131071, 300000])
@pytest.mark.parametrize("path", ["kit/x", "a/" * 200 + "b"])
def test_length_is_known_before(size: int, path: str) -> None:
    tar = member.render(Header(path, size, 0o644, 1))
    made = raw_member(tar, bytes(size))
    assert len(made) == member.member_length(len(tar), size)
    assert made[:24] == member.gzip_head(len(made))
    assert gzip.decompress(made) == tar + member.padded(bytes(size))


def test_every_flip_in_a_header_is_found() -> None:
    for path in ("kit/some/file", "a" * 99 + "/" + "b" * 100, "a/" * 200 + "b"):
        raw = member.render(Header(path, 1234, 0o644, 315532800))
        # A long name past its first 100 bytes is in no tar checksum: the CRC of the gzip member guards it.
        for position in {*range(len(raw))} - {*range(512 + 100, 512 + len(path))}:
            for bit in range(8):
                other = bytearray(raw)
                other[position] ^= 1 << bit
                with pytest.raises(ValueError, match=r"tar header|is a|is neither|has mode"):
                    member.head_length(bytes(other[:512]))
                    member.parse(bytes(other))


@pytest.mark.parametrize(
    ("kind", "reported"),
    [
        (tarfile.SYMTYPE, "symbolic link"),
        (tarfile.LNKTYPE, "hard link"),
        (tarfile.CHRTYPE, "device"),
        (tarfile.FIFOTYPE, "pipe"),
    ],
)
def test_what_is_neither_file_nor_folder(kind: bytes, reported: str) -> None:
    info = tarfile.TarInfo("kit/x")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ValueError, match=reported):
        member.parse(info.tobuf(tarfile.USTAR_FORMAT))


def test_foreign_headers_are_told_apart(tmp_path: Path) -> None:
    info = tarfile.TarInfo("kit/x")
    info.uname = "somebody"
    with pytest.raises(ValueError, match="one form"):
        member.parse(info.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(ValueError, match="644 and 755"):
        member.parse(member.render(Header("kit/x", 0, 0o4755, 1)))
    with pytest.raises(ValueError, match="cannot be written"):
        member.render(Header("x" * 5000, 0, 0o644, 1))
