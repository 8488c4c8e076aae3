"""What a registry gets of a kit: its images as they are, each model in two forms, and the papers of the kit.

Rules: pure but for the digests of tar layers; the same lock and version give the same manifests; an image keeps the bytes of
its manifest and so its digest; the blobs of a ModelPack artifact are the files of the model, so that their digests are
those of the lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from offline_kit.bundle.format import paths
from offline_kit.common.digest import Digest
from offline_kit.publish.content import Content, File, tar_of
from offline_kit.spec.lock import Blob, LockedImage, LockedModel
from offline_kit.spec.manifest import WEIGHTS

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
MODEL_PACK = "application/vnd.cncf.model."
KIT_TYPE = "application/vnd.offline-kit.kit.v1+json"
GROUP = 5_000_000_000  # bytes of a layer, where no single file is larger
_SMALL = 16 << 20
_LAYERS_AT_MOST = 100  # container engines mount about 120
_EMPTY = b"{}"


@dataclass(frozen=True)
class Pushed:
    """A blob with its bytes."""

    digest: Digest
    content: Content

    @property
    def size(self) -> int:
        return self.content.size


@dataclass(frozen=True)
class Artifact:
    """What one tag of one repository names. ``form``: image, modelcar, modelpack or kit."""

    form: str
    key: str
    repository: str
    tag: str
    manifest: bytes
    media_type: str
    blobs: tuple[Pushed, ...]

    @property
    def digest(self) -> Digest:
        return Digest.of(self.manifest)


def image_artifact(key: str, image: LockedImage, manifest: bytes, tag: str) -> Artifact:
    """The image with the manifest that it has."""
    blobs = {blob.digest: _pushed(blob) for blob in (image.config, *image.layers)}
    return Artifact("image", key, f"images/{key}", tag, manifest, image.manifest.media_type, tuple(blobs.values()))


def layers_of(key: str, model: LockedModel, group: int = GROUP) -> tuple[Content, ...]:
    """The model as tar layers with its files below /models: small ones together, then shards, up to ``group`` bytes each."""
    files = [_file(key, file.path, file.size, file.sha256) for file in model.files]
    files.sort(key=lambda file: file.path.encode())
    while len(groups := list(_grouped(files, group))) > _LAYERS_AT_MOST:
        group *= 2
    start = len(paths.model_file(key, ""))
    return tuple(tar_of([(f"models/{file.path[start:]}", file) for file in files]) for files in groups)


def modelcar(key: str, model: LockedModel, layers: Sequence[Pushed], platform: str, tag: str) -> Artifact:
    """The model as an image that holds its files and nothing else."""
    system, _, architecture = platform.partition("/")
    config = _json({
        "architecture": architecture.partition("/")[0],
        "config": {"Labels": _labels(model)},
        "os": system,
        "rootfs": {"diff_ids": [str(layer.digest) for layer in layers], "type": "layers"},
    })  # fmt: skip
    manifest = _json({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _described(config, OCI_CONFIG),
        "layers": [_descriptor(layer, OCI_TAR) for layer in layers], "annotations": _labels(model),
    })  # fmt: skip
    return Artifact("modelcar", key, f"models/{key}", tag, manifest, OCI_MANIFEST, (_text(config), *layers))


def model_pack(key: str, model: LockedModel, tag: str) -> Artifact:
    """The model as a ModelPack artifact: each file is a blob."""
    files = sorted(model.files, key=lambda file: file.path.encode())
    config = _json({
        "config": {"format": "safetensors" if any(file.path.endswith(".safetensors") for file in files) else "other"},
        "descriptor": {"name": key, "sourceURL": model.source, **({"revision": model.commit} if model.commit else {})},
        "modelfs": {"diffIds": [str(file.sha256) for file in files], "type": "layers"},
    })  # fmt: skip
    blobs = {file.sha256: Pushed(file.sha256, Content((_file(key, file.path, file.size, file.sha256),))) for file in files}
    layers = [
        {
            **_descriptor(blobs[file.sha256], f"{MODEL_PACK}{_kind(file.path)}.v1.raw"),
            "annotations": {"org.cncf.model.filepath": file.path, "org.opencontainers.image.title": file.path},
        }
        for file in files
    ]
    manifest = _json({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": f"{MODEL_PACK}manifest.v1+json",
        "config": _described(config, f"{MODEL_PACK}config.v1+json"), "layers": layers, "annotations": _labels(model),
    })  # fmt: skip
    own = (_text(config), *blobs.values())
    return Artifact("modelpack", key, f"models/{key}", f"{tag}-modelpack", manifest, OCI_MANIFEST, own)


def kit_artifact(files: Sequence[File], tag: str) -> Artifact:
    """The papers of the kit: its sums, what it is, its lock, bill of materials and provenance; no signatures."""
    blobs = {file.sha256: Pushed(file.sha256, Content((file,))) for file in files}
    layers = [
        {
            **_descriptor(blobs[file.sha256], "application/json" if file.path.endswith(".json") else "text/plain"),
            "annotations": {"org.opencontainers.image.title": file.path},
        }
        for file in files
    ]
    manifest = _json({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "artifactType": KIT_TYPE,
        "config": _described(_EMPTY, "application/vnd.oci.empty.v1+json"), "layers": layers,
    })  # fmt: skip
    return Artifact("kit", "kit", "kit", tag, manifest, OCI_MANIFEST, (_text(_EMPTY), *blobs.values()))


def _grouped(files: Sequence[File], group: int) -> Iterator[list[File]]:
    """Small files, which change more often than weights, in a layer of their own."""
    if small := [file for file in files if file.size < _SMALL]:
        yield small
    waiting: list[File] = []
    for file in files:
        if file.size < _SMALL:
            continue
        if waiting and sum(item.size for item in waiting) + file.size > group:
            yield waiting
            waiting = []
        waiting.append(file)
    if waiting:
        yield waiting


def _kind(path: str) -> str:
    """What ModelPack calls a file."""
    if path.endswith(WEIGHTS):
        return "weight"
    return "doc" if path.endswith((".md", ".txt", ".pdf")) or path.rpartition("/")[2].startswith("LICENSE") else "weight.config"


def _file(key: str, path: str, size: int, sha256: Digest) -> File:
    return File(paths.model_file(key, path), size, sha256)


def _labels(model: LockedModel) -> dict[str, str]:
    revision = {"org.opencontainers.image.revision": model.commit} if model.commit else {}
    return {**revision, "org.opencontainers.image.source": model.source}


def _pushed(blob: Blob) -> Pushed:
    return Pushed(blob.digest, Content((File(paths.blob(blob.digest), blob.size, blob.digest),)))


def _text(data: bytes) -> Pushed:
    return Pushed(Digest.of(data), Content((data,)))


def _described(data: bytes, media_type: str) -> dict[str, str | int]:
    return _descriptor(_text(data), media_type)


def _descriptor(blob: Pushed, media_type: str) -> dict[str, str | int]:
    return {"mediaType": media_type, "digest": str(blob.digest), "size": blob.size}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
