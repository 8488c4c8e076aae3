"""The lock: canonical text, unsafe content refused, and what of it a changed manifest makes stale."""

from __future__ import annotations

import json

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel, LockedText, parse_lock, spec_digest
from offline_kit.spec.lock_facts import EngineFacts
from offline_kit.spec.lock_fit import stale
from offline_kit.spec.manifest import Manifest, parse_manifest
from offline_kit.spec.names import same_names
from tests.unit.spec.test_manifest import GOOD

CONFIG = {"models.json": b"{}", "vllm_config.yaml": b"a: 1\n"}


def example(manifest: Manifest) -> Lock:
    def image(key: str) -> LockedImage:
        blob = Blob(digest=Digest.of(key.encode()), size=1, media_type="x")
        return LockedImage(
            spec_digest=spec_digest(manifest, f"images.{key}"),
            source=manifest.images[key].source,
            reference=manifest.images[key].reference.tagged,
            manifest=blob,
            config=blob,
            layers=(Layer(digest=Digest.of(b"layer"), size=2, media_type="y", diff_id=Digest.of(b"tar")),),
        )

    model = LockedModel(
        spec_digest=spec_digest(manifest, "models.chat"),
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


DEMANDING = GOOD.replace(
    'gateway: {source: "docker://nginx:1.29-alpine"}',
    f'gateway: {{source: "docker://nginx:1.29-alpine", digest: "{Digest.of(b"gateway")}"}}',
)


def edited(change: str, value: object) -> Lock:
    """The lock of the manifest with one field overwritten by hand; the digests that tie it to the manifest stay."""
    data = json.loads(example(parse_manifest(DEMANDING, "m")).text())
    *way, last = change.split("/")
    place = data
    for step in way:
        place = place[step]
    place[last] = value
    return parse_lock(json.dumps(data), "l")


@pytest.mark.parametrize(
    ("change", "value", "name"),
    [
        ("images/gateway/manifest/digest", str(Digest.of(b"other")), "images.gateway"),
        ("images/gateway/source", "docker://evil.example/nginx:1.29-alpine", "images.gateway"),
        ("images/gateway/reference", "nginx:1.28", "images.gateway"),
        ("models/chat/source", "hf://other/chat", "models.chat"),
        ("models/chat/commit", None, "models.chat"),
        ("models/chat/files", [{"path": "w.bin", "size": 1, "sha256": "0" * 64}], "models.chat"),
    ],
)
def test_a_lock_edited_by_hand_does_not_fit(change: str, value: object, name: str) -> None:
    assert stale(example(parse_manifest(DEMANDING, "m")), parse_manifest(DEMANDING, "m"), CONFIG) == []
    assert stale(edited(change, value), parse_manifest(DEMANDING, "m"), CONFIG) == [name]


def test_where_bytes_came_from_is_a_note_of_the_lock_alone() -> None:
    assert stale(edited("models/chat/endpoint", "http://elsewhere.example"), parse_manifest(DEMANDING, "m"), CONFIG) == []


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("images/engine/reference", "a.b\nINDEX=1/x/y:1"),
        ("images/engine/config/media_type", "x\nINDEX=1"),
        ("images/engine/reference", "a.b$(id)/x/y:1"),
        ("models/chat/source", "hf://\x1b[31m"),
        ("models/chat/commit", "main"),
        ("platform", "linux/amd64\nX=1"),
    ],
)
def test_what_would_become_other_lines_or_escapes_is_refused(change: str, value: str) -> None:
    with pytest.raises(SpecError):
        edited(change, value)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"lock_version": ' + "1" * 5000 + "}", '{"name": "\\ud800"}', "[" + "[]," * 2_000_000, "\ud800"],
    ids=["deep", "long number", "half a character", "many values", "not UTF-8"],
)
def test_a_lock_that_costs_too_much_is_one_clear_error(text: str) -> None:
    with pytest.raises(SpecError, match="not valid JSON: "):
        parse_lock(text, "l")


@pytest.mark.parametrize(
    ("paths", "pair"),
    [
        (["a/B", "a/b"], ("a/B", "a/b")),
        (["x/A/1", "x/a/2"], ("x/A", "x/a")),
        (["e\u0301", "\u00e9"], ("e\u0301", "\u00e9")),
        (["a/b", "a/c", "a/d/b"], None),
    ],
)
def test_names_that_are_one_on_some_hosts(paths: list[str], pair: tuple[str, str] | None) -> None:
    assert same_names(paths) == pair


@pytest.mark.parametrize(
    ("reference", "packages", "version"),
    [
        ("docker.io/vllm/vllm-openai:v0.21.0", {}, "0.21.0"),
        ("docker.io/vllm/vllm-openai:v0.21.0-cu129", {}, "0.21.0"),
        ("docker.io/vllm/vllm-openai:latest", {}, None),
        ("docker.io/vllm/vllm-openai:v0.21.0", {"vllm": "0.22.1", "torch": "2.9.0"}, "0.22.1"),
        ("docker.io/library/ubuntu:22.04", {}, None),
        (None, {"vllm": "0.29.0"}, "0.29.0"),
    ],
)
def test_the_version_of_vllm_is_that_of_its_packages_or_of_a_tag_named_for_it(
    reference: str | None, packages: dict[str, str], version: str | None
) -> None:
    image = example(parse_manifest(GOOD, "m")).images["engine"]
    held = EngineFacts(packages=packages, whole=False) if packages else None
    assert image.model_copy(update={"reference": reference, "engine": held}).vllm == version
