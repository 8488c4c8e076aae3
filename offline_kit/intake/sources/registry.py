"""``docker://``: images of a registry, without a Docker engine.

Rules: a tag is resolved once, here; of an index the one image for the wanted platform is taken; gzip layers are kept byte for
byte and proven by diff ID while they are fetched, zstd and uncompressed ones are converted at resolve time and proven likewise;
layers that the registry does not hold itself are refused.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from offline_kit.common import concurrency
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, SpecError
from offline_kit.common.json_text import parse_json
from offline_kit.intake.sources import image, image_layers
from offline_kit.intake.sources.base import Context, FetchTask, ImageSource
from offline_kit.intake.sources.registry_api import Repository
from offline_kit.intake.transfer.download import Advance, download, read_back
from offline_kit.spec.lock import Blob, Layer, LockedImage
from offline_kit.spec.manifest import ImageSpec

_KEPT = (image.OCI_GZIP, image.DOCKER_GZIP)
_CONVERTED = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_REFERRER = "vnd.docker.reference.type"
_MOST_UNMARKED = 16  # entries without a platform whose configurations are read
_DEPTH = 3  # an index may point to an index, but not for ever


class RegistrySource:
    """Images of a registry."""

    def resolve(self, key: str, entry: ImageSpec, digest: Digest, context: Context) -> LockedImage:
        """Raises KitError."""
        repository = Repository(entry.reference, context.client, insecure=entry.insecure)
        name = str(entry.reference)
        data, media_type, index = self._choose(repository, entry, context)
        manifest = image.manifest_blob(data, media_type)
        try:
            content = parse_json(data)
            described, raw_layers = _blob(content["config"]), content["layers"]
            if not isinstance(raw_layers, list):
                raise TypeError("layers that are no list")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise SpecError("its manifest is not that of an image", where=name) from error
        if described.media_type not in (image.OCI_CONFIG, image.DOCKER_CONFIG):
            raise SpecError(f"is no container image but {described.media_type}", where=name)
        _check_small(described, name)
        layers = [_layer_blob(raw, name) for raw in raw_layers]
        download(context.client, context.store, repository.blob(described.digest, described.size, f"{name} configuration"))
        config = image.read_config(read_back(context.store, described.digest), context.platform, name)
        paired = image.pair(layers, config, name)
        work = [functools.partial(self._layer, repository, blob, diff_id, name, context) for blob, diff_id in paired]
        found = tuple(concurrency.run_all(work, context.jobs, context.client.stop))
        if any(layer.origin for layer in found):
            described = described.model_copy(update={"media_type": image.OCI_CONFIG})
            data = image.make_manifest(described, found)
            manifest = image.manifest_blob(data, image.OCI_MANIFEST)
        context.store.put(data)
        return LockedImage(
            spec_digest=digest,
            source=entry.source,
            reference=entry.reference.tagged,
            index=index,
            manifest=manifest,
            config=described,
            layers=found,
            environment=config.environment,
            created=config.created,
        )

    def pieces(self, key: str, locked: LockedImage, entry: ImageSpec, context: Context) -> list[FetchTask]:
        """What of the image the store lacks."""
        repository = Repository(entry.reference, context.client, insecure=entry.insecure)
        missing = {blob.digest: blob for blob in locked.blobs() if not _is_stored(blob, context)}
        found = []
        for blob in missing.values():
            title = f"{key}: {_kind(blob, locked)} {blob.digest.short}"
            bring = functools.partial(self._bring, repository, locked, blob, title, context)
            room = 0 if context.store.has(blob.digest, blob.size) else blob.size - context.store.partial_size(blob.digest)
            found.append(FetchTask(str(blob.digest), title, blob.size, bring, room))
        return found

    def _choose(self, repository: Repository, entry: ImageSpec, context: Context) -> tuple[bytes, str, Digest | None]:
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
            digest = _for_platform(content, context.platform, name) or self._search(repository, content, name, context)
            data, media_type = repository.manifest(str(digest))
            passed.append(digest)
        content = _parse(data, name)
        media_type = content.get("mediaType") or _kind_by_content(content) or media_type
        if content.get("schemaVersion") != 2 or media_type not in image.MANIFESTS:
            remedy = "push the image again with a current Docker, or take another tag"
            raise SpecError(f"its manifest is of a kind that no current Docker uses ({media_type})", where=name, remedy=remedy)
        if entry.digest is not None and entry.digest not in passed:
            what = f"has digest {' or '.join(str(digest) for digest in passed)}, the manifest demands {entry.digest}"
            raise DigestMismatch(what, where=name, remedy="correct 'digest', or find out why the tag has moved")
        return data, media_type, index

    def _search(self, repository: Repository, index: dict[str, Any], name: str, context: Context) -> Digest:
        """The entry for the wanted platform among those without one (some tools write none), by their configurations."""
        offered = []
        for digest in _without_platform(index)[:_MOST_UNMARKED]:
            content = _parse(repository.manifest(str(digest))[0], name)
            if "manifests" in content:
                return digest
            found = _configured_platform(repository, content, name, context)
            if image.matches(found, context.platform):
                return digest
            offered.append(found)
        raise _no_image(offered, context.platform, name)

    def _layer(self, repository: Repository, blob: Blob, diff_id: Digest, name: str, context: Context) -> Layer:
        """The layer as the bundle carries it."""
        if blob.media_type in _KEPT:
            return Layer(**blob.model_dump(), diff_id=diff_id)
        made = image_layers.converted(context.store, diff_id)
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
            made = context.store.put(image.make_manifest(locked.config, locked.layers))
        elif blob.digest == locked.manifest.digest:
            item = repository.manifest_by_digest(blob.digest, blob.size, title)
            download(context.client, context.store, item, advance)
        elif isinstance(blob, Layer):
            _bring_layer(repository, blob, title, locked.source, context, advance)
        else:
            download(context.client, context.store, repository.blob(blob.digest, blob.size, title), advance)
        if made is not None:
            advance(blob.size)
            if made != blob.digest:
                what = f"was made as {made}, the lock says {blob.digest}"
                raise DigestMismatch(what, where=title, remedy="made by another version or machine: run 'offline-kit lock'")


def _kind_by_content(manifest: dict[str, Any]) -> str | None:
    """The media type of a manifest that names none: some registries and proxies serve it as text/plain."""
    config = manifest.get("config")
    if not isinstance(config, dict) or not isinstance(manifest.get("layers"), list):
        return None
    return {image.OCI_CONFIG: image.OCI_MANIFEST, image.DOCKER_CONFIG: image.DOCKER_MANIFEST}.get(str(config.get("mediaType")))


def _is_stored(blob: Blob, context: Context) -> bool:
    """Whether the store has the blob; a layer also proven to be the one that the configuration names."""
    if not context.store.has(blob.digest, blob.size):
        return False
    return not isinstance(blob, Layer) or image_layers.is_proven(context.store, blob.digest, blob.diff_id)


def _bring_layer(repository: Repository, layer: Layer, title: str, source: str, context: Context, advance: Advance) -> None:
    """Downloads a gzip layer and proves it to its diff ID while it arrives."""
    proof = image_layers.Proof(context.store, layer, layer.diff_id, f"{title} of {source}")
    if context.store.has(layer.digest, layer.size):  # fetched by an earlier version, which did not prove it
        advance(layer.size)
    else:
        item = dataclasses.replace(repository.blob(layer.digest, layer.size, title), consume=proof.consume)
        download(context.client, context.store, item, advance)
    proof.finish()


def _convert(
    repository: Repository, origin: Blob, diff_id: Digest, title: str, context: Context, advance: Advance
) -> tuple[Digest, int]:
    """Digest and size of the gzip form of ``origin``, which is not kept."""
    store = context.store
    download(context.client, store, repository.blob(origin.digest, origin.size, title), advance)
    _, digest, size = image_layers.compress(store, image_layers.unpacked(store.path(origin.digest), title), diff_id, title)
    store.evict(origin.digest)
    return digest, size


def _parse(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = parse_json(data)
    except ValueError as error:
        remedy = "is this a registry, or does a proxy or a login page answer in its place?"
        raise SpecError(f"the registry's answer is not a manifest: {error}", where=name, remedy=remedy) from error
    if not isinstance(content, dict):
        raise SpecError("the registry's answer is not a manifest", where=name)
    return content


def _for_platform(index: dict[str, Any], platform: str, name: str) -> Digest | None:
    """The digest of the image for ``platform``; None where an entry without a platform may be it.

    Attestations, which have platform unknown/unknown, are no image.
    """
    offered = []
    try:
        for item in index["manifests"]:
            found = image.platform_of(item.get("platform") or {})
            if image.matches(found, platform):
                return Digest(item["digest"])
            offered.append(found)
        if _without_platform(index):
            return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError("its index cannot be read", where=name) from error
    raise _no_image(offered, platform, name)


def _configured_platform(repository: Repository, manifest: dict[str, Any], name: str, context: Context) -> str:
    """The platform that the configuration of an image says; unknown of a chart, a signature or another artifact."""
    try:
        blob = _blob(manifest["config"])
        if blob.media_type not in (image.OCI_CONFIG, image.DOCKER_CONFIG):
            return "unknown"
        _check_small(blob, name)
        download(context.client, context.store, repository.blob(blob.digest, blob.size, f"{name} configuration"))
        return image.platform_of(parse_json(read_back(context.store, blob.digest)))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise SpecError("its index names something that is no image", where=name) from error


def _without_platform(index: dict[str, Any]) -> list[Digest]:
    """Entries that name no platform and are neither an attestation nor another artifact."""
    entries = [
        item
        for item in index["manifests"]
        if not item.get("platform") and not item.get("artifactType") and _REFERRER not in (item.get("annotations") or {})
    ]
    return [Digest(item["digest"]) for item in entries]


def _no_image(offered: list[str], platform: str, name: str) -> SpecError:
    shown = ", ".join(sorted({item for item in offered if "unknown" not in item})) or "none"
    return SpecError(f"has no image for {platform}; it has: {shown}", where=name, remedy="choose another tag or 'platform'")


def _check_small(configuration: Blob, name: str) -> None:
    """No image configuration is larger than a small document. Raises SpecError."""
    if configuration.size > SMALL_DOCUMENT:
        what = f"its configuration is said to have {configuration.size} bytes, at most {SMALL_DOCUMENT} are read"
        raise SpecError(what, where=name, remedy="this is no image that Docker makes: use another one")


def _blob(raw: dict[str, Any]) -> Blob:
    if type(raw["size"]) is not int or not isinstance(raw["digest"], str):
        raise TypeError("a size that is no number, or a digest that is no text")
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


SOURCE: ImageSource = RegistrySource()
