"""The small files that make a folder of blobs into images: the OCI layout's, Docker's, and the facts for the scripts.

Rules: all of them follow from the lock; every image gets two names (its source's and the kit's own) and its bytes lie in the
layout once; a name that would mean two images is refused.
"""

from __future__ import annotations

import re
from typing import Any

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import image_bytes
from offline_kit.common.errors import SpecError
from offline_kit.spec.lock import Lock, LockedImage
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import ImageReference

_VERSION = {"imageLayoutVersion": "1.0.0"}
_RELEASE = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?(?![0-9])")
_KERNEL = re.compile(r"[0-9]{1,2}\.[0-9][af]?(\+PTX)?")


def names_of(key: str, image: LockedImage) -> list[str]:
    """The tags that the image gets on a host: its source's, where it has one, and the kit's own."""
    return [*([image.reference] if image.reference else []), image.tag(key)]


def layout_files(lock: Lock) -> dict[str, bytes]:
    """oci-layout, index.json and manifest.json of ``images/``, and the folder of each image below ``deploy/images``."""
    files = _layout(paths.IMAGES, dict(lock.images))
    for key, image in lock.images.items():
        folder = f"{paths.IMAGE_FACTS}/{key}"
        blobs = sorted({f"{_blob(item.digest.hex)}\n" for item in image.blobs()})
        files |= _layout(folder, {key: image})
        files[f"{folder}/files"] = "".join(blobs).encode()
        files[f"{folder}/expect"] = _expect(key, image).encode()
    return files


def _layout(folder: str, images: dict[str, LockedImage]) -> dict[str, bytes]:
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": _descriptors(images)}
    docker = [
        {
            "Config": _blob(image.config.digest.hex),
            "RepoTags": names_of(key, image),
            "Layers": [_blob(layer.digest.hex) for layer in image.layers],
        }
        for key, image in sorted(images.items())
    ]
    texts = {paths.LAYOUT: _VERSION, paths.INDEX: index, paths.DOCKER: docker}
    return {f"{folder}/{name}": canonical(data).encode() for name, data in texts.items()}


def _descriptors(images: dict[str, LockedImage]) -> list[dict[str, Any]]:
    """One entry a name: containerd and skopeo each look for exactly one name in an entry."""
    entries: dict[str, dict[str, Any]] = {}
    for key, image in sorted(images.items()):
        for name in names_of(key, image):
            full = _qualified(name)
            blob = image.manifest
            entry = {"mediaType": blob.media_type, "digest": str(blob.digest), "size": blob.size}
            entry |= {"annotations": {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": full}}
            if entries.setdefault(full, entry) != entry:
                raise SpecError(
                    f"{name} would name two different images", where=f"images.{key}", remedy="give one of them another tag"
                )
    return list(entries.values())


def _qualified(name: str) -> str:
    try:
        return str(ImageReference.parse(name))
    except ValueError as error:
        raise SpecError(str(error), remedy="use letters, digits and single '-', '_' or '.' in the image's key") from error


def _expect(key: str, image: LockedImage) -> str:
    lines = [f"NAME={image.reference or ''}", f"TAG={image.tag(key)}", f"CONFIG={image.config.digest}"]
    lines += [f"MANIFEST={image.manifest.digest}"]
    lines += [f"INDEX={image.index}"] if image.index else []
    lines += [f"SIZE={image_bytes(image)}"]
    # Of what an image says of itself, only what has the form that the host's scripts know.
    lines += [f"CUDA={match.group()}" for match in [_RELEASE.match(image.cuda or "")] if match]
    known = image.kernels and all(_KERNEL.fullmatch(item) for item in image.kernels)
    lines += [f"KERNELS={' '.join(image.kernels)}"] if known else []
    lines += [f"DIFF_ID={layer.diff_id}" for layer in image.layers]
    return "".join(f"{line}\n" for line in lines)


def _blob(hex_digits: str) -> str:
    return f"blobs/sha256/{hex_digits}"
