"""An image is complete: its manifest reaches every blob, and its configuration names the layers that the lock promises.

Rules: manifest and configuration are read as the bytes that lie in the layout, never as the lock describes them; layers are not
inflated (their digests are proven, and an engine proves their content when it loads them).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from offline_kit.bundle.format import paths
from offline_kit.bundle.read.observed import DESCRIPTION_AT_MOST, Seen
from offline_kit.common.json_text import parse_json
from offline_kit.spec.lock import Blob, LockedImage
from offline_kit.spec.names import ARCHITECTURES


def check(image: LockedImage, platform: str, files: Mapping[str, Seen]) -> Iterator[tuple[str, str]]:
    """What is wrong with the image, each with the path of the file that shows it. Missing blobs are found elsewhere."""
    place, manifest = _read(image.manifest, files)
    if manifest is not None:
        config, layers = manifest.get("config"), manifest.get("layers")
        if _pair(config) != _expected(image.config):
            yield place, "its configuration is not the lock's"
        if not isinstance(layers, list) or [_pair(layer) for layer in layers] != [_expected(layer) for layer in image.layers]:
            yield place, "its layers are not the lock's"
    place, config = _read(image.config, files)
    if config is not None:
        root = config.get("rootfs")
        if not isinstance(root, dict) or root.get("diff_ids") != [str(layer.diff_id) for layer in image.layers]:
            yield place, "its diff IDs are not the lock's"
        named = config.get("architecture")
        known = ARCHITECTURES.get(named, named) if isinstance(named, str) else named
        if [config.get("os"), known] != platform.split("/")[:2]:
            yield place, f"is made for {config.get('os')}/{config.get('architecture')}, not for {platform}"
        if image.created not in ("", config.get("created")) or not _variables(config.get("config")).issuperset(
            image.environment.items()
        ):
            yield place, "its time or its variables are not the lock's"


def _variables(config: Any) -> set[tuple[str, str]]:
    """The variables and labels of an image configuration; none where it has another form."""
    inner = config if isinstance(config, dict) else {}
    variables, labels = inner.get("Env"), inner.get("Labels")
    pairs = [text.partition("=")[::2] for text in variables if isinstance(text, str)] if isinstance(variables, list) else []
    return (
        {*pairs, *((name, value) for name, value in labels.items() if isinstance(value, str))}
        if isinstance(labels, dict)
        else {*pairs}
    )


def _read(blob: Blob, files: Mapping[str, Seen]) -> tuple[str, dict[str, Any] | None]:
    """The path and the JSON object of a blob; None where its bytes are already known to be wrong."""
    path = paths.blob(blob.digest)
    seen = files.get(path)
    if seen is not None and seen.size > DESCRIPTION_AT_MOST:
        return path, {}  # no registry takes one of this size, and nobody could check it
    if seen is None or seen.content is None or seen.digest != blob.digest:
        return path, None
    try:
        document = parse_json(seen.content)
    except ValueError:
        document = None
    return path, document if isinstance(document, dict) else {}


def _pair(descriptor: Any) -> tuple[Any, Any]:
    return (descriptor.get("digest"), descriptor.get("size")) if isinstance(descriptor, dict) else (None, None)


def _expected(blob: Blob) -> tuple[str, int]:
    return str(blob.digest), blob.size
