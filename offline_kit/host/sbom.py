"""The bill of materials of a bundle, as CycloneDX 1.6.

Rules: it follows from the lock alone: no time and no random number, so that the same lock gives the same bytes; an image is a
container by manifest digest, a model is a machine-learning model with each file by sha256.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from offline_kit.digest import Digest
from offline_kit.spec.lock import Lock, LockedImage, LockedModel
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import ImageReference, Source


def sbom(lock: Lock, version: str) -> bytes:
    """The text of sbom.cdx.json."""
    bundle = Component(name=lock.name, version=version, type=ComponentType.PLATFORM, bom_ref="bundle")
    components = list(_components(lock))
    bom = Bom(components=components, metadata=BomMetaData(component=bundle))
    bom.register_dependency(bundle, components)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_OID, f"offline-kit {version} {Digest.of(lock.text().encode())}")
    data = json.loads(JsonV1Dot6(bom).output_as_string())
    # The library writes the time of the run; a bundle is the same whenever it is made.
    data["metadata"].pop("timestamp", None)
    return canonical(data).encode()


def _components(lock: Lock) -> Iterator[Component]:
    for key, image in lock.images.items():
        yield _image(key, image)
    for key, model in lock.models.items():
        yield _model(key, model)


def _image(key: str, image: LockedImage) -> Component:
    reference = ImageReference.parse(Source.parse(image.source, "image").rest)
    where = {"repository_url": f"{reference.registry}/{reference.repository}"}
    if reference.tag:
        where["tag"] = reference.tag
    facts = {"config": str(image.config.digest), **{f"image:{name}": text for name, text in image.environment.items()}}
    return Component(
        name=f"{reference.registry}/{reference.repository}",
        version=reference.tag or str(image.manifest.digest),
        type=ComponentType.CONTAINER,
        bom_ref=f"images.{key}",
        hashes=[_hash(image.manifest.digest)],
        purl=PackageURL("oci", None, reference.repository.split("/")[-1], str(image.manifest.digest), where),
        properties=[Property(name=f"offline-kit:{name}", value=text) for name, text in sorted(facts.items())],
    )


def _model(key: str, model: LockedModel) -> Component:
    source = Source.parse(model.source, "model")
    purl = None
    if source.scheme == "hf" and "/" in source.rest:
        owner, name = source.rest.split("/", 1)
        purl = PackageURL(
            "huggingface", owner, name, model.commit, {"repository_url": model.endpoint} if model.endpoint else {}
        )
    return Component(
        name=source.rest.strip("/").split("/")[-1] if source.scheme == "dir" else source.rest,
        version=model.commit,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=f"models.{key}",
        purl=purl,
        components=[
            Component(name=file.path, type=ComponentType.FILE, bom_ref=f"models.{key}/{file.path}", hashes=[_hash(file.sha256)])
            for file in model.files
        ],
    )


def _hash(digest: Digest) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=digest.hex)
