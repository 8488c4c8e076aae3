"""``docker://``: images of a registry, without a Docker engine.

Rules: a tag is resolved once, here; of an index the one image for the wanted platform is taken; gzip layers are kept byte for
byte, zstd and uncompressed ones are converted at resolve time and proven by diff ID; layers that the registry does not hold
itself are refused.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from offline_kit.digest import Digest
from offline_kit.errors import DigestMismatch, SpecError
from offline_kit.intake import crew, layers
from offline_kit.intake.sources import image
from offline_kit.intake.sources.base import Context, Piece
from offline_kit.intake.sources.distribution import Repository
from offline_kit.intake.transfer import Advance, download, read_back
from offline_kit.spec.lock import Blob, Layer, LockedImage
from offline_kit.spec.manifest import ImageSpec

_KEPT = (image.OCI_GZIP, image.DOCKER_GZIP)
_CONVERTED = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_DEPTH = 3  # an index may point to an index, but not for ever


class RegistrySource:
    """Images of a registry."""

    def resolve(self, key: str, entry: ImageSpec, wanted: Digest, context: Context) -> LockedImage:
        """Raises KitError."""
        repository = Repository(entry.reference, context.line, insecure=entry.insecure)
        name = str(entry.reference)
        data, media_type, index = self._choose(repository, entry, context.platform)
        manifest = image.manifest_blob(data, media_type)
        try:
            content = json.loads(data)
            described, raw_layers = _blob(content["config"]), content["layers"]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpecError("its manifest is not that of an image", where=name) from error
        if described.media_type not in (image.OCI_CONFIG, image.DOCKER_CONFIG):
            raise SpecError(f"is no container image but {described.media_type}", where=name)
        download(context.line, context.store, repository.blob(described.digest, described.size, f"{name} configuration"))
        config = image.read_config(read_back(context.store, described.digest), context.platform, name)
        paired = image.pair([_layer_blob(raw, name) for raw in raw_layers], config, name)
        work = [functools.partial(self._layer, repository, blob, diff_id, name, context) for blob, diff_id in paired]
        found = tuple(crew.run(work, context.jobs, context.line.stop))
        if any(layer.origin for layer in found):
            described = described.model_copy(update={"media_type": image.OCI_CONFIG})
            data = image.synthesise(described, found)
            manifest = image.manifest_blob(data, image.OCI_MANIFEST)
        context.store.put(data)
        return LockedImage(
            wanted=wanted,
            source=entry.source,
            reference=entry.reference.tagged,
            index=index,
            manifest=manifest,
            config=described,
            layers=found,
            environment=config.environment,
        )

    def pieces(self, key: str, locked: LockedImage, entry: ImageSpec, context: Context) -> list[Piece]:
        """What of the image the store lacks."""
        repository = Repository(entry.reference, context.line, insecure=entry.insecure)
        missing = {blob.digest: blob for blob in locked.blobs() if not context.store.has(blob.digest, blob.size)}
        found = []
        for blob in missing.values():
            title = f"{key}: {_kind(blob, locked)} {blob.digest.short}"
            bring = functools.partial(self._bring, repository, locked, blob, title, context)
            found.append(Piece(str(blob.digest), title, blob.size, bring))
        return found

    def _choose(self, repository: Repository, entry: ImageSpec, platform: str) -> tuple[bytes, str, Digest | None]:
        """Bytes and type of the platform's manifest, and the digest of the index that it was chosen from."""
        name = str(entry.reference)
        target = entry.reference.digest or entry.reference.tag or "latest"
        data, media_type = repository.manifest(target)
        passed, index = [Digest.of(data)], None
        for _ in range(_DEPTH):
            content = _parse(data, name)
            media_type = content.get("mediaType") or media_type
            if media_type not in image.INDEXES and "manifests" not in content:
                break
            index = index or Digest.of(data)
            digest = _for_platform(content, platform, name)
            data, media_type = repository.manifest(str(digest))
            passed.append(digest)
        if _parse(data, name).get("schemaVersion") != 2 or media_type not in image.MANIFESTS:
            raise SpecError(f"its manifest is of a kind that no current Docker uses ({media_type})", where=name)
        if entry.digest is not None and entry.digest not in passed:
            what = f"has digest {' or '.join(str(digest) for digest in passed)}, the manifest demands {entry.digest}"
            raise DigestMismatch(what, where=name, remedy="correct 'digest', or find out why the tag has moved")
        return data, media_type, index

    def _layer(self, repository: Repository, blob: Blob, diff_id: Digest, name: str, context: Context) -> Layer:
        """The layer as the bundle carries it."""
        if blob.media_type in _KEPT:
            return Layer(**blob.model_dump(), diff_id=diff_id)
        made = layers.converted(context.store, diff_id)
        if made is None:
            title = f"{name}: layer {blob.digest.short}"
            with context.progress.task(title, blob.size) as task:
                made = _convert(repository, blob, diff_id, title, context, task.advance)
            context.progress.note(f"{title}: converted to gzip")
        return Layer(digest=made[0], size=made[1], media_type=image.OCI_GZIP, diff_id=diff_id, origin=blob)

    def _bring(
        self, repository: Repository, locked: LockedImage, blob: Blob, title: str, context: Context, advance: Advance
    ) -> None:
        """Runs one piece."""
        made = None
        if isinstance(blob, Layer) and blob.origin is not None:
            made = _convert(repository, blob.origin, blob.diff_id, title, context, lambda amount: None)[0]
        elif blob.digest == locked.manifest.digest and any(layer.origin for layer in locked.layers):
            made = context.store.put(image.synthesise(locked.config, locked.layers))
        elif blob.digest == locked.manifest.digest:
            item = repository.manifest_by_digest(blob.digest, blob.size, title)
            download(context.line, context.store, item, advance)
        else:
            download(context.line, context.store, repository.blob(blob.digest, blob.size, title), advance)
        if made is not None:
            advance(blob.size)
            if made != blob.digest:
                what = f"was made as {made}, the lock says {blob.digest}"
                raise DigestMismatch(what, where=title, remedy="made by another version or machine: run 'offline-kit lock'")


def _convert(
    repository: Repository, origin: Blob, diff_id: Digest, title: str, context: Context, advance: Advance
) -> tuple[Digest, int]:
    """Digest and size of the gzip form of ``origin``, which is not kept."""
    store = context.store
    download(context.line, store, repository.blob(origin.digest, origin.size, title), advance)
    _, digest, size = layers.compress(store, layers.unpacked(store.path(origin.digest), title), diff_id, title)
    store.evict(origin.digest)
    return digest, size


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise SpecError("the registry's answer is not a manifest", where=name) from error
    if not isinstance(content, dict):
        raise SpecError("the registry's answer is not a manifest", where=name)
    return content


def _for_platform(index: dict[str, Any], platform: str, name: str) -> Digest:
    """The digest of the image for ``platform``; attestations, which have platform unknown/unknown, are none."""
    offered = []
    try:
        for item in index["manifests"]:
            found = image.platform_of(item.get("platform") or {})
            if image.matches(found, platform):
                return Digest(item["digest"])
            offered.append(found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError("its index cannot be read", where=name) from error
    shown = ", ".join(sorted({item for item in offered if "unknown" not in item})) or "none"
    raise SpecError(f"has no image for {platform}; it has: {shown}", where=name, remedy="choose another tag or 'platform'")


def _blob(raw: dict[str, Any]) -> Blob:
    return Blob(digest=Digest(raw["digest"]), size=raw["size"], media_type=raw["mediaType"])


def _layer_blob(raw: dict[str, Any], name: str) -> Blob:
    try:
        blob = _blob(raw)
    except (ValueError, TypeError, KeyError) as error:
        raise SpecError("its manifest is not that of an image", where=name) from error
    if "foreign" in blob.media_type or "nondistributable" in blob.media_type:
        what = f"layer {blob.digest.short} is not held by the registry ({blob.media_type})"
        raise SpecError(what, where=name, remedy="its licence forbids to pass it on: use an image without such layers")
    if blob.media_type not in (*_KEPT, *_CONVERTED):
        raise SpecError(f"layer {blob.digest.short} is of an unknown kind: {blob.media_type}", where=name)
    return blob


def _kind(blob: Blob, locked: LockedImage) -> str:
    return {locked.manifest.digest: "manifest", locked.config.digest: "configuration"}.get(blob.digest, "layer")
