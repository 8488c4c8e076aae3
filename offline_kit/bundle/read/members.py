"""A bundle in its own container: hopping from member to member, checking many at once, inflating nothing.

Rules: numbered below; every byte of the file is either compared with the only value it can have or goes into a digest that is
compared; after damage the reader goes on at the next member that it can find, so that all damage is reported.
"""

from __future__ import annotations

from dataclasses import dataclass

from isal.isal_zlib import crc32

from offline_kit.bundle.format import member, paths
from offline_kit.bundle.read.multi_file import MultiFile
from offline_kit.bundle.read.observed import SMALL, Evidence, FileObserver, KeepPolicy, Seen, TooMany, shown
from offline_kit.common.concurrency import Advance, Buffers, map_files
from offline_kit.common.progress import Progress

_STEP = member.BLOCK + member.FRAME.size
_BUFFERS = Buffers(16 * _STEP)
_TAR = member.GZIP_HEAD + member.FRAME.size
_PEEK = _TAR + member.LONGEST_HEAD
_DAMAGE_LIMIT = 1000


@dataclass(frozen=True)
class Member:
    """Where a member lies. ``path``: of the file in the kit, None for a folder."""

    path: str | None
    offset: int
    tar: bytes
    header: member.Header

    @property
    def length(self) -> int:
        return member.member_length(len(self.tar), self.header.size)


def is_ours(start: bytes) -> bool:
    """Whether a gzip file that starts so claims to be in this container: it is deflate with an extra field.

    A damaged header of ours must not pass as somebody else's gzip, so the extra field's content does not matter here.
    """
    return start[:3] == member.MAGIC[:3] and len(start) > 3 and bool(start[3] & member.MAGIC[3])


def observe(span: MultiFile, jobs: int | None, quick: bool, progress: Progress) -> Evidence:
    """The evidence of the bundle in ``span``. Raises OSError."""
    evidence = Evidence("bundle")
    members = scan(span, evidence)
    policy = KeepPolicy()
    total = sum(item.length for item in members)

    def work(item: Member, advance: Advance) -> tuple[Seen | None, list[str]]:
        return _check(span, item, policy, quick, advance)

    with progress.task("verify", total) as task:
        # The sums, the lock and bundle.json first: the lock says which blobs the checks need. Then the largest first, so that
        # no thread is left alone with a large one at the end.
        first = [item for item in members if item.path in paths.HEAD]
        rest = sorted((item for item in members if item.path not in paths.HEAD), key=lambda item: -item.header.size)
        results = map_files(work, first, 1, task.advance) + map_files(work, rest, jobs, task.advance)
    for item, (seen, problems) in zip(first + rest, results, strict=True):
        for problem in problems:
            evidence.found(item.path or shown(item.header.path.partition("/")[2]) or item.header.path, problem)
        if item.path is not None and seen is not None:
            evidence.files[item.path] = seen
    return evidence


def scan(span: MultiFile, evidence: Evidence) -> list[Member]:
    """Every member that can be found, in order."""
    members: list[Member] = []
    offset, size = 0, span.size
    while offset < size:
        start = span.pread(_PEEK, offset)
        # 1. The last member is the end mark, and the file ends with it.
        if start[: len(member.END)] == member.END:
            if behind := size - offset - len(member.END):
                evidence.found(f"offset {size - behind}", f"{behind} bytes follow after the end of the bundle")
            return members
        if size - offset <= len(member.END):
            break
        if len(evidence.findings) >= _DAMAGE_LIMIT:
            evidence.found(f"offset {offset}", "too much is damaged: reading ended here")
            return members
        # 2. A tar header in its one form, safe and not there before. It tells how long the member must be.
        try:
            tar = start[_TAR : _TAR + member.head_length(start[_TAR : _TAR + member.RECORD])]
            header = member.parse(tar)
        except ValueError as error:
            evidence.found(_name(start, offset), str(error))
            offset = _next(span, offset, start)
            continue
        try:
            item = Member(evidence.admit(header), offset, tar, header)
        except TooMany as error:
            evidence.found(f"offset {offset}", f"{error}: reading ended here")
            return members
        if offset + item.length > size:
            evidence.found(
                shown(header.path.partition("/")[2]), f"is cut off: the bundle ends {offset + item.length - size} bytes early"
            )
            offset = _next(span, offset, start)
            continue
        members.append(item)
        offset += item.length
    evidence.found(f"offset {offset}", "the end mark is missing or damaged: the bundle is cut off or was changed")
    return members


def _next(span: MultiFile, offset: int, start: bytes) -> int:
    """Where the next member starts: where this one's gzip header says, or else wherever one can be found."""
    if start.startswith(member.MAGIC) and len(start) >= member.GZIP_HEAD:
        reported = offset + member.LENGTH.unpack_from(start, len(member.MAGIC))[0]
        if offset < reported < span.size and span.pread(len(member.MAGIC), reported) == member.MAGIC:
            return int(reported)
    position = offset + 1
    while position < span.size:
        found = span.pread(SMALL, position).find(member.MAGIC)
        if found >= 0:
            return position + found
        position += SMALL - len(member.MAGIC)
    return span.size


def _name(start: bytes, offset: int) -> str:
    """What to call a member whose tar header is damaged: its name as far as it can be read."""
    record = start[_TAR : _TAR + member.RECORD]
    name = member.name_in(record).decode(errors="replace").partition("/")[2]
    return name if name and name.isprintable() else f"offset {offset}"


def _check(span: MultiFile, item: Member, policy: KeepPolicy, quick: bool, advance: Advance) -> tuple[Seen | None, list[str]]:
    """What was seen of one file, and what is wrong with its member."""
    size = item.header.size
    observer = FileObserver(item.path or "", size, item.header.mode, policy, hashing=not quick or size <= SMALL)
    problems = []
    start = span.pread(_TAR, item.offset)
    # 3. The gzip header and the header of the first block have one form each.
    if start != member.gzip_head(item.length) + member.frame(len(item.tar), size == 0):
        problems.append("its gzip header is damaged")
    if quick and size > SMALL and not observer.wants_more:
        advance(item.length)
        return observer.seen(), problems
    position, end = item.offset + _TAR + len(item.tar), item.offset + item.length - member.TRAILER.size
    check, left, content = crc32(item.tar), end - position, size
    broken = filled = 0
    while left:
        chunk = _BUFFERS.buffer[: min(left, len(_BUFFERS.buffer))]
        if span.fill(chunk, position) != len(chunk):
            return None, [*problems, "could not be read to its end"]
        position, left = position + len(chunk), left - len(chunk)
        for at in range(0, len(chunk), _STEP):
            block = chunk[at : at + _STEP]
            payload = block[member.FRAME.size :]
            # 4. Each block has the one header that its place gives it; what fills the last record up is zero.
            broken += block[: member.FRAME.size] != member.frame(len(payload), not left and at + _STEP >= len(chunk))
            data = payload[:content]
            content -= len(data)
            observer.feed(data)
            filled += len(data) < len(payload) and any(payload[len(data) :])
            check = crc32(payload, check)
        advance(len(chunk))
        if quick and size > SMALL and not observer.wants_more:
            return observer.seen(), problems
    # 5. The CRC and the length at the end, which every gunzip will check.
    trailer = member.TRAILER.pack(check, (len(item.tar) + member.padded_size(size)) & 0xFFFFFFFF)
    if span.pread(len(trailer), end) != trailer:
        problems.append("its gzip checksum does not match")
    if broken or filled:
        problems.append("bytes between its blocks are damaged")
    return observer.seen(), problems
