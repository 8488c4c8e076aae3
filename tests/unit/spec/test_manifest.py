"""Manifests: what is accepted, and that each mistake gets its own line with file, line number and remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.cli.shared.options import policies
from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.project import open_project
from offline_kit.spec.manifest import parse_manifest, schema
from offline_kit.spec.names import ImageReference, safe_path
from tests.testbed.cache import REPOSITORY

GOOD = """\
apiVersion: offline-kit/v1
name: demo
images:
  engine: {source: "docker://docker.io/vllm/vllm-openai:v0.33.0"}
  gateway: {source: "docker://nginx:1.29-alpine"}
models:
  chat: {source: "hf://Qwen/Qwen2.5-32B-Instruct", revision: v1}
services: ../config/models.json
engine_config: ../config/vllm_config.yaml
"""
CHAT_ENTRY = '{source: "hf://Qwen/Qwen2.5-32B-Instruct", revision: v1}'
ENGINE_ENTRY = '{source: "docker://docker.io/vllm/vllm-openai:v0.33.0"}'


def complaint(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_manifest(text, "m.yaml")
    return str(caught.value)


def test_a_good_manifest_gets_safe_defaults() -> None:
    manifest = parse_manifest(GOOD, "m.yaml")
    assert manifest.platform == "linux/amd64"
    assert manifest.accelerator == "nvidia"
    assert not manifest.models["chat"].allow_pickle
    assert not manifest.images["engine"].insecure


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("name: demo", "nmae: demo"), "m.yaml, line 2: nmae: unknown key -> did you mean 'name'?"),
        (("name: demo\n", ""), "name: is required"),
        (("revision: v1", "revison: v1"), "m.yaml, line 7: models.chat.revison: unknown key -> did you mean 'revision'?"),
        (("revision: v1", "revision: ' '"), "m.yaml, line 7: models.chat.revision: is empty"),
        (
            ("hf://", "ftp://"),
            "m.yaml, line 7: models.chat.source: 'ftp://Qwen/Qwen2.5-32B-Instruct' is not a source of a model",
        ),
        (("nginx:1.29-alpine", "NGINX:1"), "m.yaml, line 5: images.gateway.source: not an image reference"),
        (
            ("  gateway:", "  proxy:"),
            "m.yaml, line 3: images: gateway missing: the kit needs an image for each of these, such as",
        ),
        (("  chat:", "  a..b:"), "models.a..b"),
        (("  chat:", "  a_.b:"), "models.a_.b"),
        (("  chat:", f"  {'k' * 49}:"), "at most 48 characters"),
        (
            ("models:\n", "models:\n  a-b: {source: 'dir:///x'}\n  a.b: {source: 'dir:///y'}\n"),
            "models: a-b and a.b would be one name for the scripts: rename one of them",
        ),
        (
            ("models:\n", "  x_y: {source: 'docker://x:1'}\n  x-y: {source: 'docker://y:1'}\nmodels:\n"),
            "images: x_y and x-y would be one name",
        ),
        (
            ("name: demo", "name: Demo Kit"),
            'm.yaml, line 2: name: "Demo Kit": lower case letters and digits, with . _ or - between',
        ),
        (("  chat:", "  Chat:"), 'm.yaml, line 7: models.Chat: "Chat": lower case letters and digits'),
        (("revision: v1", 'exclude: "*.md"'), 'models.chat.exclude: must be a list, such as ["*.md"]'),
        ((CHAT_ENTRY, '"dir:///x"'), 'm.yaml, line 7: models.chat: must be a mapping, such as {source: "dir:///x"}'),
        ((ENGINE_ENTRY, '"docker://x:1"'), 'images.engine: must be a mapping, such as {source: "docker://x:1"}'),
        (("services:", "target: 2x48GiB\nservices:"), 'line 8: target: must be a mapping, such as {gpus: "2x48GiB"}'),
        (("hf://Qwen/", "/data/"), "-> did you mean 'dir:///data/Qwen2.5-32B-Instruct'?"),
        (("hf://Qwen/", "file:///"), "-> did you mean 'dir:///Qwen2.5-32B-Instruct'?"),
        (("hf://Qwen/", "dir:/"), "-> did you mean 'dir:///Qwen2.5-32B-Instruct'?"),
        (("hf://Qwen/", "Qwen/"), "-> did you mean 'hf://Qwen/Qwen2.5-32B-Instruct'?"),
        (
            ("docker://nginx", "nginx"),
            "is not a source of an image; known: docker://, docker-daemon:// -> did you mean 'docker://nginx:",
        ),
        (("hf://Qwen/", "dir:///"), "models.chat: 'revision' has no meaning for a folder: leave it out"),
        (("  gateway:", "\tgateway:"), "-> blanks instead of tabs, as many as in the lines beside it"),
        (
            ("  gateway:", "   gateway:"),
            "line 5: not valid YAML: expected <block end>, but found '<block mapping start>' -> indent it",
        ),
        (("name: demo", "name: demo\nname: other"), "m.yaml, line 3: 'name' is given twice"),
        (("name: demo", "name: [demo"), "m.yaml, line 3: not valid YAML"),
        (("offline-kit/v1", "offline-kit/v9"), "m.yaml, line 1: apiVersion: "),
    ],
)
def test_each_mistake_is_named_with_its_line(change: tuple[str, str], expected: str) -> None:
    assert expected in complaint(GOOD.replace(*change))


def test_all_mistakes_are_named_at_once() -> None:
    text = complaint(GOOD.replace("name: demo", "nmae: demo").replace("hf://", "ftp://").replace("services:", "servces:"))
    assert text.splitlines()[0] == "5 mistakes in m.yaml:"
    assert len(text.splitlines()) == 6  # two unknown keys, two missing keys, one source


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_what_is_no_mapping_is_refused(text: str) -> None:
    assert "empty, or not a mapping" in complaint(text)


@pytest.mark.parametrize("charset", ["gb18030", "latin-1", "utf-16"])
def test_a_manifest_in_another_encoding_is_told(charset: str, tmp_path: Path) -> None:
    """Its names would silently become others."""
    letter = "中文" if charset == "gb18030" else "é"
    (tmp_path / "m.yaml").write_bytes(GOOD.replace("\n", f"\n# {letter}\n", 1).encode(charset))
    with pytest.raises(SpecError, match=r"m.yaml, line [12]: is not UTF-8 text -> save it as UTF-8"):
        open_project(tmp_path / "m.yaml")
    with pytest.raises(SpecError, match=r"m.yaml, line [12]: is not UTF-8 text"):
        policies(tmp_path / "m.yaml")


def test_the_committed_schema_is_current() -> None:
    assert (REPOSITORY / "manifests/manifest.schema.json").read_text() == schema(), "make schema"


def test_the_schema_knows_every_field() -> None:
    document = json.loads(schema())
    assert set(document["properties"]) == {
        "apiVersion", "name", "platform", "accelerator", "images", "models", "files", "services", "engine_config",
        "environment", "target", "policy", "scan",
    }  # fmt: skip
    assert document["additionalProperties"] is False


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/./b", "-rf", "a\nb", "a\\b", "a/"])
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a safe relative path"):
        safe_path(path)


def test_a_part_of_a_path_is_limited_in_bytes() -> None:
    assert safe_path("a/" + "ö" * 127) == "a/" + "ö" * 127
    with pytest.raises(ValueError, match="255 bytes"):
        safe_path("a/" + "ö" * 128)
    with pytest.raises(ValueError, match="not UTF-8"):
        safe_path("a\udcff")


@pytest.mark.parametrize(
    ("text", "whole", "tagged"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx:latest"),
        ("docker.io/vllm/vllm-openai:v1", "docker.io/vllm/vllm-openai:v1", "vllm/vllm-openai:v1"),
        ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1"),
        ("localhost/a:v1", "localhost/a:v1", "localhost/a:v1"),
        (f"quay.io/a@sha256:{'0' * 64}", f"quay.io/a@sha256:{'0' * 64}", None),
    ],
)
def test_image_references_get_dockers_defaults(text: str, whole: str, tagged: str | None) -> None:
    reference = ImageReference.parse(text)
    assert (str(reference), reference.tagged) == (whole, tagged)


@pytest.mark.parametrize("text", ["A/b", "a b", "a:", "a@sha256:12", "a:t:u", "", "a//b"])
def test_what_docker_would_not_take_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        ImageReference.parse(text)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "md5:" + "0" * 64])
def test_only_a_whole_lower_case_sha256_is_a_digest(text: str) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        Digest(text)


def test_equal_digests_are_one() -> None:
    assert len({Digest("0" * 64), Digest("sha256:" + "0" * 64), Digest.of(b"")}) == 2
