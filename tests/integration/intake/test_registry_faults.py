"""Images from a registry that misbehaves: cut, wrong, slow, refusing, elsewhere."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from offline_kit.common.errors import AccessDenied, DigestMismatch, KitError, NetworkError, NotFound
from offline_kit.intake.fetch import Blobs, fetch
from offline_kit.intake.resolve import resolve
from offline_kit.intake.session import Session
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import TransferOptions
from offline_kit.spec.lock import Lock
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.front import Front
from tests.testbed.servers.registry import Registry

BLOBS = "/v2/*/blobs/*"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    work = tmp_path_factory.mktemp("registry")
    image = parts.image("gzip", content=base64.b64encode(os.urandom(60)).decode())
    with Registry(work / "storage", work) as running:
        parts.push(running.url, "image", "v1", image)
        yield running


@pytest.fixture
def front(served: Registry) -> Iterator[Front]:
    with Front(served.url) as front:
        yield front


class Desk:
    """Resolves and fetches one image, through the front."""

    def __init__(self, front: Front, store: Store) -> None:
        self.store = store
        entry = {"source": f"docker://{front.host}/image:v1"}
        self.manifest = parts.manifest({"engine": entry, "gateway": entry})

    def lock(self) -> Lock:
        return resolve(self.manifest, Path("/"), {}, Session(self.store, options=parts.QUICK))

    def fetch(self, lock: Lock, options: TransferOptions = parts.QUICK) -> Blobs:
        return fetch(lock, self.manifest, Path("/"), Session(self.store, options=options))


@pytest.fixture
def desk(front: Front, tmp_path: Path) -> Desk:
    return Desk(front, Store(tmp_path / "store"))


def layer_size(lock: Lock) -> int:
    return lock.images["engine"].layers[0].size


def test_cut_and_resumed(front: Front, desk: Desk) -> None:
    lock = desk.lock()
    front.log.clear()
    front.faults.add(Fault("cut", path=BLOBS, at=200), Fault("cut", path=BLOBS, at=100))
    blobs = desk.fetch(lock)
    assert front.sent(BLOBS) == layer_size(lock) and blobs.retried == 2
    assert [access.range for access in front.log if access.matches(BLOBS)] == [None, "bytes=200-", "bytes=300-"]


def test_one_wrong_byte(front: Front, desk: Desk) -> None:
    lock = desk.lock()
    front.log.clear()
    front.faults.add(Fault("flip", path=BLOBS, at=100, times=-1))
    with pytest.raises(DigestMismatch, match=rf"layer \w+ \(http://{front.host}/.*\): has digest"):
        desk.fetch(lock)
    assert len([access for access in front.log if access.matches(BLOBS)]) == 2, "retried once, then refused by name"
    front.faults.clear()
    front.faults.add(Fault("flip", path="/v2/image/manifests/*", at=30, times=-1))
    with pytest.raises(DigestMismatch, match="manifest has digest"):
        Desk(front, Store(desk.store.root.with_name("second"))).lock()


def test_bursts_stalls_and_no_ranges(front: Front, desk: Desk) -> None:
    front.faults.add(Fault("status", status=429, seconds=0.1), Fault("status", status=503, times=2))
    lock = desk.lock()
    front.faults.add(Fault("stall", path=BLOBS, at=200, seconds=60), Fault("no-range", path=BLOBS))
    assert desk.fetch(lock, parts.IMPATIENT).retried == 1
    with pytest.raises(NetworkError, match=r"HTTP 503 Service Unavailable \(4 attempts\)"):
        front.faults.add(Fault("status", status=503, times=-1))
        desk.lock()


def test_a_tag_that_moves_after_the_lock_was_made(served: Registry, front: Front, desk: Desk) -> None:
    lock = desk.lock()
    parts.push(served.url, "image", "kept", parts.image("gzip", content="newer"))
    manifest = lock.images["engine"].manifest.digest
    newer = parts.image("gzip", content="newer")
    parts.push(served.url, "image", "v1", newer)
    desk.store.evict(manifest)
    blobs = desk.fetch(lock)
    assert blobs.path(manifest).exists()
    assert str(desk.lock().images["engine"].manifest.digest) == parts.digest(newer.manifest)


@pytest.mark.parametrize("status", [401, 403])
def test_refused(front: Front, desk: Desk, status: int) -> None:
    lock = desk.lock()
    front.faults.add(Fault("status", path=BLOBS, status=status, times=-1))
    with pytest.raises(AccessDenied, match=f"-> docker login {front.host}"):
        desk.fetch(lock)


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [(410, NotFound, "HTTP 410 .* -> it was taken away"), (451, AccessDenied, "HTTP 451 .* -> the law forbids it")],
)
def test_gone_or_forbidden(front: Front, desk: Desk, status: int, kind: type[KitError], told: str) -> None:
    lock = desk.lock()
    front.faults.add(Fault("status", path=BLOBS, status=status, times=-1))
    with pytest.raises(kind, match=told):
        desk.fetch(lock)


def test_a_circle_of_redirects(front: Front, desk: Desk) -> None:
    lock = desk.lock()
    front.faults.add(Fault("redirect", path=BLOBS, to=front.url, times=-1))
    with pytest.raises(
        NetworkError, match=r"sends on more than 10 times, the last time to .*/blobs/.* -> check the address; a login"
    ):
        desk.fetch(lock)


def test_blobs_at_another_host_get_no_login(served: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As cloud registries do it: the registry wants a login, its store is another host and must not see it."""
    settings = tmp_path / "docker"
    with (
        Registry(served.storage, tmp_path / "work", user=("me", "secret")) as closed,
        Front(closed.url) as front,
        Front(served.url) as store,
    ):
        front.store = store.url.replace("127.0.0.1", "localhost")
        login = base64.b64encode(b"me:secret").decode()
        parts.write(settings, {"config.json": json.dumps({"auths": {front.host: {"auth": login}}}).encode()})
        monkeypatch.setenv("DOCKER_CONFIG", str(settings))
        desk = Desk(front, Store(tmp_path / "store"))
        desk.fetch(desk.lock())
        assert [access for access in front.log if access.status == 401], "the registry asked for a login"
        assert store.log and not [access for access in store.log if "/blobs/" not in access.path]
        assert not store.seen_logins
