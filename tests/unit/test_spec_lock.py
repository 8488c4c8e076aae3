"""The lock: canonical text, unsafe content refused, and what of it a changed manifest makes stale."""

from __future__ import annotations

import pytest

from offline_kit.digest import Digest
from offline_kit.errors import SpecError
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel, LockedText, parse_lock, stale, wanted
from offline_kit.spec.manifest import Manifest, parse_manifest
from tests.unit.test_spec_manifest import GOOD

CONFIG = {"models.json": b"{}", "vllm_config.yaml": b"a: 1\n"}


def example(manifest: Manifest) -> Lock:
    def image(key: str) -> LockedImage:
        blob = Blob(digest=Digest.of(key.encode()), size=1, media_type="x")
        return LockedImage(
            wanted=wanted(manifest, f"images.{key}"),
            source=manifest.images[key].source,
            reference=manifest.images[key].reference.tagged,
            manifest=blob,
            config=blob,
            layers=(Layer(digest=Digest.of(b"layer"), size=2, media_type="y", diff_id=Digest.of(b"tar")),),
        )

    model = LockedModel(
        wanted=wanted(manifest, "models.chat"),
        source=manifest.models["chat"].source,
        commit="0" * 40,
        files=(LockedFile(path="config.json", size=3, sha256=Digest.of(b"{}")),),
    )
    return Lock(
        name=manifest.name,
        platform=manifest.platform,
        accelerator=manifest.accelerator,
        images={key: image(key) for key in manifest.images},
        models={"chat": model},
        config={name: LockedText(size=len(data), sha256=Digest.of(data)) for name, data in CONFIG.items()},
    )


def test_text_is_canonical_and_reads_back_the_same() -> None:
    lock = example(parse_manifest(GOOD, "m"))
    assert parse_lock(lock.text(), "l") == lock
    assert parse_lock(lock.text(), "l").text() == lock.text()
    assert lock.text().endswith("}\n")


def test_shared_layers_are_counted_once() -> None:
    lock = example(parse_manifest(GOOD, "m"))
    assert len(lock.image_blobs()) == 3  # two images of one blob each for manifest and config, one shared layer


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("name: demo", "name: demo"), []),
        (("name: demo", "name: other"), ["name"]),
        (("revision: v1", "revision: v2"), ["models.chat"]),
        (("nginx:1.29-alpine", "nginx:1.30"), ["images.gateway"]),
        (("  chat:", "  talk:"), ["models.chat", "models.talk"]),
        (("name: demo", "name: demo\nplatform: linux/arm64"), ["platform", "images.engine", "images.gateway", "models.chat"]),
    ],
)
def test_only_what_changed_is_stale(change: tuple[str, str], names: list[str]) -> None:
    lock = example(parse_manifest(GOOD, "m"))
    assert stale(lock, parse_manifest(GOOD.replace(*change), "m"), CONFIG) == names


def test_an_edited_configuration_is_stale() -> None:
    manifest = parse_manifest(GOOD, "m")
    assert stale(example(manifest), manifest, {**CONFIG, "models.json": b"{ }"}) == ["config/models.json"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("config.json", "../config.json"), "not a safe relative path"),
        (('"lock_version": 1', '"lock_version": 2'), "lock_version"),
        (('"size": 3', '"size": -3'), "size"),
        (("{", "["), "not valid JSON"),
    ],
)
def test_a_lock_that_cannot_be_trusted_is_refused(change: tuple[str, str], expected: str) -> None:
    text = example(parse_manifest(GOOD, "m")).text()
    with pytest.raises(SpecError, match=expected):
        parse_lock(text.replace(*change), "l")
