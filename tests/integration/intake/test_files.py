"""``files:``: anything else that a kit carries."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, DiskError, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.sources import file
from offline_kit.intake.sources.base import Context
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedExtra
from offline_kit.spec.manifest import FileSpec, parse_manifest
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

DATA = os.urandom(300_000)
SHA256 = Digest.of(DATA).hex


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("o/tools", parts.write(tmp_path / "tools", {"docker-compose": DATA}))
        yield hub


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with HttpClient(parts.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def url(server: Hub, name: str = "docker-compose") -> str:
    return f"{server.url}/o/tools/resolve/main/{name}"


def lock(context: Context, source: str, sha256: str = SHA256) -> LockedExtra:
    return file.resolve("files.tools/x", FileSpec(source=source, sha256=Digest(sha256)), Digest.of(b""), context)


def fetch(context: Context, locked: LockedExtra) -> Path:
    entry = FileSpec(source=locked.source, sha256=locked.sha256)
    for piece in file.pieces("files.tools/x", locked, entry, context):
        piece.run(lambda amount: None)
    return file.local_path(locked, entry, context)


def test_from_a_server(server: Hub, context: Context) -> None:
    locked = lock(context, url(server))
    assert (locked.size, locked.sha256.hex) == (len(DATA), SHA256)
    server.faults.add(Fault("cut", at=100_000))
    assert fetch(context, locked).read_bytes() == DATA
    assert server.sent() == len(DATA) + 1, "one byte tells how large it is"
    server.log.clear()
    assert lock(context, url(server)) == locked
    fetch(context, locked)
    assert server.log == [], "what is there is not asked for"


def test_a_server_that_does_not_tell_the_size(server: Hub, context: Context) -> None:
    """Then the file is fetched to lock it."""
    server.faults.add(Fault("no-range", headers={"Content-Length": "unknown", "Connection": "close"}, times=-1))
    with pytest.raises(DigestMismatch, match=r"tools/x .*has digest"):
        lock(context, url(server), "0" * 64)
    assert lock(context, url(server)).size == len(DATA)
    assert context.store.has(Digest(SHA256), len(DATA))


def test_from_this_machine(context: Context) -> None:
    parts.write(context.base, {"licence.pdf": DATA})
    for source in ("file://licence.pdf", f"file://{context.base}/licence.pdf"):
        locked = lock(context, source)
        assert fetch(context, locked) == context.base / "licence.pdf" and locked.size == len(DATA)
    assert not list((context.store.root / "blobs/sha256").iterdir()), "it is not copied"
    (context.base / "licence.pdf").write_bytes(DATA[::-1])
    with pytest.raises(DigestMismatch, match="the manifest demands"):
        fetch(context, locked)
    (context.base / "licence.pdf").unlink()
    with pytest.raises(DiskError, match="the file is gone"):
        fetch(context, locked)


def test_what_is_refused(server: Hub, context: Context) -> None:
    parts.write(context.base, {"x": DATA})
    with pytest.raises(DigestMismatch, match=r"files\.tools/x \(file://x\): has sha256 .* the manifest demands 000"):
        lock(context, "file://x", "0" * 64)
    with pytest.raises(NotFound, match=r"files\.tools/x .*: no such file"):
        lock(context, "file://nothing")
    with pytest.raises(NotFound, match="HTTP 404"):
        lock(context, url(server, "nothing"))
    with pytest.raises(SpecError, match="is not https://"):
        lock(context, "http://host.example/x")
    locked = lock(context, url(server), "0" * 64)
    with pytest.raises(DigestMismatch, match=r"files/tools/x \(http.*\): has digest"):
        fetch(context, locked)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a": {"source": "https://h/x"}}, "files.a.sha256: is required"),
        ({"a": {"source": "ftp://h/x", "sha256": SHA256}}, "not a source of a file; known: https://"),
        ({"../a": {"source": "https://h/x", "sha256": SHA256}}, "not a safe relative path"),
        ({path: {"source": "https://h/x", "sha256": SHA256} for path in ("a", "a/b")}, "cannot be a file and a folder"),
    ],
)
def test_what_a_manifest_may_say(files: dict[str, Any], expected: str) -> None:
    text = parts.manifest().model_dump(mode="json", by_alias=True)
    with pytest.raises(SpecError, match=expected):
        parse_manifest(json.dumps({**text, "files": files}), "m.yaml")
