"""The store: a name means that the bytes are whole."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, DiskError
from offline_kit.common.files import disk_error
from offline_kit.intake.store.store import Store

DATA = b"weights" * 1000


def test_what_is_committed_is_there_and_nothing_else_is(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with store.writer() as writer:
        writer.write(DATA[:100])
        writer.write(memoryview(DATA)[100:])
        digest = writer.commit(Digest.of(DATA), len(DATA))
    assert store.has(digest, len(DATA))
    assert store.path(digest).read_bytes() == DATA
    assert store.path(digest) == tmp_path / "store/blobs/sha256" / Digest.of(DATA).hex
    assert not list((tmp_path / "store/partial").iterdir())


def test_a_mismatch_leaves_nothing_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    expected = Digest.of(b"other")
    with pytest.raises(DigestMismatch, match="has digest"), store.writer() as writer:
        writer.write(DATA)
        writer.commit(expected)
    with pytest.raises(DigestMismatch, match="has 7000 bytes, expected 3"), store.writer() as writer:
        writer.write(DATA)
        writer.commit(None, 3)
    with store.writer() as writer:
        writer.write(DATA)
    assert not list((tmp_path / "partial").iterdir()) and not list((tmp_path / "blobs/sha256").iterdir())


def test_a_blob_of_another_size_is_damaged_and_goes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    digest = store.put(DATA)
    store.path(digest).write_bytes(DATA[:-1])
    assert not store.has(digest, len(DATA))
    assert not store.path(digest).exists()


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.delenv("OFFLINE_KIT_STORE", raising=False)
    assert Store.default_root() == Path("/cache/offline-kit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Store.default_root() == Path.home() / ".cache/offline-kit"
    monkeypatch.setenv("OFFLINE_KIT_STORE", "/elsewhere")
    assert Store.default_root() == Path("/elsewhere")


def test_a_full_disk_is_said_with_path_and_remedy(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writer() as writer:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._descriptor)
        os.close(full)
        with pytest.raises(DiskError, match=r"the disk became full -> free some space there"):
            writer.write(DATA)
    assert "--store" in str(disk_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path))


def test_a_file_where_the_store_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match=str(tmp_path / "file")):
        Store(tmp_path / "file")


def test_a_local_file_is_remembered_until_it_changes(tmp_path: Path) -> None:
    store, file = Store(tmp_path / "store"), tmp_path / "file"
    file.write_bytes(DATA)
    store.cache_digest(file, file.stat(), Digest.of(DATA))
    assert store.cached_digest(file, file.stat()) is None, "a file that has just changed may change again unnoticed"
    time.sleep(2.1)
    store.cache_digest(file, file.stat(), Digest.of(DATA))
    assert store.cached_digest(file, file.stat()) == Digest.of(DATA)
    stat = file.stat()
    file.write_bytes(DATA[::-1])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.cached_digest(file, file.stat()) is None, "same size and mtime, but written to"


def test_notes_survive_and_damaged_ones_count_as_none(tmp_path: Path) -> None:
    Store(tmp_path).put_memo("layer:a", {"size": 1})
    assert Store(tmp_path).get_memo("layer:a") == {"size": 1}
    assert Store(tmp_path).get_memo("layer:b") is None
    next((tmp_path / "memo").iterdir()).write_text("{")
    assert Store(tmp_path).get_memo("layer:a") is None


def test_two_at_once_wait_for_each_other(tmp_path: Path) -> None:
    one, other, digest, stop = Store(tmp_path), Store(tmp_path), Digest.of(DATA), threading.Event()
    seen: list[int | None] = []

    def second() -> None:
        with other.partial(digest, stop) as descriptor:
            seen.append(descriptor)

    with one.partial(digest, stop) as descriptor:
        assert descriptor is not None
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.3)
        assert seen == []
        os.write(descriptor, DATA)
        one.commit_partial(digest, descriptor)
    thread.join(5)
    assert seen == [None], "the second one finds the blob made"


def test_what_a_killed_writer_left_is_swept_and_partial_downloads_stay(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left, partial = tmp_path / "partial/tmp-1-dead", tmp_path / "partial" / Digest.of(DATA).hex
    left.write_bytes(DATA)
    partial.write_bytes(DATA)
    for path in (left, partial):
        os.utime(path, (1, 1))
    with store.writer() as writer:
        os.utime(writer._path, (1, 1))
        Store(tmp_path)
        assert writer._path.exists(), "it is locked by its writer"
    assert not left.exists() and partial.exists()
