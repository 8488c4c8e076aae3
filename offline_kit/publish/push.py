"""Push: a bundle or kit to a registry of the site, and read back from there.

Rules: numbered below; what is pushed is what SHA256SUMS or the lock names; nothing is sent that the registry says to have;
manifests come when every blob was read back, so that no tag names what is not whole; a tag that names something else is moved,
and told.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from offline_kit.bundle.format import paths
from offline_kit.bundle.format.bundle_json import parse_contents
from offline_kit.bundle.read.inspect import Head, read_head
from offline_kit.bundle.read.payload import Payload
from offline_kit.common import concurrency
from offline_kit.common.budget import SMALL_DOCUMENT
from offline_kit.common.digest import Digest, Hasher
from offline_kit.common.errors import BundleDamaged, BundleUnreadable, DigestMismatch, SpecError
from offline_kit.common.progress import Progress, Task
from offline_kit.common.redact import register_secrets, register_url
from offline_kit.intake.sources.registry_target import Target
from offline_kit.intake.sources.registry_upload import Upload
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.publish import artifacts
from offline_kit.publish.artifacts import Artifact, Pushed
from offline_kit.publish.content import File
from offline_kit.publish.model_layers import read_layers
from offline_kit.spec.names import ImageReference

_PAPERS = (paths.SUMS, paths.BUNDLE, paths.LOCK, "sbom.cdx.json", "provenance.intoto.json")

_ANSWER = 300.0  # seconds: who stores gigabytes may take long to say so


@dataclass(frozen=True)
class Destination:
    """``registry``: HOST[:PORT]; ``prefix``: what comes before the names of repositories; ``chunk``: bytes of a request."""

    registry: str
    prefix: str = ""
    insecure: bool = False
    chunk: int = 16 << 20

    @classmethod
    def parse(cls, text: str, *, insecure: bool, chunk: int) -> Destination:
        """``REGISTRY[/PREFIX]``. Raises SpecError, which shows nothing of a login."""
        if "@" in text:
            register_url(text)
            register_secrets(text, text.rpartition("@")[0])
            remedy = "log in with 'docker login', and name REGISTRY[/PREFIX] alone"
            raise SpecError("holds an '@': a login or a digest belongs elsewhere", where="REGISTRY[/PREFIX]", remedy=remedy)
        registry, _, prefix = text.partition("/")
        made = cls(registry, prefix.strip("/"), insecure, chunk)
        try:
            if not any(mark in registry for mark in ".:") and registry != "localhost":
                raise ValueError(f"{registry!r} is no host: give HOST:PORT, or a host with a dot")
            made.reference("kit", "v1")
        except ValueError as error:
            raise SpecError(str(error), where=text, remedy="REGISTRY[/PREFIX], such as registry.example:5000/models") from error
        return made

    def reference(self, repository: str, tag: str) -> ImageReference:
        """Raises ValueError."""
        return ImageReference.parse("/".join(filter(None, (self.registry, self.prefix, f"{repository}:{tag}"))))


@dataclass
class Outcome:
    """What came of it. Bytes: ``total`` of all blobs, ``present`` found there, ``sent`` in bodies, also what was sent again."""

    pushed: list[dict[str, Any]] = field(default_factory=list)
    total: int = 0
    present: int = 0
    sent: int = 0
    retried: int = 0
    dry_run: bool = False

    def as_json(self) -> dict[str, Any]:
        bytes_of = {"total": self.total, "present": self.present, "sent": self.sent}
        return {"dry_run": self.dry_run, "bytes": bytes_of, "retried": self.retried, "pushed": self.pushed}


def push(
    path: Path, to: Destination, *, options: TransferOptions, jobs: int = 4, dry_run: bool = False, read_all: bool = False,
    progress: Progress,
) -> Outcome:  # fmt: skip
    """Pushes the bundle or kit at ``path``. ``read_all``: also what was there before is read back.

    Raises BundleUnreadable (also a delta), BundleDamaged, AccessDenied, NotFound, NetworkError, DigestMismatch.
    """
    head = read_head(path)
    if head.contents is None or head.sums is None:
        raise BundleUnreadable("is a lock", where=str(path), remedy="name a bundle or the folder of a kit")
    if head.contents.base is not None:
        remedy = "install it with --base and push the kit's folder: what the registry has is not sent again"
        raise BundleUnreadable("is a delta: it does not hold all that it names", where=str(path), remedy=remedy)
    patient = dataclasses.replace(options, read_timeout=_ANSWER)
    with Payload(path) as payload, HttpClient(patient, jobs, progress.note) as client:
        found = _artifacts(path, head, payload, jobs, progress)
        return _Push(client, to, payload, found, progress).run(jobs, dry_run, read_all)


def _artifacts(path: Path, head: Head, payload: Payload, jobs: int, progress: Progress) -> list[Artifact]:
    lock, sums = head.lock, head.sums or {}
    # 1. The papers, with the lock and the version, are those of the sums; everything that the lock names is there.
    if sums.get(paths.LOCK) != head.digest:
        raise _not_of_the_sums(path, paths.LOCK)
    papers = _papers(path, sums, payload)
    tag = parse_contents(_document(path, payload, paths.BUNDLE, sums.get(paths.BUNDLE)), f"{path}: {paths.BUNDLE}").version
    wanted = {paths.blob(blob.digest): blob.size for blob in lock.image_blobs().values()}
    wanted |= {paths.model_file(key, file.path): file.size for key, model in lock.models.items() for file in model.files}
    for name, size in wanted.items():
        if payload.size(name) != size:
            what = "is not there" if payload.size(name) is None else f"has {payload.size(name)} bytes, the lock says {size}"
            raise BundleDamaged(what, where=f"{path}: {name}", remedy="'offline-kit verify' tells all; copy it again")
    # 2. Tar layers have a digest when they were read once; every file on the way is proven.
    cars = read_layers(lock.models, payload, jobs, progress)
    found = []
    for key, image in sorted(lock.images.items()):
        content = _document(path, payload, paths.blob(image.manifest.digest), image.manifest.digest)
        found.append(artifacts.image_artifact(key, image, content, tag))
    for key, model in sorted(lock.models.items()):
        found += [artifacts.modelcar(key, model, cars[key], lock.platform, tag), artifacts.model_pack(key, model, tag)]
    return [*found, artifacts.kit_artifact(papers, tag)]


def _papers(path: Path, sums: dict[str, Digest], payload: Payload) -> list[File]:
    """Those that are there, each as SHA256SUMS has it. Raises BundleDamaged."""
    found = []
    for name in _PAPERS:
        if (size := payload.size(name)) is None:
            if name in sums or name == paths.SUMS:
                raise BundleDamaged("is not there", where=f"{path}: {name}", remedy="copy it again")
            continue
        hasher = Hasher()
        for piece in payload.read(name, 0, size):
            hasher.update(piece)
        if name != paths.SUMS and hasher.digest() != sums.get(name):
            raise _not_of_the_sums(path, name)
        found.append(File(name, size, hasher.digest()))
    return found


def _document(path: Path, payload: Payload, name: str, digest: Digest | None) -> bytes:
    """A small file with that digest. Raises BundleDamaged."""
    size = payload.size(name)
    if size is None or size > SMALL_DOCUMENT:
        what = "is not there" if size is None else f"has {size} bytes, at most {SMALL_DOCUMENT} are read"
        raise BundleDamaged(what, where=f"{path}: {name}", remedy="copy it again")
    content = b"".join(payload.read(name, 0, size))
    if Digest.of(content) != digest:
        raise _not_of_the_sums(path, name)
    return content


def _not_of_the_sums(path: Path, name: str) -> BundleDamaged:
    return BundleDamaged("is not the file of the sums", where=f"{path}: {name}", remedy="'offline-kit verify' tells all")


def _changed(title: str, found: Digest, digest: Digest) -> BundleDamaged:
    what = f"{title} has the bytes of {found}, the lock says {digest}"
    return BundleDamaged(what, remedy="'offline-kit verify' tells all; copy it again")


class _Push:
    """One run."""

    def __init__(
        self, client: HttpClient, to: Destination, payload: Payload, found: list[Artifact], progress: Progress
    ) -> None:
        self._client, self._to, self._payload, self._found, self._progress = client, to, payload, found, progress
        self._targets: dict[str, Target] = {}
        for item in found:
            reference = to.reference(item.repository, item.tag)
            self._targets.setdefault(item.repository, Target(reference, client, insecure=to.insecure, chunk=to.chunk))

    def run(self, jobs: int, dry_run: bool, read_all: bool) -> Outcome:
        wanted = {(item.repository, blob.digest): blob for item in self._found for blob in item.blobs}
        # 3. Every blob is asked for first.
        asked = self._all([functools.partial(self._has, name, blob) for (name, _), blob in wanted.items()], jobs)
        missing = {place: blob for (place, blob), there in zip(wanted.items(), asked, strict=True) if not there}
        total = sum(blob.size for blob in wanted.values())
        outcome = Outcome(total=total, present=total - sum(blob.size for blob in missing.values()), dry_run=dry_run)
        before = self._tagged()
        if not dry_run:
            self._send(missing, jobs)
            # 4. What was put there is what comes back.
            self._read_back(wanted if read_all else missing, {} if read_all else wanted, jobs)
            # 5. Manifests last, and the tags name them.
            for item in self._found:
                if before[item.repository, item.tag] != item.digest:
                    self._targets[item.repository].put_manifest(item.tag, item.manifest, item.media_type)
            self._compare_tags()
        for item in self._found:
            size = sum(blob.size for blob in item.blobs)
            sending = sum(blob.size for blob in item.blobs if (item.repository, blob.digest) in missing)
            was = before[item.repository, item.tag]
            outcome.pushed.append({
                "form": item.form, "key": item.key, "reference": self._to.reference(item.repository, item.tag).tagged,
                "digest": str(item.digest), "bytes": size, "missing": sending, "was": str(was) if was else None,
            })  # fmt: skip
        outcome.sent, outcome.retried = self._client.stats.sent, self._client.stats.retried
        return outcome

    def _send(self, missing: dict[tuple[str, Digest], Pushed], jobs: int) -> None:
        first: dict[Digest, str] = {}
        again = []
        for name, digest in missing:
            if first.setdefault(digest, name) != name:
                again.append((name, digest))
        with self._progress.task("push", sum(blob.size for blob in missing.values()), len(missing)) as task:
            order = sorted(first.items(), key=lambda item: -missing[item[1], item[0]].size)
            self._all([functools.partial(self._push, name, missing[name, digest], task) for digest, name in order], jobs)
            work = [functools.partial(self._mount, name, first[digest], missing[name, digest], task) for name, digest in again]
            self._all(work, jobs)

    def _push(self, name: str, blob: Pushed, task: Task) -> None:
        read = functools.partial(blob.content.read, self._payload)
        title = f"blob {blob.digest.short}"
        upload = Upload(blob.digest, blob.size, title, read, lambda found: _changed(title, found, blob.digest))
        self._targets[name].push(upload, task.advance)
        task.finish_item()

    def _mount(self, name: str, origin: str, blob: Pushed, task: Task) -> None:
        """A blob that another repository has by now: taken from there, where the registry does so."""
        if self._targets[name].mount(blob.digest, self._to.reference(origin, "v").repository):
            task.advance(blob.size)
            task.finish_item()
        else:
            self._push(name, blob, task)

    def _has(self, name: str, blob: Pushed) -> bool:
        return self._targets[name].has(blob.digest, blob.size)

    def _tagged(self) -> dict[tuple[str, str], Digest | None]:
        """What each tag names until now; a tag that names something else is said here."""
        found = {}
        for item in self._found:
            found[item.repository, item.tag] = there = self._targets[item.repository].tagged(item.tag)
            if there is not None and there != item.digest:
                shown = self._to.reference(item.repository, item.tag).tagged
                self._progress.note(f"{shown} names {there} until now, and will name {item.digest}")
        return found

    def _compare_tags(self) -> None:
        for item in self._found:
            back = self._targets[item.repository].tagged(item.tag)
            if back != item.digest:
                where = self._to.reference(item.repository, item.tag).tagged or ""
                raise DigestMismatch(f"names {back} and not {item.digest}", where=where, remedy="does another one push there?")

    def _read_back(self, whole: dict[tuple[str, Digest], Pushed], asked: dict[tuple[str, Digest], Pushed], jobs: int) -> None:
        with self._progress.task("read back", sum(blob.size for blob in whole.values()), len(whole)) as task:

            def back_of(name: str, blob: Pushed) -> None:
                self._targets[name].read_back(blob.digest, blob.size, task.advance)
                task.finish_item()

            self._all([functools.partial(back_of, name, blob) for (name, _), blob in whole.items()], jobs)
        left = [functools.partial(self._still_there, name, blob) for (name, digest), blob in asked.items()
                if (name, digest) not in whole]  # fmt: skip
        self._all(left, jobs)

    def _still_there(self, name: str, blob: Pushed) -> None:
        if not self._has(name, blob):
            raise DigestMismatch(f"had {blob.digest} and has it no more", where=self._targets[name].name)

    def _all(self, work: Sequence[Callable[[], Any]], jobs: int) -> list[Any]:
        return concurrency.run_all(work, jobs, self._client.stop)
