"""Gzip layers are proven to be those of the image configuration while they are fetched, and once only."""

from __future__ import annotations

import dataclasses
import gzip
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from offline_kit.common.errors import DigestMismatch
from offline_kit.intake.fetch import fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.sources import image_layers
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import Lock
from offline_kit.spec.manifest import Manifest
from tests.support import intake_samples as parts
from tests.testbed.servers.registry import Registry

NOISE = random.Random(3).randbytes(300_000)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as running:
        yield running


def with_layer(change: Callable[[bytes], bytes]) -> parts.Image:
    """An image whose only layer is ``change`` of the right gzip bytes, under their own digest."""
    tar = parts.tar({"noise": NOISE})
    good = parts.image("gzip", diff_ids=[parts.digest(tar)])
    old, new = next(data for data in good.blobs.values() if data != good.config), change(gzip.compress(tar, mtime=0))
    manifest = good.manifest.replace(parts.digest(old).encode(), parts.digest(new).encode())
    manifest = manifest.replace(f'"size": {len(old)}'.encode(), f'"size": {len(new)}'.encode())
    return dataclasses.replace(good, manifest=manifest, blobs={parts.digest(good.config): good.config, parts.digest(new): new})


def locked(served: Registry, name: str, store: Store) -> tuple[Lock, Manifest]:
    entry = {"source": f"docker://{served.host}/{name}:v1"}
    manifest = parts.manifest({"engine": entry, "gateway": entry})
    return resolve(manifest, Path("/"), {}, Session(store, options=parts.QUICK)), manifest


def bring(lock: Lock, manifest: Manifest, store: Store) -> None:
    fetch(lock, manifest, Path("/"), Session(store, options=parts.QUICK))


WRONG: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "other": (lambda data: gzip.compress(parts.tar({"other": NOISE})), "has diff ID"),
    "longer": (lambda data: gzip.compress(gzip.decompress(data) + bytes(512)), "has diff ID"),
    "cut": (lambda data: data[:-5000], "cannot be unpacked"),
    "trailer": (lambda data: data[:-8] + b"\1" * 8, "cannot be unpacked"),
    "tail": (lambda data: data + b"no gzip", "cannot be unpacked"),
    "zeros": (lambda data: data + bytes(512), "cannot be unpacked: bytes that are no gzip follow"),
    "zero": (lambda data: data + b"\0", "cannot be unpacked"),
    "begun": (lambda data: data + b"\x1f\x8b", "cannot be unpacked"),
    "zstd": (lambda data: zstandard.compress(gzip.decompress(data)), "is called gzip by the manifest and is zstd"),
    "plain": (lambda data: b"this is no gzip", "has diff ID"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_layer_is_refused_by_name(served: Registry, tmp_path: Path, kind: str) -> None:
    change, text = WRONG[kind]
    parts.push(served.url, f"wrong-{kind}", "v1", with_layer(change))
    store = Store(tmp_path / "store")
    lock, manifest = locked(served, f"wrong-{kind}", store)
    for _ in range(2):  # also when its bytes are in the store already
        with pytest.raises(DigestMismatch, match=rf"layer \w{{12}} of docker://.*/wrong-{kind}:v1: .*{text}.*push"):
            bring(lock, manifest, store)


def test_a_right_layer_is_proven_once(served: Registry, tmp_path: Path) -> None:
    parts.push(served.url, "right", "v1", with_layer(lambda data: data))
    store = Store(tmp_path / "store")
    lock, manifest = locked(served, "right", store)
    (layer,) = lock.images["engine"].layers
    bring(lock, manifest, store)
    assert image_layers.is_proven(store, layer.digest, layer.diff_id)
    content = store.path(layer.digest).read_bytes()
    store.path(layer.digest).write_bytes(bytes(len(content)))  # a second proof would see this; ``verify`` does
    bring(lock, manifest, store)


def test_what_an_earlier_version_fetched_is_proven_from_the_store(served: Registry, tmp_path: Path) -> None:
    image = with_layer(lambda data: data)
    parts.push(served.url, "old", "v1", image)
    store = Store(tmp_path / "store")
    for data in image.blobs.values():
        store.put(data)
    lock, manifest = locked(served, "old", store)
    (layer,) = lock.images["engine"].layers
    assert not image_layers.is_proven(store, layer.digest, layer.diff_id)
    bring(lock, manifest, store)
    assert image_layers.is_proven(store, layer.digest, layer.diff_id)
