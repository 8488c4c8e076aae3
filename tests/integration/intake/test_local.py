"""Models in local folders: nothing is copied, everything is proven."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, DiskError, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.local import FolderSource
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.lock import LockedModel
from offline_kit.spec.manifest import ModelSpec
from tests.support import intake_samples as parts

FILES = {"model.safetensors": parts.safetensors({"w": b"x" * 1000}), "config.json": b"{}", "sub/a.json": b"[]"}
# what git and the tools of hubs keep beside a model
OF_TOOLS = {
    ".cache/huggingface/x": b"",
    "._____temp/model-00002-of-00002.safetensors": b"not yet whole",
    ".msc": b"",
    ".mv": b"",
}
WANTED = Digest.of(b"")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    parts.write(tmp_path / "model", {**FILES, ".git/HEAD": b"", "old.bin": b"pickle", **OF_TOOLS})
    with HttpClient(parts.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def lock(context: Context, source: str = "dir://model", **fields: Any) -> LockedModel:
    return FolderSource().resolve("mine", ModelSpec(source=source, **fields), WANTED, context)


def check(context: Context, locked: LockedModel) -> None:
    for piece in FolderSource().pieces("mine", locked, ModelSpec(source=locked.source), context):
        piece.run(lambda amount: None)


def test_a_folder_is_locked_where_it_is(context: Context) -> None:
    locked = lock(context)
    assert [file.path for file in locked.files] == ["config.json", "model.safetensors", "sub/a.json"]
    assert locked.commit is None
    entry = ModelSpec(source="dir://model")
    for file in locked.files:
        place = FolderSource().local_path(file, entry, context)
        assert place.read_bytes() == FILES[file.path] and Digest.of_file(place) == file.sha256
    assert not list((context.store.root / "blobs/sha256").iterdir())
    assert lock(context, f"dir://{context.base}/model").files == locked.files


def test_a_file_is_hashed_once(context: Context) -> None:
    time.sleep(2.1)
    locked = lock(context)
    assert FolderSource().pieces("mine", locked, ModelSpec(source="dir://model"), context) == []


def test_a_change_since_the_lock_is_refused(context: Context) -> None:
    locked = lock(context)
    check(context, locked)
    (context.base / "model/config.json").write_bytes(b"[]")
    with pytest.raises(DigestMismatch, match=r"config\.json: has changed since the lock was made -> offline-kit lock"):
        check(context, locked)
    (context.base / "model/config.json").unlink()
    with pytest.raises(DiskError, match=r"config\.json: the file is gone"):
        check(context, locked)


def test_links(context: Context) -> None:
    (context.base / "model/inside.json").symlink_to("config.json")
    assert "inside.json" in [file.path for file in lock(context).files]
    for target in ("../secret", "/etc/passwd", "sub"):
        link = context.base / "model/link"
        (context.base / "secret").write_text("x")
        link.symlink_to(target)
        with pytest.raises(SpecError, match=f"{link}: is a link out of the folder, or to a folder"):
            lock(context)
        link.unlink()
    (context.base / "model/broken").symlink_to("nothing")
    with pytest.raises(SpecError, match="neither a file nor a folder"):
        lock(context)


def test_what_cannot_be_used(context: Context) -> None:
    with pytest.raises(NotFound, match="no such folder"):
        lock(context, "dir:///nowhere")
    with pytest.raises(DigestMismatch, match="demands 000"):
        lock(context, sha256={"config.json": "0" * 64})
    with pytest.raises(SpecError, match=r"old\.bin -> say 'allow_pickle"):
        lock(context, exclude=["*.safetensors"])
    os.mkfifo(context.base / "model/pipe")
    with pytest.raises(SpecError, match="neither a file nor a folder"):
        lock(context)
    (context.base / "model/pipe").unlink()
    (context.base / "model/model.safetensors").write_bytes(FILES["model.safetensors"][:-1])
    with pytest.raises(DigestMismatch, match="not a whole safetensors file"):
        lock(context)


def test_what_is_excluded_may_be_anything(context: Context, tmp_path: Path) -> None:
    folder = parts.write(tmp_path / "odd", {"model.safetensors": parts.safetensors({"w": b"1"}), "~$a.docx": b"x"})
    (folder / "here.txt").symlink_to("/etc/hostname")
    (folder / "logs").mkdir()
    (folder / "logs/latest").symlink_to("nowhere")
    locked = lock(context, f"dir://{folder}", exclude=("~*", "here.txt", "logs"))
    assert [file.path for file in locked.files] == ["model.safetensors"]
