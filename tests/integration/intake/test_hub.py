"""Models from a hub, over its HTTP API and our own transfer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import AccessDenied, DigestMismatch, KitError, NetworkError, NotFound, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.fetch import Blobs, fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import Lock, LockedModel
from offline_kit.spec.manifest import Manifest
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

BIG = parts.safetensors({"w": os.urandom(3 << 20)})
FILES = {
    "config.json": b'{"a": 1}',
    "model.safetensors": BIG,
    "pytorch_model.bin": b"pickle" * 10,
    "README.md": b"# m",
    ".gitattributes": b"* lfs",
    "1_Pooling/config.json": b"{}",
}
PATHS = ["1_Pooling/config.json", "README.md", "config.json", "model.safetensors"]


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Hub]:
    with Hub() as hub:
        hub.add("o/m", parts.write(tmp_path / "o-m", FILES))
        yield hub


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The source of an image: a manifest needs some."""
    work = tmp_path_factory.mktemp("registry")
    with Registry(work / "storage", work) as registry:
        parts.push(registry.url, "image", "v1", parts.image("gzip"))
        yield f"docker://{registry.host}/image:v1"


class Desk:
    """Resolves and fetches one model beside two images."""

    def __init__(self, images: str, hub: Hub, folder: Path) -> None:
        self.image, self.hub, self.store = {"source": images}, hub, Store(folder / "store")

    def manifest(self, **fields: Any) -> Manifest:
        entry = {"source": "hf://o/m", "endpoint": self.hub.url, **fields}
        return parts.manifest({"engine": self.image, "gateway": self.image}, {"chat": entry})

    def lock(self, keep: Lock | None = None, **fields: Any) -> Lock:
        return resolve(self.manifest(**fields), Path("/"), {}, Session(self.store, options=parts.QUICK), keep=keep)

    def model(self, **fields: Any) -> LockedModel:
        return self.lock(**fields).models["chat"]

    def fetch(self, lock: Lock, **fields: Any) -> Blobs:
        return fetch(lock, self.manifest(**fields), Path("/"), Session(self.store, options=parts.QUICK))


@pytest.fixture
def desk(images: str, own: Hub, tmp_path: Path) -> Desk:
    return Desk(images, own, tmp_path)


def test_a_model_is_locked_and_fetched_and_then_nobody_is_asked(desk: Desk) -> None:
    lock = desk.lock()
    model = lock.models["chat"]
    assert [file.path for file in model.files] == PATHS
    assert model.commit == desk.hub.repositories["o/m"].branches["main"] and model.endpoint == desk.hub.url
    head = desk.hub.sent("*.safetensors")
    assert head == 128 << 10 < len(BIG), "the hub tells the sha256 of large files: only the header is read, for the plan"
    assert model.facts is not None and [row.name for row in model.facts.tensors] == ["w"]
    blobs = desk.fetch(lock)
    for file in model.files:
        assert blobs.path(file.sha256).read_bytes() == FILES[file.path]
        assert Digest.of(FILES[file.path]) == file.sha256
    assert desk.hub.sent("*.safetensors") == head + len(BIG)
    desk.hub.log.clear()
    again = desk.fetch(lock)
    assert desk.hub.log == [] and again.fetched == 0 and again.retried == 0
    assert desk.lock(keep=lock) == lock and desk.hub.log == []
    desk.lock()
    assert all("/resolve/" not in access.path for access in desk.hub.log), "small files are known by their git blob id"


def test_two_files_of_one_content_are_fetched_once(desk: Desk, tmp_path: Path) -> None:
    desk.hub.add("o/twins", parts.write(tmp_path / "twins", {"a.safetensors": BIG, "b.safetensors": BIG}))
    blobs = desk.fetch(desk.lock(source="hf://o/twins"), source="hf://o/twins")
    assert desk.hub.sent("*/resolve/*") == len(BIG) and blobs.path(Digest.of(BIG)).exists()


def test_the_bytes_are_proven_whatever_the_hub_does(desk: Desk) -> None:
    lock = desk.lock()
    desk.hub.faults.add(Fault("flip", path="*.safetensors", at=1_000_000, times=-1))
    with pytest.raises(DigestMismatch, match=r"chat: model\.safetensors \(http.*\): has digest"):
        desk.fetch(lock)
    desk.hub.faults.clear()
    desk.hub.faults.add(Fault("cut", path="*.safetensors", at=1_000_000), Fault("status", path="*.safetensors", status=503))
    blobs = desk.fetch(lock)
    assert blobs.retried == 2 and blobs.path(Digest.of(BIG)).read_bytes() == BIG


def test_a_wrong_small_file_is_refused(desk: Desk) -> None:
    desk.hub.faults.add(Fault("flip", path="*/resolve/*/config.json", times=-1))
    with pytest.raises(DigestMismatch, match=r"config\.json \(http.*\): has git blob id"):
        desk.lock()


def test_a_revision_may_move_but_the_lock_does_not(desk: Desk, tmp_path: Path) -> None:
    lock = desk.lock()
    desk.hub.add("o/m", parts.write(tmp_path / "newer", {**FILES, "model.safetensors": parts.safetensors({"w": b"new"})}))
    assert desk.fetch(lock).path(Digest.of(BIG)).read_bytes() == BIG
    assert desk.model().commit != lock.models["chat"].commit
    assert desk.model(revision=lock.models["chat"].commit).commit == lock.models["chat"].commit


def test_demands(desk: Desk) -> None:
    digest = Digest.of(BIG).hex
    assert desk.model(sha256={"model.safetensors": digest})
    with pytest.raises(DigestMismatch, match=r"model\.safetensors: has sha256 .*, the manifest demands 000"):
        desk.model(sha256={"model.safetensors": "0" * 64})
    with pytest.raises(SpecError, match=r"did you mean 'model\.safetensors'"):
        desk.model(sha256={"modle.safetensors": digest})


def test_pickles(desk: Desk, tmp_path: Path) -> None:
    desk.hub.add("o/pickle", parts.write(tmp_path / "pickle", {"pytorch_model.bin": b"p" * 10, "config.json": b"{}"}))
    with pytest.raises(SpecError, match=r"pytorch_model\.bin -> say 'allow_pickle: true'"):
        desk.model(source="hf://o/pickle")
    assert len(desk.model(source="hf://o/pickle", allow_pickle=True).files) == 2


def test_gated_models(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", desk.hub.url)
    desk.hub.add("o/gated", tmp_path / "o-m", gated=True)
    page = f"{desk.hub.url}/o/gated"
    with pytest.raises(AccessDenied, match=f"o/gated: .* -> accept its terms at {page}, then set HF_TOKEN"):
        desk.model(source="hf://o/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    with pytest.raises(AccessDenied, match=page):
        desk.model(source="hf://o/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_testbed")
    desk.fetch(desk.lock(source="hf://o/gated"), source="hf://o/gated")


def test_what_is_not_there(desk: Desk) -> None:
    with pytest.raises(NotFound, match=f"o/m: has no revision 'v9' -> see {desk.hub.url}/o/m"):
        desk.model(revision="v9")
    with pytest.raises(NotFound, match=f"no such repository.* -> check the name at {desk.hub.url}/o/nothing"):
        desk.model(source="hf://o/nothing")
    with pytest.raises(SpecError, match="not the name of a repository"):
        desk.model(source="hf://o/m/x")
    lock = desk.lock()
    desk.hub.faults.add(Fault("status", path="*.safetensors", status=404))
    with pytest.raises(NotFound, match="no such file any more"):
        desk.fetch(lock)


def test_what_went_away_after_the_lock_was_made(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", desk.hub.url)
    lock = desk.lock()
    repository = desk.hub.repositories["o/m"]
    files = repository.commits[repository.branches["main"]]
    weights = files.pop("model.safetensors")
    with pytest.raises(NotFound, match=f"no such file any more -> see {desk.hub.url}/o/m/tree/main"):
        desk.fetch(lock)
    files["model.safetensors"] = weights
    commits = dict(repository.commits)
    repository.commits.clear()
    with pytest.raises(NotFound, match=f"no longer has the commit of the lock: .* -> see {desk.hub.url}/o/m/commits/main"):
        desk.fetch(lock)
    repository.commits.update(commits)
    del desk.hub.repositories["o/m"]
    with pytest.raises(
        NotFound, match=f"no such repository any more.* -> check {desk.hub.url}/o/m; if it is private, set HF_TOKEN"
    ):
        desk.fetch(lock)
    desk.hub.repositories["o/m"] = repository
    repository.gated = True
    with pytest.raises(AccessDenied, match=f"accept its terms at {desk.hub.url}/o/m"):
        desk.fetch(lock)


def test_a_renamed_repository(desk: Desk) -> None:
    """The lock is fetched all the same, but a new one wants the new name."""
    lock = desk.lock()
    desk.hub.repositories["new/name"] = desk.hub.repositories.pop("o/m")
    desk.hub.renamed["o/m"] = "new/name"
    assert desk.fetch(lock).path(Digest.of(BIG)).read_bytes() == BIG
    with pytest.raises(NotFound, match=f"o/m: is called new/name now -> write hf://new/name .*: see {desk.hub.url}/new/name"):
        desk.lock()


def test_a_revision_that_moves_while_it_is_fetched(desk: Desk, tmp_path: Path) -> None:
    """Between two files, and within one: the lock names a commit, so nothing of the newer one comes in."""
    lock = desk.lock()
    desk.hub.faults.add(Fault("cut", path="*.safetensors", at=1_000_000))
    newer = parts.write(tmp_path / "newer", {**FILES, "model.safetensors": parts.safetensors({"w": bytes(3 << 20)})})

    class Mover(Silent):
        def note(self, line: str, **facts: object) -> None:
            desk.hub.add("o/m", newer)

    manifest = desk.manifest()
    blobs = fetch(lock, manifest, Path("/"), Session(desk.store, options=parts.QUICK, progress=Mover()))
    assert blobs.path(Digest.of(BIG)).read_bytes() == BIG and blobs.retried == 1


def test_metadata_is_asked_for_again(desk: Desk) -> None:
    desk.hub.faults.add(Fault("status", path="/api/*", status=503), Fault("status", path="/api/*", status=429))
    assert desk.model().commit
    with pytest.raises(NetworkError, match=r"Connection refused.*\(4 attempts\)"):
        desk.model(endpoint="http://127.0.0.1:1")


def test_plain_http_beyond_the_loopback(desk: Desk) -> None:
    with pytest.raises(SpecError, match="is not https://"):
        desk.model(endpoint="http://hub.example.com")


def test_the_endpoint_of_the_environment(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", desk.hub.url)
    assert desk.model(endpoint=None).endpoint == desk.hub.url


def test_weights_that_were_published_incompletely(desk: Desk, tmp_path: Path) -> None:
    short = {"config.json": b"{}", "model.safetensors": BIG[:-1]}
    desk.hub.add("o/short", parts.write(tmp_path / "short", short))
    with pytest.raises(DigestMismatch, match=r"model\.safetensors: not a whole safetensors file"):
        desk.lock(source="hf://o/short")
    sent = [access for access in desk.hub.log if access.path.endswith("model.safetensors") and not access.range]
    assert not sent, "nothing but its head was asked for"
    index = b'{"weight_map": {"w": "model-1.safetensors"}}'
    desk.hub.add(
        "o/shard", parts.write(tmp_path / "shard", {"model-2.safetensors": BIG, "model.safetensors.index.json": index})
    )
    with pytest.raises(NotFound, match=r"shards that are not there: model-1\.safetensors"):
        desk.lock(source="hf://o/shard")


def test_the_first_error_ends_the_fetch(desk: Desk, tmp_path: Path) -> None:
    many = {f"model-{n}.safetensors": parts.safetensors({str(n): os.urandom(100_000)}) for n in range(30)}
    desk.hub.add("o/many", parts.write(tmp_path / "many", many))
    lock = desk.lock(source="hf://o/many")
    desk.hub.log.clear()
    desk.hub.faults.add(Fault("status", path="*model-0.safetensors", status=404))
    with pytest.raises(KitError):
        desk.fetch(lock, source="hf://o/many")
    assert len(desk.hub.log) < 25
