"""Secrets that must show up nowhere, and a search for them in whatever was written or said.

Rules: a canary is found as it is, percent-encoded, as JSON has it, in hexadecimal and in base64 at each place that it can begin
at; archives and gzip that are whole are looked into, and of a PDF its text.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import subprocess
import tarfile
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path


def forms(secret: str) -> set[bytes]:
    """The secret as it is and as others write it; in base64 the letters that only the secret decides."""
    plain = secret.encode()
    found = {plain, plain.hex().encode(), urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    for before, foreign in enumerate((0, 2, 3)):
        heart = base64.b64encode(b"x" * before + plain).rstrip(b"=")[foreign:-1]
        found |= {heart, heart.translate(bytes.maketrans(b"+/", b"-_"))}
    return found


def texts(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The data, and what is packed in it, each with a name."""
    yield name, data
    if data.startswith(b"\x1f\x8b"):
        try:
            plain = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):  # a part, or damaged
            return
        try:
            with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
                members = [(member, archive.extractfile(member) if member.isfile() else None) for member in archive]
                for member, stream in members:
                    yield f"{name}: {member.name}", member.name.encode()
                    if stream is not None:
                        yield from texts(f"{name}: {member.name}", stream.read())
        except tarfile.ReadError:
            yield from texts(f"{name}: inside", plain)
    if data.startswith(b"%PDF"):
        yield f"{name}: text", subprocess.run(["pdftotext", "-", "-"], input=data, capture_output=True, check=True).stdout


def found_in(pieces: Iterable[tuple[str, bytes]], secrets: Mapping[str, str]) -> list[str]:
    """'PLACE: NAME' of each of ``secrets`` (name -> secret) that stands in one of the pieces (place -> bytes)."""
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    return [
        f"{place}: {name}"
        for piece in pieces
        for place, data in texts(*piece)
        for name, words in wanted.items()
        if any(word in data for word in words)
    ]


def files_below(folder: Path, *but: Path) -> Iterator[tuple[str, bytes]]:
    """Path and content of every plain file below ``folder`` and their names, except those of ``but``."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path not in but:
            yield str(path.relative_to(folder)), str(path).encode()
            yield str(path.relative_to(folder)), path.read_bytes()
