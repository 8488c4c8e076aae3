"""What a bundle is made of as CycloneDX components: images with their packages, models with their cards, files.

Rules: pure; every component follows from the lock, from what the layers hold and from the texts; a component with very many
parts gives them one by one, so that nobody holds them all; references are unique.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from packageurl import PackageURL

from offline_kit.common.digest import Digest
from offline_kit.host.sbom import licences
from offline_kit.spec.image_contents import ImageContents, Package
from offline_kit.spec.lock import Lock, LockedImage, LockedModel
from offline_kit.spec.names import ImageReference, Source

Component = dict[str, Any]
Parts = Iterator[Component]
_RPM_NAMESPACE = {"rhel": "redhat"}


def components(
    lock: Lock, contents: Mapping[str, ImageContents], texts: Mapping[str, bytes]
) -> Iterator[tuple[Component, Parts]]:
    """Each component with its parts, in the order of the lock. ``texts``: the small files of the kit by path."""
    for key, image in lock.images.items():
        contents_of_image = contents.get(key, ImageContents((), whole=False))
        yield _image(key, image, contents_of_image), _packages(key, contents_of_image)
    for key, model in lock.models.items():
        files = ((f"models.{key}/{file.path}", file.path, file.sha256) for file in model.files)
        yield _model(key, model), (_file(ref, name, digest) for ref, name, digest in files)
    for path, extra in lock.files.items():
        licence = (
            {"externalReferences": [{"type": "distribution", "url": extra.source}]} if extra.source.startswith("http") else {}
        )
        yield {**_file(f"files.{path}", path, extra.sha256), **licence}, iter(())
    kit = {"bom-ref": "kit", "name": "offline-kit scripts, runtime and configuration", "type": "application"}
    yield kit, (_file(f"kit/{path}", path, Digest.of(content)) for path, content in sorted(texts.items()))


def _image(key: str, image: LockedImage, contents_of_image: ImageContents) -> Component:
    reference = ImageReference.parse(Source.parse(image.source, "image").rest)
    where = {"repository_url": f"{reference.registry}/{reference.repository}"}
    if reference.tag:
        where["tag"] = reference.tag
    facts = [("config", str(image.config.digest))]
    facts += [("layer", str(layer.diff_id)) for layer in image.layers]
    facts += [(f"image:{name}", text) for name, text in sorted(image.environment.items())]
    facts += [("packages-not-read", path) for path in contents_of_image.unread]
    if not contents_of_image.whole:
        facts.append(("packages", "incomplete"))
    named = {name: image.environment.get(f"org.opencontainers.image.{name}", "") for name in ("licenses", "source")}
    return {
        "bom-ref": f"images.{key}",
        "hashes": [_hash(image.manifest.digest)],
        "licenses": licences.entries([named["licenses"]]),
        "name": f"{reference.registry}/{reference.repository}",
        "properties": _properties(facts),
        "purl": PackageURL(
            "oci", None, reference.repository.split("/")[-1].lower(), str(image.manifest.digest), where
        ).to_string(),
        "type": "container",
        "version": reference.tag or str(image.manifest.digest),
    }


def _packages(key: str, contents_of_image: ImageContents) -> Parts:
    for package in contents_of_image.packages:
        purl = _package_url(package, contents_of_image.distribution)
        facts = [("source-package", package["source"])] if package.get("source") else []
        yield _tidy(
            {
                "bom-ref": f"images.{key}/{purl}",
                "licenses": licences.entries(package.get("licences", ())),
                "name": package["name"],
                "properties": _properties(facts),
                "purl": purl,
                "type": "library",
                "version": package["version"],
            }
        )


def _package_url(package: Package, distribution: Mapping[str, str]) -> str:
    if package["kind"] == "pypi":
        return PackageURL("pypi", None, package["name"], package["version"]).to_string()
    system = distribution.get("ID", "")
    release = "-".join(filter(None, (system, distribution.get("VERSION_ID"))))
    where = {name: text for name, text in (("arch", package.get("architecture")), ("distro", release)) if text}
    namespace = _RPM_NAMESPACE.get(system, system) or None
    return PackageURL(package["kind"], namespace, package["name"], package["version"], where).to_string()


def _model(key: str, model: LockedModel) -> Component:
    source = Source.parse(model.source, "model")
    card, needs = model.card, model.needs
    facts = [("parameters", str(count))] if (count := parameters(model)) else []
    facts += [("quantization", needs.quantization)] if needs and needs.quantization else []
    facts += [("source", model.source)] if source.scheme != "dir" else []
    described: Component = {
        "architectureFamily": needs.model_type if needs else "",
        "datasets": [{"name": name, "type": "dataset"} for name in card.datasets] if card else [],
        "modelArchitecture": needs.architectures[0] if needs and needs.architectures else "",
        "task": card.task if card else "",
    }
    bases = card.base_models if card else ()
    return _tidy(
        {
            "bom-ref": f"models.{key}",
            "licenses": licences.entries(card.licences if card else ()),
            "modelCard": _tidy({"modelParameters": _tidy(described)}),
            "name": source.rest.strip("/").split("/")[-1] if source.scheme == "dir" else source.rest,
            "pedigree": {"ancestors": [{"name": name, "type": "machine-learning-model"} for name in bases]} if bases else {},
            "properties": _properties(facts),
            "purl": _model_url(source, model),
            "type": "machine-learning-model",
            "version": model.commit or "",
        }
    )


def parameters(model: LockedModel) -> int:
    """Numbers in its weights, as far as their headers tell; packed ones (quantised) count as they are stored."""
    return sum(math.prod(row.shape) * row.count for row in model.facts.tensors if row.shape) if model.facts else 0


def _model_url(source: Source, model: LockedModel) -> str:
    if source.scheme != "hf" or "/" not in source.rest:
        return ""
    owner, name = source.rest.split("/", 1)
    where = {"repository_url": model.endpoint} if model.endpoint else {}
    return PackageURL("huggingface", owner, name, model.commit, where).to_string()


def _file(reference: str, name: str, digest: Digest) -> Component:
    return {"bom-ref": reference, "hashes": [_hash(digest)], "name": name, "type": "file"}


def _properties(facts: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"name": f"offline-kit:{name}", "value": value} for name, value in facts]


def _tidy(component: Component) -> Component:
    return {name: value for name, value in component.items() if value not in ("", [], {}, None)}


def _hash(digest: Digest) -> dict[str, str]:
    return {"alg": "SHA-256", "content": digest.hex}
