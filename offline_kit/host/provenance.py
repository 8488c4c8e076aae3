"""Where a bundle comes from, as an in-toto statement with SLSA's predicate of provenance.

Rules: it follows from the manifest and the lock: no time and no machine, so that the same lock gives the same bytes (who built
it, and when, is for the signature to say); its subject is ``lock.json``, which names every byte of the payload; the signature
over ``SHA256SUMS`` covers it like every other file.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from offline_kit import __version__
from offline_kit.common.digest import Digest
from offline_kit.spec.lock import Lock, LockedModel
from offline_kit.spec.manifest import canonical

PROVENANCE = "provenance.intoto.json"
BUILD_TYPE = "urn:offline-kit:build:1"
_STATEMENT, _PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"


def provenance(lock: Lock, version: str, manifest: Digest) -> bytes:
    """The text of ``provenance.intoto.json``. ``manifest``: digest of what the manifest says."""
    text = lock.text().encode()
    asked = {"accelerator": lock.accelerator, "name": lock.name, "platform": lock.platform, "version": version}
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": {**asked, "manifest": _sha256(manifest)},
        "resolvedDependencies": list(_dependencies(lock)),
    }
    builder = {"id": "urn:offline-kit", "version": {"offline-kit": __version__}}
    statement = {
        "_type": _STATEMENT,
        "predicate": {"buildDefinition": definition, "runDetails": {"builder": builder}},
        "predicateType": _PREDICATE,
        "subject": [{"digest": _sha256(Digest.of(text)), "name": f"{lock.name}-{version}/lock.json"}],
    }
    return canonical(statement).encode()


def _dependencies(lock: Lock) -> Iterator[dict[str, Any]]:
    for key, image in lock.images.items():
        yield {"digest": _sha256(image.index or image.manifest.digest), "name": f"images.{key}", "uri": image.source}
    for key, model in lock.models.items():
        yield {"name": f"models.{key}", **_model(model)}
    for path, extra in lock.files.items():
        place = {"uri": extra.source} if extra.source.startswith("http") else {}
        yield {"digest": _sha256(extra.sha256), "name": f"files/{path}", **place}
    for name, text in lock.config.items():
        yield {"digest": _sha256(text.sha256), "name": f"config/{name}"}


def _model(model: LockedModel) -> dict[str, Any]:
    """A commit, and the digest of its files as ``sha256sum`` lists them; the place of a local folder says nothing elsewhere."""
    listed = "".join(f"{file.sha256.hex}  {file.path}\n" for file in sorted(model.files, key=lambda file: file.path.encode()))
    digest = _sha256(Digest.of(listed.encode()))
    if model.commit is None:
        return {"digest": digest}
    return {"digest": {**digest, "gitCommit": model.commit}, "uri": model.source}


def _sha256(digest: Digest) -> dict[str, str]:
    return {"sha256": digest.hex}
