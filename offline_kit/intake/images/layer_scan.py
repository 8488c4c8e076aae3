"""The tar of a layer, read while it passes by: the wanted files, and what the layer removes.

Rules: bytes are pushed in and looked at once; nothing is kept but wanted files within limits; this proves nothing and judges
nothing: a layer that is damaged, or of a form that is not known here, gives what could be read and ``whole`` false.
"""

from __future__ import annotations

from collections.abc import Callable

_BLOCK = 512
_FILE_AT_MOST = 96 << 20  # the largest package database in sight has some 60 MiB
_ALL_AT_MOST = 256 << 20
_NAME_AT_MOST = 1 << 20
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class LayerScan:
    """``feed`` it the plain tar in pieces of any size; then ``files`` has the wanted ones by path.

    ``removed``: paths of files and folders that earlier layers may have and this one takes away, in order.
    """

    def __init__(self, wanted: Callable[[str], bool]) -> None:
        self.files: dict[str, bytes] = {}
        self.removed: list[str] = []
        self.whole = True
        self._wanted = wanted
        self._buffer = bytearray()  # of a header, or of a body that is kept
        self._need = _BLOCK  # bytes that make the next thing whole
        self._skip = 0  # bytes to pass over before it
        self._body: tuple[bytes, str, int] | None = None  # type, path and size of the body that is being kept
        self._next: dict[str, str] = {}  # path, linkpath, size of the next header, from pax or GNU records
        self._ended = False
        self._kept = 0

    def feed(self, piece: bytes | memoryview) -> None:
        """Takes the next bytes."""
        view = memoryview(piece)
        while view.nbytes and not self._ended:
            if self._skip:
                passed = min(self._skip, view.nbytes)
                self._skip -= passed
                view = view[passed:]
                continue
            taken = view[: self._need - len(self._buffer)]
            view = view[taken.nbytes :]
            if not self._buffer and taken.nbytes == self._need and self._body is None:
                self._header(bytes(taken))
                continue
            self._buffer += taken
            if len(self._buffer) == self._need:
                content = bytes(self._buffer)
                self._buffer.clear()
                if self._body is None:
                    self._header(content)
                else:
                    self._finish(content)

    def close(self) -> None:
        """No more bytes: says whether the tar came to an end."""
        self.whole = self.whole and (self._ended or (not self._buffer and not self._skip and self._body is None))

    def _header(self, record: bytes) -> None:
        if not any(record):
            self._ended = True
            return
        try:
            size = int(self._next.pop("size", "") or _number(record[124:136]))
            kind = record[156:157]
            path = self._next.pop("path", None) or _name(record)
            target = self._next.pop("linkpath", None) or _text(record[157:257])
        except ValueError:
            self._ended, self.whole = True, False
            return
        padded = size + -size % _BLOCK
        if kind in (b"L", b"K", b"x"):
            if size > _NAME_AT_MOST:
                self._ended, self.whole = True, False
            else:
                self._keep(kind, "", size)
            return
        if kind in (b"1", b"2", b"3", b"4", b"6"):  # links and devices have no body, whatever their size says
            size = padded = 0
        path = _plain(path)
        self._note(kind, path, _plain(target), size)
        if self._body is None:
            self._skip = padded

    def _note(self, kind: bytes, path: str, target: str, size: int) -> None:
        """What this entry means; begins to keep its body where it is wanted."""
        folder, _, name = path.rpartition("/")
        if name.startswith(_WHITEOUT):
            self.removed.append(folder if name == _OPAQUE else f"{folder}/{name[len(_WHITEOUT) :]}".lstrip("/"))
        elif kind == b"g" or not self._wanted(path):
            return
        elif kind in (b"0", b"\0", b"7"):
            if size > _FILE_AT_MOST or self._kept + size > _ALL_AT_MOST:
                self.whole = False
            else:
                self._keep(b"0", path, size)
        elif kind == b"1":
            if target in self.files:
                self.files[path] = self.files[target]
            else:
                self.whole = False
        elif kind != b"5":  # a link or a device takes the place of a file
            self.removed.append(path)

    def _keep(self, kind: bytes, path: str, size: int) -> None:
        self._body, self._need = (kind, path, size), size + -size % _BLOCK
        self._kept += size
        if not size:
            self._finish(b"")

    def _finish(self, padded: bytes) -> None:
        assert self._body is not None
        kind, path, size = self._body
        self._body, self._need = None, _BLOCK
        content = padded[:size]
        if kind == b"0":
            self.files[path] = content
            return
        self._kept -= size
        if kind == b"x":
            self._next.update(_pax(content))
        else:
            self._next["path" if kind == b"L" else "linkpath"] = _text(content)


def _number(field: bytes) -> int:
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.split(b"\0", 1)[0].strip() or b"0", 8)


def _name(record: bytes) -> str:
    name = _text(record[:100])
    if record[257:263] == b"ustar\0" and record[345]:
        return f"{_text(record[345:500])}/{name}"
    return name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _plain(path: str) -> str:
    """Without what may stand before the first folder, and without a final slash."""
    return path.removeprefix("./").strip("/")


def _pax(content: bytes) -> dict[str, str]:
    found = {}
    while content:
        length, mark, _ = content.partition(b" ")
        if not mark or not length.isdigit() or not len(length) < int(length) <= len(content):
            break
        key, _, value = content[len(length) + 1 : int(length) - 1].partition(b"=")
        if key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = value.decode("utf-8", "surrogateescape")
        content = content[int(length) :]
    return found
