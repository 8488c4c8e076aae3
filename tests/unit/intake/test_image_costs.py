"""What an image of a hostile registry or engine may cost, and what its odd documents are called."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DigestMismatch, DockerError, KitError, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.sources.base import Context
from offline_kit.intake.sources.export import read_export
from offline_kit.intake.sources.image_layers import unpacked
from offline_kit.intake.sources.registry import RegistrySource
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient
from offline_kit.spec.manifest import ImageSpec
from tests.support import intake_samples as samples
from tests.support.loopback import Registry, Request, serving


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    with HttpClient(samples.QUICK) as client:
        yield Context(Store(tmp_path / "store"), client, tmp_path, "linux/amd64", Silent())


def lock(context: Context, registry: Callable[[Request], object]) -> None:
    with serving(registry) as url:
        source = f"docker://{url.removeprefix('http://')}/app:1"
        RegistrySource().resolve("app", ImageSpec(source=source), Digest.of(b""), context)


def test_an_honest_image(context: Context) -> None:
    lock(context, Registry())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"<html>please log in</html>", "not a manifest: line 1.*login page"),
        (lambda content: b"[" * 100_000, "not a manifest: is nested too deeply"),
        (lambda content: b'{"schemaVersion":' + b"1" * 5000 + b"}", "number too long"),
        (lambda content: [1], "not a manifest"),
        (lambda content: content.update(layers=None), "not that of an image"),
        (lambda content: content.update(layers={"a": 1}), "not that of an image"),
        (lambda content: content.update(layers=[1]), "not that of an image"),
        (lambda content: content["layers"][0].update(size="12"), "not that of an image"),
        (lambda content: content["layers"][0].update(digest=["x"]), "not that of an image"),
        (lambda content: content["config"].update(size=1 << 30), "said to have 1073741824 bytes"),
        (lambda content: content.update(mediaType={"a": 1}), "no current Docker uses"),
    ],
)
def test_a_manifest_that_is_none(context: Context, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    registry = Registry(change)
    with pytest.raises(SpecError, match=said):
        lock(context, registry)
    assert not [path for path in registry.asked if "/blobs/" in path], "nothing was fetched for it"


@pytest.mark.parametrize(
    "answer",
    [b'{"token": ["a"]}', b'{"token": "a\\r\\nX: y"}', b'{"token": "\xe2\x80\xa8"}', b"[]", b"<html>", b'{"token": 5}'],
)
def test_a_token_that_cannot_stand_in_a_header(context: Context, answer: bytes) -> None:
    def registry(request: Request) -> None:
        if request.path.startswith("/token"):
            request.reply(answer)
        else:
            realm = f'Bearer realm="http://{request.headers["Host"]}/token"'
            request.reply(b"", 401 if "/manifests/" in request.path else 200, {"WWW-Authenticate": realm})

    with pytest.raises(AccessDenied, match="gave no token that can be used"):
        lock(context, registry)


@pytest.mark.parametrize(
    "realm", ["https://[", "file:///etc/passwd", "https://joe:x@a.example/", "https://a.example\\@b.example/"]
)
def test_a_token_service_that_is_no_address(context: Context, realm: str) -> None:
    def registry(request: Request) -> None:
        request.reply(b"", 401 if "/manifests/" in request.path else 200, {"WWW-Authenticate": f'Bearer realm="{realm}"'})

    with pytest.raises(AccessDenied, match="the URL of its token service"):
        lock(context, registry)


# Layers --------------------------------------------------------------------------------------------------------------------


def run_of_zeros(gibibytes: int) -> bytes:
    """A zstd frame of a few bytes for each 128 KiB of zeros."""
    block = (131072 << 3) | (1 << 1)
    count = gibibytes << 13
    inner = struct.pack("<I", block)[:3] + b"\0"
    return bytes.fromhex("28b52ffd0058") + inner * (count - 1) + struct.pack("<I", block | 1)[:3] + b"\0"


@pytest.mark.parametrize("form", ["zstd", "gzip"])
def test_a_layer_that_unpacks_without_end_is_given_up(tmp_path: Path, form: str) -> None:
    path = tmp_path / "layer"
    path.write_bytes(run_of_zeros(16) if form == "zstd" else gzip.compress(bytes(16 << 20), 9) * 80)
    with pytest.raises(DigestMismatch, match=f"the {form} layer unpacks to more than 200 times its size"):
        for _ in unpacked(path, "layer"):
            pass


def test_a_window_of_gigabytes_is_not_allocated(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=31, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "layer").write_bytes(compressor.compress(b"x" * 1000) + compressor.flush())
    with pytest.raises(DigestMismatch, match=r"cannot be unpacked.*a window of at most 128 MiB"):
        list(unpacked(tmp_path / "layer", "layer"))


def test_the_window_of_zstd_s_own_long_mode_is_understood(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, enable_ldm=True)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    (tmp_path / "layer").write_bytes(compressor.compress(b"x" * 1000) + compressor.flush())
    assert b"".join(bytes(piece) for piece in unpacked(tmp_path / "layer", "layer")) == b"x" * 1000


# What an engine exports ----------------------------------------------------------------------------------------------------


def export(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        export(**{"manifest.json": b"null"}),
        export(**{"manifest.json": b"[" * 100_000}),
        export(**{"manifest.json": b'[{"Config": 5, "Layers": 7}]'}),
        export(**{"index.json": b'{"manifests": [{"platform": []}]}'}),
        export(**{"blobs/sha256/not-a-digest": b'{"a": 1}'}),
        export(),
        b"no tar at all" * 100,
    ],
)
def test_an_export_that_is_none_is_the_engine_s_fault(context: Context, archive: bytes) -> None:
    with pytest.raises(KitError) as caught:
        read_export(iter([archive]), "app:1", context)
    assert isinstance(caught.value, DockerError) and "export" in caught.value.what


def test_documents_of_an_export_have_a_budget(context: Context) -> None:
    documents = {f"{number}.json": b'{"a": "' + b"x" * (7 << 20) + b'"}' for number in range(12)}
    stream = io.BytesIO(export(**documents))
    with pytest.raises(DockerError, match="more bytes that are held in memory"):
        read_export(iter(lambda: stream.read(1 << 20), b""), "app:1", context)
