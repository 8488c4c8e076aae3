"""Small real things for the tests of the intake: images in every form, models with true safetensors, and where to put them."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import tarfile
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zstandard

from offline_kit.intake.transfer.http_client import TransferOptions
from offline_kit.spec.manifest import Manifest, parse_manifest
from tests.testbed.servers.hub import Hub

QUICK = TransferOptions(retries=3, backoff=0.01, connect_timeout=10, read_timeout=30)
IMPATIENT = dataclasses.replace(QUICK, read_timeout=1)  # for servers that fall silent
OCI, DOCKER = "application/vnd.oci.image", "application/vnd.docker"
TYPES = {
    "gzip": f"{OCI}.layer.v1.tar+gzip",
    "zstd": f"{OCI}.layer.v1.tar+zstd",
    "tar": f"{OCI}.layer.v1.tar",
    "docker": f"{DOCKER}.image.rootfs.diff.tar.gzip",
    "foreign": f"{OCI}.layer.nondistributable.v1.tar+gzip",
}


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these files, always the same bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def packed(data: bytes, form: str) -> bytes:
    """A layer in one of the forms of TYPES."""
    if form == "zstd":
        return zstandard.ZstdCompressor().compress(data)
    return data if form == "tar" else gzip.compress(data, mtime=0)


@dataclasses.dataclass
class Image:
    """An image and its blobs, ready to be pushed."""

    tars: list[bytes]
    config: bytes
    manifest: bytes
    media_type: str
    blobs: dict[str, bytes]


def image(
    *forms: str,
    content: str = "",
    architecture: str = "amd64",
    diff_ids: list[str] | None = None,
    files: dict[str, bytes] | None = None,
) -> Image:
    """An image with one layer for each of ``forms``; ``diff_ids`` overrides what its configuration says; ``files`` are in each
    layer."""
    tars = [tar({f"file{number}": f"{content}{number}".encode() * 30_000, **(files or {})}) for number in range(len(forms))]
    inner = {"Env": ["PATH=/bin", "CUDA_VERSION=12.8.1", "SECRET=x"], "Labels": {"org.opencontainers.image.version": "22.04"}}
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": inner,
            "rootfs": {"type": "layers", "diff_ids": diff_ids or [digest(item) for item in tars]},
        }
    ).encode()
    layers = [packed(data, form) for data, form in zip(tars, forms, strict=True)]
    schema2 = "docker" in forms
    media_type = f"{DOCKER}.distribution.manifest.v2+json" if schema2 else f"{OCI}.manifest.v1+json"
    config_type = f"{DOCKER}.container.image.v1+json" if schema2 else f"{OCI}.config.v1+json"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": config_type, "digest": digest(config), "size": len(config)},
            "layers": [
                {"mediaType": TYPES[form], "digest": digest(data), "size": len(data)}
                for form, data in zip(forms, layers, strict=True)
            ],
        }
    ).encode()
    return Image(tars, config, manifest, media_type, {digest(data): data for data in [config, *layers]})


def index(*images: tuple[str, Image]) -> tuple[bytes, str]:
    """An OCI index over (architecture, image), with an attestation as real ones have, and its media type."""
    entries: list[dict[str, Any]] = [
        {
            "mediaType": item.media_type,
            "digest": digest(item.manifest),
            "size": len(item.manifest),
            "platform": {"os": "linux", "architecture": architecture},
        }
        for architecture, item in images
    ]
    entries.append({**entries[0], "platform": {"os": "unknown", "architecture": "unknown"}})
    media_type = f"{OCI}.index.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}).encode(), media_type


def docker_archive(item: Image, name: str) -> bytes:
    """What ``docker load`` reads: manifest.json, configuration and plain layers."""
    listing = [{"Config": "config.json", "RepoTags": [name], "Layers": [f"{n}/layer.tar" for n in range(len(item.tars))]}]
    layers = {f"{number}/layer.tar": data for number, data in enumerate(item.tars)}
    return tar({**layers, "config.json": item.config, "manifest.json": json.dumps(listing).encode()})


def push(url: str, repository: str, tag: str, item: Image) -> str:
    """Pushes an image; the digest of its manifest."""
    for name, data in item.blobs.items():
        with _ask(f"{url}/v2/{repository}/blobs/uploads/", "POST", b"") as reply:
            place = reply.headers["Location"]
        _ask(f"{place}{'&' if '?' in place else '?'}digest={name}", "PUT", data).close()
    return push_manifest(url, repository, tag, item.manifest, item.media_type)


def push_manifest(url: str, repository: str, tag: str, data: bytes, media_type: str) -> str:
    _ask(f"{url}/v2/{repository}/manifests/{tag}", "PUT", data, media_type).close()
    return digest(data)


def _ask(url: str, method: str, data: bytes, kind: str = "application/octet-stream") -> Any:
    request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": kind})
    return urllib.request.urlopen(request, timeout=10)


def safetensors(tensors: Mapping[str, bytes]) -> bytes:
    """A true safetensors file of U8 tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, data in tensors.items():
        header[name] = {"dtype": "U8", "shape": [len(data)], "data_offsets": [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(tensors.values())


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """The folder, holding these files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def manifest(images: Mapping[str, Any] | None = None, models: Mapping[str, Any] | None = None) -> Manifest:
    """A manifest with these entries; without images, with two that nobody resolves."""
    nowhere = {"source": "docker://127.0.0.1:1/none:none"}
    content = {
        "apiVersion": "offline-kit/v1",
        "name": "test",
        "images": {"engine": nowhere, "gateway": nowhere, **(images or {})},
        "models": dict(models or {}),
        "services": "models.json",
        "engine_config": "vllm_config.yaml",
    }
    return parse_manifest(json.dumps(content), "test.yaml")


def settle(source: Hub) -> None:
    """Waits until the hub has noticed who is gone: only then an answer that nobody wanted any more is in its log."""
    deadline = time.monotonic() + 10
    while source.busy:
        assert time.monotonic() < deadline
        time.sleep(0.02)
