"""One member of a bundle: the bytes around the content of a file, and the arithmetic of where they lie.

Rules: pure; for a name, size, mode and time there is exactly one form, so that a reader proves a header by making it
again; lengths are known before any content is read. A member is one gzip member that holds one tar entry:

    gzip header, 24 bytes: no name, no time, one extra field "OK" with the length of the whole member
    stored block: the tar header (512 bytes; 1,024 + the name for names that ustar cannot hold)
    stored blocks of 65,535 bytes, the last one shorter: the content, filled up with zeros to a multiple of 512
    CRC-32 and length of what the blocks hold, 8 bytes
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from isal.isal_zlib import crc32

MAGIC = bytes.fromhex("1f8b0804 00000000 00ff 0c00") + b"OK\x08\x00"
LENGTH = struct.Struct("<Q")
FRAME = struct.Struct("<BHH")
TRAILER = struct.Struct("<II")
GZIP_HEAD = len(MAGIC) + LENGTH.size
BLOCK = 0xFFFF
RECORD = 512
LONGEST_NAME = 4096
LONGEST_HEAD = RECORD * 2 + LONGEST_NAME
FOLDER_MODE = 0o755
FILE_MODES = (0o644, 0o755)
_OCTAL_LIMIT = 8**11
_KINDS = {b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


@dataclass(frozen=True)
class Header:
    """What a tar header says; the path of a folder ends with a slash."""

    path: str
    size: int
    mode: int
    mtime: int

    @property
    def is_folder(self) -> bool:
        return self.path.endswith("/")


def render(header: Header) -> bytes:
    """The tar header, with a GNU long-name entry before it where ustar cannot hold the path. Raises ValueError."""
    name = header.path.encode()
    prefix, long = b"", b""
    if len(name) > LONGEST_NAME - 1 or not 0 <= header.mtime < _OCTAL_LIMIT:
        raise ValueError(f"cannot be written to a tar header: {header}")
    if len(name) > 100:
        # The first slash that leaves at most 100 bytes behind; a folder's own last slash does not count.
        cut = name.find(b"/", max(len(name) - 101, 0), len(name) - 1)
        if 0 < cut <= 155:
            prefix, name = name[:cut], name[cut + 1 :]
        else:
            # GNU's form and not pax: BusyBox passes over pax headers without a word and would cut the name.
            long = _record(b"././@LongLink", b"L", len(name) + 1, 0o644, 0, b"") + padded(name + b"\0")
            name = name[:100]
    return long + _record(name, b"5" if header.is_folder else b"0", header.size, header.mode, header.mtime, prefix)


def _record(name: bytes, kind: bytes, size: int, mode: int, mtime: int, prefix: bytes) -> bytes:
    # From 8 GiB on the size is binary with the top bit set, as GNU, BusyBox, BSD and Python read it.
    number = b"%011o\0" % size if size < _OCTAL_LIMIT else b"\x80" + size.to_bytes(11, "big")
    fields = [name.ljust(100, b"\0"), b"%07o\0" % mode, b"0000000\0" * 2, number, b"%011o\0" % mtime, b" " * 8, kind]
    fields += [bytes(100), b"ustar\x0000", bytes(80), prefix.ljust(155, b"\0"), bytes(12)]
    record = b"".join(fields)
    return record[:148] + b"%06o\0 " % sum(record) + record[156:]


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % RECORD)


def padded_size(size: int) -> int:
    return size + -size % RECORD


def head_length(record: bytes) -> int:
    """How many bytes the tar header has that starts with these 512. Raises ValueError."""
    if record[156:157] != b"L":
        return RECORD
    try:
        length = int(record[124:135], 8)
    except ValueError:
        length = 0
    if not 100 < length <= LONGEST_NAME:
        raise ValueError("its tar header declares a name of an impossible length")
    return RECORD * 2 + padded_size(length)


def parse(raw: bytes) -> Header:
    """The header whose one form is ``raw``. Raises ValueError that says what is wrong with it."""
    record = raw[-RECORD:]
    if (kind := record[156:157]) not in (b"0", b"5"):
        raise ValueError(f"is {_KINDS.get(kind, 'neither a file nor a folder')}")
    try:
        path = name_in(raw).decode()
        size = int.from_bytes(record[125:136], "big") if record[124] == 0x80 else int(record[124:135], 8)
        header = Header(path, size, int(record[100:107], 8), int(record[136:147], 8))
        same = render(header) == raw
    except ValueError as error:
        raise ValueError("its tar header is damaged") from error
    if not same or (header.is_folder and (header.size, header.mode) != (0, FOLDER_MODE)):
        raise ValueError("its tar header is not in the one form that a bundle has")
    if not header.is_folder and header.mode not in FILE_MODES:
        raise ValueError(f"has mode {header.mode:o}: only 644 and 755 are carried")
    return header


def name_in(raw: bytes) -> bytes:
    """The path that a tar header gives, right or wrong."""
    if len(raw) > RECORD:
        return raw[RECORD:-RECORD].split(b"\0", 1)[0]
    name, prefix = (part.split(b"\0", 1)[0] for part in (raw[:100], raw[345:500]))
    return prefix + b"/" + name if prefix else name


def gzip_head(length: int) -> bytes:
    """The gzip header of a member of ``length`` bytes."""
    return MAGIC + LENGTH.pack(length)


def frame(length: int, last: bool) -> bytes:
    """The five bytes before ``length`` stored bytes."""
    return FRAME.pack(last, length, length ^ 0xFFFF)


def member_length(head: int, size: int) -> int:
    """Bytes of a member with ``head`` bytes of tar header and ``size`` bytes of content."""
    content = padded_size(size)
    blocks = 1 + -(-content // BLOCK)
    return GZIP_HEAD + blocks * FRAME.size + head + content + TRAILER.size


def small_member(tar: bytes) -> bytes:
    """A whole member around at most 65,535 bytes of tar: a folder, or the end."""
    length = GZIP_HEAD + FRAME.size + len(tar) + TRAILER.size
    return gzip_head(length) + frame(len(tar), True) + tar + TRAILER.pack(crc32(tar), len(tar))


END_RECORDS = bytes(2 * RECORD)
END = small_member(END_RECORDS)
