"""Images, models and files of a kit as a transfer record lists them: what the lock and SHA256SUMS say.

Rules: pure; the files come in the order of the archive; a place on the machine that built the bundle is not told.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import Contents, image_bytes
from offline_kit.bundle.read.inspect import Head
from offline_kit.record.form import ImageLine, KitFile, ModelLine
from offline_kit.record.scan_results import verdict_of
from offline_kit.spec.lock import Lock, LockedImage, LockedModel
from offline_kit.spec.scan import ScanRecord

LOCAL, NOT_HERE = "a local folder", "NOT HERE"
_OWN, _IMAGE_LABEL = "kit", "org.opencontainers.image.licenses"


def image_line(key: str, image: LockedImage) -> ImageLine:
    return ImageLine(
        image=key,
        name=image.reference or "",
        tag=image.tag(key),
        config=str(image.config.digest),
        manifest=str(image.manifest.digest),
        source=image.source,
        bytes=image_bytes(image),
        licence=_image_licence(image),
    )


def _image_licence(image: LockedImage) -> str:
    return image.environment.get(_IMAGE_LABEL, "")


def model_line(key: str, model: LockedModel) -> ModelLine:
    return ModelLine(key, _place(model.source), model.commit or "", len(model.files), model.size, _model_licence(model))


def _model_licence(model: LockedModel) -> str:
    return ", ".join(model.card.licences) if model.card else ""


def _place(source: str) -> str:
    """A source as others may know it."""
    return LOCAL if source.startswith(("dir://", "file://")) else source


def kit_files(head: Head, contents: Contents, small: Mapping[str, int], scan: ScanRecord | None) -> Iterator[KitFile]:
    """Every file that SHA256SUMS names; ``small``: bytes of what is no payload, by path."""
    described = _described(head.lock)
    elsewhere = contents.base.needs if contents.base else {}
    for path, digest in sorted((head.sums or {}).items(), key=lambda item: paths.place(item[0])):
        if path not in described:
            # Of a delta, SHA256SUMS is that of the full kit, and so is the bundle.json that it names.
            full = paths.DELTA_BUNDLE if contents.base and path == paths.BUNDLE else path
            yield KitFile(path, small[full], digest.hex, _OWN, contents.made_by, scan=verdict_of(scan, path))
            continue
        count, owners, source, licence = described[path]
        if path in elsewhere and contents.base:
            source = f"{NOT_HERE}: of {contents.base.title}"
        yield KitFile(path, count, digest.hex, owners, source, licence, verdict_of(scan, path))


def _described(lock: Lock) -> dict[str, tuple[int, str, str, str]]:
    """Path of the payload -> bytes, what it belongs to, source, licence."""
    found: dict[str, tuple[int, str, str, str]] = {}
    for key, image in lock.images.items():
        for blob in {blob.digest: blob for blob in image.blobs()}.values():
            path = paths.blob(blob.digest)
            _, owners, sources, licences = found.get(path, (0, "", "", ""))
            joined = (_join(owners, f"images.{key}"), _join(sources, image.source), _join(licences, _image_licence(image)))
            found[path] = (blob.size, *joined)
    for key, model in lock.models.items():
        source = f"{_place(model.source)}@{model.commit}" if model.commit else _place(model.source)
        for file in model.files:
            found[paths.model_file(key, file.path)] = (file.size, f"models.{key}", source, _model_licence(model))
    for name, extra in lock.files.items():
        found[paths.extra_file(name)] = (extra.size, "files", _place(extra.source), "")
    return found


def _join(texts: str, text: str) -> str:
    return text if not texts or texts == text else f"{texts}, {text}"
