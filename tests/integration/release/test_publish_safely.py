"""What publishing does not touch, where it sends nothing, and what it says of a disk, a line or a store at fault."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DiskError, KitError, NetworkError, SpecError
from offline_kit.common.progress import Silent
from offline_kit.release.index import Release, Releases, parse_index
from offline_kit.release.publish.destination import Destination, Upload
from offline_kit.release.publish.publish import open_destination, publish
from offline_kit.release.publish.s3_errors import s3_errors
from tests.support import intake_samples as parts
from tests.testbed.servers.registry import Registry
from tests.testbed.servers.s3 import WHO, S3Server
from tests.testbed.servers.upload_front import UploadFault, UploadFront

SIZE = 1 << 20


@pytest.fixture
def front(tmp_path: Path) -> Iterator[UploadFront]:
    with Registry(tmp_path / "storage", tmp_path) as registry, UploadFront(registry.host) as front:
        yield front


def made(folder: Path, version: str) -> Release:
    """A release of one file of random bytes."""
    path = folder / f"demo-{version}.tar"
    path.write_bytes(os.urandom(SIZE))
    digest = Digest.of_file(path)
    return Release(
        version=version, made="2026-01-01T00:00:00Z", content=digest, lock=digest, fingerprint="words", file=path.name,
        files=(path.name,), size=SIZE, sha256={path.name: digest.hex},
    )  # fmt: skip


def there(place: Destination) -> Releases:
    return parse_index(place.read_index() or b"", "demo", place.address)


def put_image(front: UploadFront, tag: str) -> None:
    parts.push(f"http://{front.host}", "kits/demo", tag, parts.image("gzip", content=tag))


def tags(front: UploadFront) -> set[str]:
    with urllib.request.urlopen(f"http://{front.behind}/v2/kits/demo/tags/list") as reply:
        return set(json.load(reply)["tags"])


def test_images_of_others_are_neither_replaced_nor_removed(front: UploadFront, tmp_path: Path) -> None:
    place = open_destination(f"oci://{front.host}/kits/demo", 1)
    first, second, third = (made(tmp_path, f"v1.0.{number}") for number in range(3))
    put_image(front, "v1.0.1")
    with pytest.raises(SpecError, match=r"v1\.0\.1: the tag is there"):
        publish(tmp_path, Releases(name="demo", releases=(first, second)), place, Silent())
    assert there(place).releases == (first,)
    publish(tmp_path, Releases(name="demo", releases=(third,), pruned=("v1.0.0", "v1.0.1")), place, Silent())
    assert place.remove({"v1.0.1": second.files}, Silent()) == [], "told, and left for good"
    assert tags(front) == {"v1.0.1", "v1.0.2", "releases"} and there(place).releases == (third,)
    put_image(front, "releases")
    with pytest.raises(SpecError, match="not the index of releases"):
        place.read_index()


@pytest.mark.parametrize(("status", "again"), [(403, True), (405, False)])
def test_what_could_not_be_removed_is_tried_again(front: UploadFront, tmp_path: Path, status: int, again: bool) -> None:
    place = open_destination(f"oci://{front.host}/kits/demo", 1)
    first, second = made(tmp_path, "v1"), made(tmp_path, "v1.0")
    publish(tmp_path, Releases(name="demo", releases=(first, second)), place, Silent())
    left = Releases(name="demo", releases=(second,), pruned=("v1",))
    front.faults = [UploadFault("status", "DELETE", status=status)]
    publish(tmp_path, left, place, Silent())
    assert there(place).removing == (first.files if again else ())
    publish(tmp_path, left, place, Silent())
    assert there(place) == left
    assert ("v1" in tags(front)) != again


@pytest.mark.parametrize("kind", ["elsewhere", "riddle"])
def test_no_bytes_go_to_another_address(front: UploadFront, tmp_path: Path, kind: str) -> None:
    release = made(tmp_path, "v1")
    front.faults = [UploadFault(kind, "POST")]
    with pytest.raises(NetworkError, match=r"another address|no HTTP address"):
        publish(tmp_path, Releases(name="demo", releases=(release,)), open_destination(f"oci://{front.host}/a/b", 1), Silent())
    assert front.received == 0 and front.hit == 1


def test_a_blob_that_lies_elsewhere_is_there(front: UploadFront, tmp_path: Path) -> None:
    place = open_destination(f"oci://{front.host}/kits/demo", 1)
    index = Releases(name="demo", releases=(made(tmp_path, "v1"),))
    publish(tmp_path, index, place, Silent())
    before = front.received
    front.faults = [UploadFault("status", "HEAD", status=307)]
    place.upload(index.releases[0], [upload(tmp_path / "demo-v1.tar")], Silent())
    assert front.hit == 1 and front.received - before < SIZE


def test_a_disk_that_fails_is_no_network(front: UploadFront) -> None:
    unreadable = Upload(Path("/proc/self/mem"), SIZE, Digest.of(b""))  # EIO
    release = Release.model_validate(
        {"version": "v1", "made": "", "content": Digest.of(b""), "lock": Digest.of(b""), "fingerprint": "", "file": "mem",
         "files": ["mem"], "size": SIZE, "sha256": {}}
    )  # fmt: skip
    with pytest.raises(DiskError, match="/proc/self/mem"):
        open_destination(f"oci://{front.host}/kits/demo", 1).upload(release, [unreadable], Silent())


def test_a_store_at_fault_is_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = made(tmp_path, "v1")
    files = [upload(tmp_path / "demo-v1.tar")]
    for name, value in WHO.items():
        monkeypatch.setenv(name, value)
    with S3Server(tmp_path, "releases") as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{store.port}")
        with pytest.raises(NetworkError, match="SSL"):
            open_destination("s3://releases", 1).upload(release, files, Silent())
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        place = open_destination("s3://releases/kits", 1)
        publish(tmp_path, Releases(name="demo", releases=(release,)), place, Silent())
        publish(tmp_path, Releases(name="demo", pruned=("v1",)), place, Silent())
        assert store.objects().keys() == {"kits/releases.json"}
        assert b"?delete" not in (tmp_path / "releases.log").read_bytes(), "boto3 gives it no MD5, which stores demand"
        assert open_destination("s3://nothing", 1).remove({"v1": release.files}, Silent()) == list(release.files)


def test_an_index_that_somebody_wrote_there_removes_nothing_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = made(tmp_path, "v1"), made(tmp_path, "v2")
    (tmp_path / "precious.bin").write_bytes(b"of somebody else")
    for name, value in WHO.items():
        monkeypatch.setenv(name, value)
    with S3Server(tmp_path, "releases") as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.url)
        place = open_destination("s3://releases/kits", 1)
        publish(tmp_path, Releases(name="demo", releases=(first, second)), place, Silent())
        place.upload(second, [upload(tmp_path / "precious.bin")], Silent())
        names = ("precious.bin", "releases.json", "demo-v2.tar", "demo-v1.tar")
        place.show(there(place).model_copy(update={"removing": names}))
        publish(tmp_path, Releases(name="demo", releases=(second,), pruned=("v1",)), place, Silent())
        assert store.objects().keys() == {"kits/releases.json", "kits/precious.bin", "kits/demo-v2.tar"}
        assert there(place) == Releases(name="demo", releases=(second,), pruned=("v1",))


def test_words_of_a_store_are_one_line() -> None:
    with pytest.raises(KitError) as refused, s3_errors("s3://releases"):
        raise ClientError({"Error": {"Code": "Odd\n", "Message": "one\r\ntwo \x1b[31mred"}}, "PutObject")
    assert str(refused.value).isprintable()


def upload(path: Path) -> Upload:
    return Upload(path, path.stat().st_size, Digest.of_file(path))
