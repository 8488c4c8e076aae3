"""``docker-daemon://``: images that only the local Docker engine has.

Rules: what ``docker save`` writes differs between engines and from run to run; what comes out here does not: the
configuration byte for byte, each layer's tar as gzip, proven by diff ID, under a manifest of ours (or the image's own, where
the engine kept it). A layer that was compressed before is not compressed again; an image whose layers are all known is not
even exported.
"""

from __future__ import annotations

import functools
from typing import Any

import docker
import docker.errors

from offline_kit.common.digest import Digest
from offline_kit.common.docker_engine import docker_engine, translate_docker_errors
from offline_kit.common.errors import DigestMismatch, DockerError, NotFound, SpecError
from offline_kit.intake.sources import image, image_layers
from offline_kit.intake.sources.base import Context, FetchTask, ImageSource
from offline_kit.intake.sources.export import Export, read_export
from offline_kit.intake.transfer.download import Advance, read_back
from offline_kit.spec.lock import Blob, Layer, LockedImage
from offline_kit.spec.manifest import ImageSpec

_WHERE = "docker-daemon://"
_REMEDY = "start Docker or set DOCKER_HOST, or take the image from a registry with docker://"


class DaemonSource:
    """Images of the local engine."""

    def resolve(self, key: str, entry: ImageSpec, digest: Digest, context: Context) -> LockedImage:
        """Raises KitError."""
        reference = entry.reference
        name = reference.tagged or str(reference)
        with docker_engine(_WHERE, _REMEDY) as engine:
            attributes = _inspect(engine, name)
            names = {"os": "Os", "architecture": "Architecture", "variant": "Variant"}
            found = image.platform_of({name: attributes.get(theirs) for name, theirs in names.items()})
            if not image.matches(found, context.platform):
                what = f"the engine's image is for {found}, the manifest wants {context.platform}"
                raise SpecError(what, where=name, remedy=f"docker pull --platform {context.platform} {name}")
            memo = f"daemon:{engine.api.base_url}:{attributes['Id']}"  # what one engine says is not believed of another
            export = self._known(memo, attributes, context) or self._export(engine, name, context)
        data, own = export.config, export.manifest
        config = image.read_config(data, context.platform, name)
        carried = tuple(_carried(context, diff_id, name) for diff_id in config.diff_ids)
        blob = Blob(digest=context.store.put(data), size=len(data), media_type=image.OCI_CONFIG)
        if own is None:
            own = image.make_manifest(blob, carried)
        context.store.put_memo(memo, [str(blob.digest), str(context.store.put(own))])
        locked = LockedImage(
            spec_digest=digest,
            source=entry.source,
            reference=reference.tagged,
            manifest=image.manifest_blob(own, image.OCI_MANIFEST),
            config=blob,
            layers=carried,
            environment=config.environment,
            created=config.created,
        )
        if entry.digest is not None and entry.digest not in (locked.manifest.digest, blob.digest, _digest_of(attributes["Id"])):
            what = f"has digest {blob.digest}, the manifest demands {entry.digest}"
            raise DigestMismatch(what, where=name, remedy="correct 'digest', or find out why the tag has moved")
        return locked

    def pieces(self, key: str, locked: LockedImage, entry: ImageSpec, context: Context) -> list[FetchTask]:
        """One piece for all that the store lacks: the engine gives images as a whole."""
        missing = {blob.digest: blob.size for blob in locked.blobs() if not context.store.has(blob.digest, blob.size)}
        if not missing:
            return []
        size = sum(missing.values())
        bring = functools.partial(self._bring, key, locked, entry, size, context)
        return [FetchTask(f"daemon:{locked.config.digest}", f"{key}: image from the Docker engine", size, bring, size)]

    def _bring(self, key: str, locked: LockedImage, entry: ImageSpec, size: int, context: Context, advance: Advance) -> None:
        now = self.resolve(key, entry, locked.spec_digest, context)
        if now.config.digest != locked.config.digest:
            what = f"the engine's image is {now.config.digest.short} now, the lock says {locked.config.digest.short}"
            raise DigestMismatch(what, where=locked.source, remedy="run 'offline-kit lock' to take the new one")
        if list(now.blobs()) != list(locked.blobs()):
            what = "its layers were compressed by another version or machine when the lock was made"
            raise DigestMismatch(what, where=locked.source, remedy="run 'offline-kit lock'")
        advance(size)

    def _known(self, key: str, attributes: dict[str, Any], context: Context) -> Export | None:
        """What an export would give, if this very image was exported before and all of it is still in the store."""
        memo = context.store.get_memo(key)
        wanted = [Digest(text) for text in (attributes.get("RootFS") or {}).get("Layers") or ()]
        if memo is None or any(image_layers.converted(context.store, diff_id) is None for diff_id in wanted):
            return None
        config, manifest = (Digest(text) for text in memo)
        if not (context.store.path(config).exists() and context.store.path(manifest).exists()):
            return None
        return Export(read_back(context.store, config), read_back(context.store, manifest))

    def _export(self, engine: docker.DockerClient, name: str, context: Context) -> Export:
        context.progress.note(f"{name}: exporting from the Docker engine")
        with translate_docker_errors(_WHERE):
            pieces = engine.api.get_image(name, chunk_size=1 << 20)
            return read_export(pieces, name, context)


def _carried(context: Context, diff_id: Digest, name: str) -> Layer:
    made = image_layers.converted(context.store, diff_id)
    if made is None:
        remedy = "the engine exported an incomplete image: pull or build it again"
        raise DockerError(f"layer with diff ID {diff_id} is not in the engine's export", where=name, remedy=remedy)
    return Layer(digest=made[0], size=made[1], media_type=image.OCI_GZIP, diff_id=diff_id)


def _inspect(engine: docker.DockerClient, name: str) -> dict[str, Any]:
    try:
        with translate_docker_errors(_WHERE):
            found: dict[str, Any] = engine.api.inspect_image(name)
            layers = (found.get("RootFS") or {}).get("Layers") or ()
            texts = (found["Id"], found["Os"], found["Architecture"], found.get("Variant") or "", *layers)
            if not all(isinstance(text, str) for text in texts):
                raise TypeError("a value that is no text")
            [Digest(text) for text in layers]
            return found
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        what = f"what the Docker engine says of the image cannot be read: {error!r}"
        raise DockerError(what, where=name, remedy="is it Docker that answers at DOCKER_HOST?") from error
    except docker.errors.ImageNotFound as error:
        remedy = f"docker pull {name}, or build it; or take it from a registry with docker://"
        raise NotFound("the Docker engine has no such image", where=name, remedy=remedy) from error


def _digest_of(text: str) -> Digest | None:
    try:
        return Digest(text)
    except ValueError:
        return None


SOURCE: ImageSource = DaemonSource()
