"""An OCI registry: ``oci://REGISTRY/REPOSITORY``, a release as an artifact under the tag of its version.

Rules: every file of a release is a layer with its name as title, which is what ``oras pull`` goes by; the tag comes after all
layers, and the index, under the tag ``releases``, after the tag; a blob that is there is not sent again; a tag that is no
release of its version is neither replaced nor removed.
Credentials are those of ``docker login`` (``DOCKER_CONFIG``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, Interrupted, KitError, NotFound, SpecError
from offline_kit.common.files import disk_errors
from offline_kit.common.json_text import parse_json
from offline_kit.common.progress import Progress, Task
from offline_kit.intake.sources.registry_target import Target
from offline_kit.intake.sources.registry_upload import Upload as BlobUpload
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.release.index import NAME, Release, Releases, index_bytes
from offline_kit.release.publish.destination import Upload, changed
from offline_kit.spec.manifest import canonical
from offline_kit.spec.names import ImageReference

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
RELEASE, RELEASES = "application/vnd.offline-kit.release.v1", "application/vnd.offline-kit.releases.v1+json"
FILE, EMPTY = "application/vnd.offline-kit.file.v1", "application/vnd.oci.empty.v1+json"
TAG = "releases"  # of the index
_NOTHING = b"{}"
_CHUNK, _READ = 16 << 20, 1 << 20  # bytes: of one request, and of one read
_FORM = "oci://REGISTRY/REPOSITORY, without a tag"
_VERSION = "org.opencontainers.image.version"
_OTHER = "choose a repository that holds nothing else"
_KEEPS = (405, 501)  # statuses of a registry that removes nothing, ever


class Registry:
    """One repository of a registry."""

    def __init__(self, address: str, jobs: int) -> None:
        """Raises SpecError where ``address`` is none. Asks nothing yet."""
        name = address.partition("://")[2].rstrip("/")
        try:
            reference = ImageReference.parse(name)
        except ValueError as error:
            raise SpecError(f"{error}", where=address, remedy=_FORM) from error
        if ":" in name.rpartition("/")[2] or "/" not in name:
            raise SpecError("not the address of a repository", where=address, remedy=_FORM)
        self.address = address.rstrip("/")
        # twice the patience of a download: what a registry does with a large blob before it answers takes a while
        self._client = HttpClient(dataclasses.replace(TransferOptions(), read_timeout=120.0), jobs)
        self._target = Target(reference, self._client, insecure=False, chunk=_CHUNK)

    def read_index(self) -> bytes | None:
        """The one layer of the artifact under the tag ``releases``; None where there is no such tag."""
        try:
            manifest, _ = self._target.manifest(TAG)
        except NotFound:
            return None
        try:
            found = parse_json(manifest)
            digest, size = next((Digest(layer["digest"]), layer["size"]) for layer in found["layers"])
            if found["artifactType"] != RELEASES:
                raise ValueError("another kind of artifact")
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise SpecError("is not the index of releases", where=f"{self.address}:{TAG}", remedy=_OTHER) from error
        reply = self._client.read(f"{self._target.base}/blobs/{digest}", auth=self._target.auth, limit=SMALL_DOCUMENT)
        if reply.status != 200 or Digest.of(reply.body) != digest or len(reply.body) != size:
            raise SpecError("its content cannot be had", where=f"{self.address}:{TAG}", remedy="publish to another repository")
        return reply.body

    def upload(self, release: Release, files: Sequence[Upload], progress: Progress) -> None:
        """Every file becomes a blob, and then all of them the artifact of this version."""
        if release.version == TAG:
            raise SpecError(f"a release cannot have the version {TAG!r} in a registry", where=self.address)
        if (there := self._manifest(release.version)) is not None and not _is_release(there, release.version):
            what = "the tag is there, and is no release of this program"
            raise SpecError(what, where=f"{self.address}:{release.version}", remedy=_OTHER)
        with progress.task(f"{release.version} to {self.address}", sum(file.size for file in files), len(files)) as task:
            for file in files:
                self._send(_upload_of(file), task)
                task.finish_item()
        layers = [_descriptor(FILE, file.digest, file.size, file.path.name) for file in files]
        facts = {"version": release.version, "created": release.made, "title": release.file}
        self._tag(release.version, RELEASE, layers, {f"org.opencontainers.image.{key}": facts[key] for key in facts})

    def show(self, index: Releases) -> None:
        """Replaces the artifact under the tag ``releases``."""
        data = index_bytes(index)
        self._send(_small(data, NAME))
        self._tag(TAG, RELEASES, [_descriptor(RELEASES, Digest.of(data), len(data), NAME)], {})

    def remove(self, pruned: Mapping[str, Sequence[str]], progress: Progress) -> list[str]:
        """Removes the artifacts of these versions, and of nobody else; a registry that does not remove is told of."""
        stay = list[str]()
        for version, files in pruned.items():
            try:
                kept = self._remove(version) if version else ""
            except Interrupted:
                raise
            except KitError as error:
                kept = error.what
                stay += files
            if kept:
                what = f"{version}, which is pruned, stays at {self.address}: {kept}"
                progress.note(f"warning: {what}", event="finding", where=self.address)
        return stay

    def _remove(self, version: str) -> str:
        """Removes the artifact; why it stays for good, or nothing."""
        manifest = self._manifest(version)
        if manifest is None:
            return ""
        if not _is_release(manifest, version):
            return "the tag is no release of this program"
        status = self._target.remove_manifest(Digest.of(manifest), _KEEPS)
        return f"the registry removes nothing (HTTP {status})" if status in _KEEPS else ""

    def _manifest(self, tag: str) -> bytes | None:
        try:
            return self._target.manifest(tag)[0]
        except NotFound:
            return None

    def _tag(self, tag: str, kind: str, layers: Sequence[dict[str, Any]], annotations: dict[str, str]) -> None:
        self._send(_small(_NOTHING, "its configuration"))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": kind,
            "config": _descriptor(EMPTY, Digest.of(_NOTHING), len(_NOTHING)),
            "layers": layers,
            **({"annotations": annotations} if annotations else {}),
        }
        self._target.put_manifest(tag, canonical(manifest).encode(), MANIFEST)

    def _send(self, upload: BlobUpload, task: Task | None = None) -> None:
        """A blob, if it is not there. Raises KitError."""
        advance = task.advance if task else _uncounted
        if self._target.has(upload.digest, upload.size):
            advance(upload.size)
        else:
            self._target.push(upload, advance)


def _upload_of(file: Upload) -> BlobUpload:
    """The file as a blob: read as it is sent, and hashed by the registry alone."""

    def read(start: int, count: int) -> Iterator[bytes]:
        with disk_errors(file.path), file.path.open("rb", buffering=0) as stream:
            stream.seek(start)
            while count and (data := stream.read(min(count, _READ))):
                count -= len(data)
                yield data

    return BlobUpload(file.digest, file.size, file.path.name, read, lambda found: changed(file, found))


def _small(data: bytes, title: str) -> BlobUpload:
    """These bytes as a blob."""
    digest = Digest.of(data)
    return BlobUpload(
        digest, len(data), title, lambda start, count: iter([data[start : start + count]]), lambda found: _other(title, found)
    )


def _other(title: str, found: Digest) -> KitError:
    return DigestMismatch(
        f"{title} has the bytes of {found}", remedy="a fault of this machine's memory: run it again elsewhere"
    )


def _uncounted(amount: int) -> None:
    """What is small is not told of."""


def _is_release(manifest: bytes, version: str) -> bool:
    """Whether it is what ``upload`` puts under the tag of this version."""
    try:
        found = parse_json(manifest)
        return bool(found["artifactType"] == RELEASE and found["annotations"][_VERSION] == version)
    except (ValueError, KeyError, TypeError):
        return False


def _descriptor(kind: str, digest: Digest, size: int, title: str = "") -> dict[str, Any]:
    titled = {"annotations": {"org.opencontainers.image.title": title}} if title else {}
    return {"mediaType": kind, "digest": str(digest), "size": size, **titled}
