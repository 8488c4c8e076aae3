"""What all sources of images know about manifests and configurations.

Rules: a configuration is used only if it is one of an image for the wanted platform and names as many diff IDs as there are
layers; a manifest that we have to write ourselves follows from configuration and layers alone, so it can be written again
from the lock.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.spec.lock import Blob, Layer
from offline_kit.spec.names import ARCHITECTURES

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
MANIFESTS, INDEXES = (OCI_MANIFEST, DOCKER_MANIFEST), (OCI_INDEX, DOCKER_LIST)

_VARIABLES = re.compile(
    r"(?:\w+_)?VERSION|NVIDIA_REQUIRE_\w+|NVIDIA_DRIVER_CAPABILITIES|TORCH_CUDA_ARCH_LIST|VLLM_TARGET_DEVICE"
)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]{1,30}(?:Z|[+-]\d\d:\d\d)", re.ASCII)
_LABELS = re.compile(r"org\.opencontainers\.image\.\w+|[\w.-]*version")


@dataclass(frozen=True)
class Config:
    """What matters of an image configuration."""

    platform: str
    diff_ids: tuple[Digest, ...]
    environment: dict[str, str]
    created: str = ""


def read_config(data: bytes, platform: str, where: str) -> Config:
    """The configuration in ``data``. Raises SpecError when it is none, or one for another platform."""
    try:
        raw = parse_json(data)
        found = platform_of(raw)
        diff_ids = tuple(Digest(text) for text in raw["rootfs"]["diff_ids"])
        inner: dict[str, Any] = raw.get("config") or {}
        environment = {name: value for name, _, value in (text.partition("=") for text in inner.get("Env") or ())}
        labels = {name: value for name, value in (inner.get("Labels") or {}).items() if isinstance(value, str)}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError("its configuration is not that of a container image", where=where) from error
    if not matches(found, platform):
        raise SpecError(f"is an image for {found}, the manifest wants {platform}", where=where, remedy="correct 'platform'")
    facts = {name: value for name, value in environment.items() if _VARIABLES.fullmatch(name)}
    facts |= {name: value for name, value in labels.items() if _LABELS.fullmatch(name)}
    return Config(found, diff_ids, facts, _time(raw.get("created")))


def _time(value: Any) -> str:
    """RFC 3339, or nothing."""
    return value if isinstance(value, str) and _TIME.fullmatch(value) else ""


def platform_of(raw: dict[str, Any]) -> str:
    """``os/architecture[/variant]``, by Docker's names, of a configuration or of the ``platform`` of an index entry."""
    architecture = raw.get("architecture") or "unknown"
    parts = [raw.get("os") or "unknown", ARCHITECTURES.get(architecture, architecture), raw.get("variant") or ""]
    return "/".join(part for part in parts if part)


def matches(found: str, wanted: str) -> bool:
    """Whether an image for ``found`` runs on ``wanted``; every arm64 is v8, and amd64/v1 is plain amd64."""
    plain = {"linux/arm64/v8": "linux/arm64", "linux/amd64/v1": "linux/amd64"}.get(found, found)
    return plain == wanted


def pair(layers: Sequence[Any], config: Config, where: str) -> list[tuple[Any, Digest]]:
    """Each layer with its diff ID. Raises SpecError when their numbers differ."""
    if len(layers) != len(config.diff_ids):
        what = f"has {len(layers)} layers, its configuration names {len(config.diff_ids)}"
        raise SpecError(what, where=where, remedy="the image is inconsistent at its source: push or build it again")
    return list(zip(layers, config.diff_ids, strict=True))


def make_manifest(config: Blob, layers: Sequence[Layer]) -> bytes:
    """The OCI manifest, canonical, of an image whose own does not describe the layers as we carry them."""
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(config),
        "layers": [_descriptor(layer) for layer in layers],
    }
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def manifest_blob(data: bytes, media_type: str) -> Blob:
    """The descriptor of a manifest."""
    return Blob(digest=Digest.of(data), size=len(data), media_type=media_type)


def _descriptor(blob: Blob) -> dict[str, Any]:
    return {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
