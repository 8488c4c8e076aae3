"""What a bundle holds and in which order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.entries import lay_out
from offline_kit.bundle.format.oci_layout import layout_files
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, SpecError
from tests.support.bundle_sample import VERSION, Sample, make_sample


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "blobs")


def texts(sample: Sample) -> dict[str, bytes]:
    return {entry.path: entry.content for entry in sample.entries() if entry.content is not None}


def test_order(sample: Sample) -> None:
    names = [entry.path for entry in sample.entries()]
    assert names[:3] == ["SHA256SUMS", "bundle.json", "lock.json"]
    images, models = names.index("images/oci-layout"), names.index("models/chat/config.json")
    assert names[3:images] == sorted(names[3:images])
    assert names[images : images + 3] == ["images/oci-layout", "images/index.json", "images/manifest.json"]
    extra = names.index("files/host/docker-compose")
    assert names[images + 3 : extra] == sorted(name for name in names if name.startswith("images/blobs/"))
    assert names[extra:models] == ["files/host/docker-compose"]
    assert names[models:] == sorted(name for name in names if name.startswith("models/"))


def test_sums_name_every_other_file_in_byte_order(sample: Sample) -> None:
    entries = {entry.path: entry for entry in sample.entries()}
    lines = texts(sample)["SHA256SUMS"].decode().splitlines()
    listed = [line[66:] for line in lines]
    assert listed == sorted(entries.keys() - {"SHA256SUMS"}, key=str.encode)
    assert all(line == f"{entries[line[66:]].digest.hex}  {line[66:]}" for line in lines)


def test_shared_layer_lies_there_once_under_all_names(sample: Sample) -> None:
    shared = sample.images["engine"].layers[0].digest
    assert sample.images["gateway"].layers[0].digest == shared
    names = [entry.path for entry in sample.entries()]
    assert names.count(paths.blob(shared)) == 1
    index = json.loads(texts(sample)["images/index.json"])["manifests"]
    names = [entry["annotations"]["io.containerd.image.name"] for entry in index]
    own = [f"localhost/offline-kit/{key}:{sample.images[key].config.digest.short}" for key in ("engine", "gateway")]
    assert names == ["docker.io/test/engine:v1", own[0], "registry.example:5000/nginx:1", own[1]]
    docker = json.loads(texts(sample)["images/manifest.json"])
    assert [entry["RepoTags"] for entry in docker] == [["test/engine:v1", own[0]], ["registry.example:5000/nginx:1", own[1]]]
    assert docker[0]["Layers"][0] == docker[1]["Layers"][0] == f"blobs/sha256/{shared.hex}"


def test_facts_for_the_scripts(sample: Sample) -> None:
    sample.images["my-x.y"] = sample.images.pop("gateway")
    facts = dict(line.split("=") for line in texts(sample)["deploy/kit.env"].decode().splitlines())
    assert facts["KIT_IMAGES"] == "engine,my-x.y"
    assert facts["KIT_IMAGE_my_x_y"].startswith("localhost/offline-kit/my-x.y:")
    assert int(facts["KIT_FILES"]) == len(sample.entries()) - 1
    assert int(facts["KIT_MODELS_BYTES"]) == sum(model.size for model in sample.models.values())
    image = sample.images["engine"]
    expect = texts(sample)["deploy/images/engine/expect"].decode().splitlines()
    assert expect[:4] == [
        "NAME=test/engine:v1",
        f"TAG={image.tag('engine')}",
        f"CONFIG={image.config.digest}",
        f"MANIFEST={image.manifest.digest}",
    ]
    assert expect[-2:] == [f"DIFF_ID={layer.diff_id}" for layer in image.layers]
    listed = texts(sample)["deploy/images/engine/files"].decode().splitlines()
    assert listed == sorted(f"blobs/sha256/{blob.digest.hex}" for blob in image.blobs())


def test_image_without_a_name_gets_the_kits_own_only(sample: Sample) -> None:
    sample.image("engine", None, {"engine": b"x"})
    own = sample.images["engine"].tag("engine")
    files = layout_files(sample.lock())
    assert json.loads(files["deploy/images/engine/manifest.json"])[0]["RepoTags"] == [own]
    assert files["deploy/images/engine/expect"].startswith(f"NAME=\nTAG={own}\n".encode())


def test_same_input_in_another_order_gives_the_same_entries(sample: Sample) -> None:
    first = sample.entries()
    sample.texts = dict(reversed(sample.texts.items()))
    sample.images = dict(reversed(sample.images.items()))
    sample.models = dict(reversed(sample.models.items()))
    assert sample.entries() == first


def test_modes(sample: Sample) -> None:
    modes = {entry.path: entry.mode for entry in sample.entries()}
    assert {path for path, mode in modes.items() if mode == 0o755} == {"install.sh", "scripts/deploy.sh"}
    assert set(modes.values()) == {0o644, 0o755}


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../b", "a//b", "images/x", "models/x", ".env", ".state/x", "lock.json", "a\nb"]
)
def test_paths_that_no_text_may_have(sample: Sample, path: str) -> None:
    sample.texts[path] = b"x"
    with pytest.raises(SpecError):
        sample.entries()


def test_a_path_that_is_file_and_folder(sample: Sample) -> None:
    sample.texts["scripts"] = b"x"
    with pytest.raises(SpecError, match="both a file and a folder"):
        sample.entries()


@pytest.mark.parametrize("version", ["", "v 1", "../v1", "v1/x", "v" * 64, "-v"])
def test_versions_that_cannot_be_a_name(sample: Sample, version: str) -> None:
    with pytest.raises(SpecError, match="version"):
        sample.entries(version)


def test_one_name_for_two_images(sample: Sample) -> None:
    sample.image("gateway", "test/engine:v1", {"other": b"x"})
    with pytest.raises(SpecError, match="two different images"):
        sample.entries()


def test_keys_that_look_alike_to_the_scripts(sample: Sample) -> None:
    sample.image("a-b", "test/a:1", {"a": b"1"})
    sample.image("a.b", "test/b:1", {"a": b"2"})
    with pytest.raises(SpecError, match="KIT_IMAGE_a_b"):
        sample.entries()


def test_configuration_that_is_not_the_locks(sample: Sample) -> None:
    lock = sample.lock()
    with pytest.raises(DigestMismatch, match=r"config/models\.json"):
        lay_out(lock, VERSION, sample.texts | {"config/models.json": b"other"}, ())
    assert lock.config["models.json"].sha256 != Digest.of(b"other")


def test_unknown_executable(sample: Sample) -> None:
    sample.executables = ("install.sh", "nothing.sh")
    with pytest.raises(SpecError, match=r"nothing\.sh"):
        sample.entries()
