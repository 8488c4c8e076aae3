"""A bundle pushed to a real registry: every byte there, under the digests of the lock; and what may go wrong on the way."""

from __future__ import annotations

import base64
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from offline_kit.bundle.extract import extract
from offline_kit.cli.main import cli
from offline_kit.common.digest import Digest
from offline_kit.common.errors import (
    AccessDenied,
    BundleDamaged,
    BundleUnreadable,
    DigestMismatch,
    KitError,
    NetworkError,
    NotFound,
    SpecError,
)
from offline_kit.common.progress import Silent
from offline_kit.common.redact import shown
from offline_kit.intake.transfer.http_client import TransferOptions
from offline_kit.publish.artifacts import layers_of
from offline_kit.publish.push import Destination, Outcome, push
from tests.support.bundle_sample import VERSION, Sample, make_sample, safetensors
from tests.testbed.servers.registry import Registry
from tests.testbed.servers.upload_front import UploadFault, UploadFront

WEIGHTS = 700_000
CHUNK = 64 << 10
QUICK = TransferOptions(retries=3, backoff=0.01)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    made = make_sample(tmp_path_factory.mktemp("push") / "blobs", weights=3000)
    made.model("chat", {"config.json": b"{}\n", "model.safetensors": safetensors(WEIGHTS), "sub/a b.txt": b"spaces\n"})
    return made


@pytest.fixture(scope="module")
def bundle(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.pack(tmp_path_factory.mktemp("bundle") / "kit-v1.0.0.tar.gz")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One for all: each test has a prefix of its own, and a registry asks for blobs by repository."""
    folder = tmp_path_factory.mktemp("site")
    with Registry(folder / "storage", folder / "registry") as running:
        yield running


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return "t" + Digest.of(request.node.name.encode()).short


@pytest.fixture
def front(site: Registry) -> Iterator[UploadFront]:
    with UploadFront(site.host) as running:
        yield running


def pushed(path: Path, to: str, *, dry_run: bool = False, read_all: bool = False, options: TransferOptions = QUICK) -> Outcome:
    where = Destination.parse(to, insecure=False, chunk=CHUNK)
    return push(path, where, options=options, jobs=2, dry_run=dry_run, read_all=read_all, progress=Silent())


def skopeo(*arguments: str) -> str:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True, text=True).stdout


def raw(site: Registry, name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{site.host}/{name}"))
    return found


def test_foreign_clients_get_what_the_lock_names(bundle: Path, sample: Sample, site: Registry, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["push", str(bundle), f"{site.host}/site/ai", "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    by_form = {(item["form"], item["key"]): item for item in report["pushed"]}
    for key, image in sample.images.items():
        assert by_form["image", key]["digest"] == str(image.manifest.digest)
        skopeo("copy", "--src-tls-verify=false", f"docker://{by_form['image', key]['reference']}", f"dir:{tmp_path / key}")
    layers = raw(site, "site/ai/models/chat:v1.0.0-modelpack")["layers"]
    assert isinstance(layers, list)
    assert {item["annotations"]["org.cncf.model.filepath"]: item["digest"] for item in layers} == {
        file.path: str(file.sha256) for file in sample.models["chat"].files
    }
    skopeo("copy", "--src-tls-verify=false", f"docker://{site.host}/site/ai/models/chat:v1.0.0", f"dir:{tmp_path / 'car'}")
    manifest = json.loads((tmp_path / "car/manifest.json").read_text())
    files: dict[str, bytes] = {}
    for layer in manifest["layers"]:
        with tarfile.open(tmp_path / "car" / layer["digest"].removeprefix("sha256:")) as tar:
            files |= {item.name: read.read() for item in tar if item.isfile() and (read := tar.extractfile(item))}
    assert files == {f"models/{file.path}": sample.path_of(file.sha256).read_bytes() for file in sample.models["chat"].files}
    kit = raw(site, "site/ai/kit:v1.0.0")
    assert kit["artifactType"] == "application/vnd.offline-kit.kit.v1+json"


def test_a_kit_and_its_bundle_are_one_and_nothing_is_sent_twice(
    bundle: Path, site: Registry, prefix: str, tmp_path: Path
) -> None:
    place = f"{site.host}/{prefix}"
    would = pushed(bundle, place, dry_run=True)
    assert would.sent == 0 and would.present == 0
    with pytest.raises(subprocess.CalledProcessError):
        raw(site, f"{prefix}/kit:v1.0.0")
    first = pushed(bundle, place)
    kit, _ = extract(bundle, tmp_path, progress=Silent())
    again = pushed(kit, place, read_all=True)
    assert again.sent == 0 and again.present == again.total == first.total
    assert [item["digest"] for item in again.pushed] == [item["digest"] for item in first.pushed]


def test_a_push_through_faults_sends_little_twice(sample: Sample, front: UploadFront, prefix: str, tmp_path: Path) -> None:
    """A cut, 429, 500 and 502 in turn, twenty of them: what the registry has of a blob is not sent again."""
    large = make_sample(tmp_path / "blobs", weights=7_500_000).pack(tmp_path / "kit-v1.0.0.tar.gz")
    kinds = [("cut", 0), ("status", 429), ("cut", 0), ("status", 500), ("status", 502)]
    front.faults = [UploadFault(kind, at=CHUNK // 2, status=status, skip=9) for _ in range(4) for kind, status in kinds]
    options = TransferOptions(retries=30, backoff=0.001)
    outcome = pushed(large, f"{front.host}/{prefix}", options=options)
    assert front.hit == 20 and not front.faults
    assert outcome.retried >= 20
    assert front.received <= outcome.sent <= 1.1 * outcome.total
    assert pushed(large, f"{front.host}/{prefix}").sent == 0


@pytest.mark.parametrize(
    "fault",
    [
        UploadFault("stream", at=CHUNK // 2, skip=9),  # the registry forgets what it had
        UploadFault("lost", skip=9),
        UploadFault("lost", method="PUT"),
        UploadFault("status", method="PATCH", status=405),
        UploadFault("status", method="PUT", status=503),
        UploadFault("status", method="HEAD", status=503),
        UploadFault("cut", method="POST"),
        UploadFault("status", method="GET", status=500),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.method}",
)
def test_a_push_ends_whole(bundle: Path, front: UploadFront, prefix: str, fault: UploadFault) -> None:
    front.faults = [fault]
    pushed(bundle, f"{front.host}/{prefix}")
    assert front.hit == 1
    assert pushed(bundle, f"{front.host}/{prefix}").sent == 0


def test_smaller_requests_where_large_ones_are_refused(bundle: Path, front: UploadFront, prefix: str) -> None:
    front.limit = 600_000
    where = Destination.parse(f"{front.host}/{prefix}", insecure=False, chunk=16 << 20)
    push(bundle, where, options=QUICK, jobs=2, progress=Silent())
    front.limit = 100
    with pytest.raises(NetworkError, match=r"413.*client_max_body_size"):
        pushed(bundle, f"{front.host}/{prefix}/other")


@pytest.mark.parametrize(("at", "says"), [(0, "keeps nothing of it .Range: 0-0"), (2, "keeps 2 of it")])
def test_a_registry_that_keeps_next_to_nothing_is_not_sent_to_without_end(
    bundle: Path, front: UploadFront, prefix: str, at: int, says: str
) -> None:
    front.faults = [UploadFault("idle", at=at)] * 60
    with pytest.raises(NetworkError, match=says):
        pushed(bundle, f"{front.host}/{prefix}")
    assert front.hit <= 2 * (QUICK.retries + 1)  # two blobs at once


def test_a_registry_that_wants_larger_pieces_than_its_proxy_takes(bundle: Path, front: UploadFront, prefix: str) -> None:
    front.faults = [UploadFault("status", method="GET", status=404, part="/uploads/")] * 60
    front.limit, front.least = 2 * CHUNK, 3 * CHUNK
    with pytest.raises(NetworkError, match=r"413.*no pieces below 196608 bytes"):
        pushed(bundle, f"{front.host}/{prefix}")
    assert front.hit == 0


def test_a_registry_that_pauses_while_it_takes_a_body(front: UploadFront, prefix: str, tmp_path: Path) -> None:
    large = make_sample(tmp_path / "blobs", weights=7_500_000).pack(tmp_path / "kit-v1.0.0.tar.gz")
    front.faults = [UploadFault("pause", method="PUT", part="/uploads/")] * 2  # the largest two come first
    options = TransferOptions(retries=0, backoff=0.01, connect_timeout=0.3)
    where = Destination.parse(f"{front.host}/{prefix}", insecure=False, chunk=16 << 20)
    assert push(large, where, options=options, jobs=2, progress=Silent()).retried == 0


@pytest.mark.parametrize(("kind", "says"), [("flip", "gives back sha256"), ("longer", "gives back over")])
def test_what_does_not_come_back_gets_no_tag(
    bundle: Path, site: Registry, front: UploadFront, prefix: str, kind: str, says: str
) -> None:
    front.faults = [UploadFault(kind, method="GET", part="/blobs/sha256:")]
    with pytest.raises(DigestMismatch, match=says):
        pushed(bundle, f"{front.host}/{prefix}")
    assert front.hit == 1
    with pytest.raises(subprocess.CalledProcessError):
        raw(site, f"{prefix}/images/engine:v1.0.0")


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        (UploadFault("flip", method="GET", skip=20), DigestMismatch, "gives back|names"),
        (UploadFault("elsewhere", method="POST"), NetworkError, "another address"),
        (UploadFault("riddle", method="POST"), NetworkError, "no HTTP address"),
        (UploadFault("status", method="POST", status=404), NotFound, "make the project there first"),
        (UploadFault("status", method="POST", status=403), AccessDenied, "docker login"),
        (UploadFault("status", method="POST", status=405), NetworkError, "takes no uploads"),
    ],
    ids=lambda value: str(getattr(value, "status", "")) if isinstance(value, UploadFault) else "",
)
def test_one_clear_error(
    bundle: Path, front: UploadFront, prefix: str, fault: UploadFault, error: type[KitError], says: str
) -> None:
    front.faults = [fault]
    with pytest.raises(error, match=says):
        pushed(bundle, f"{front.host}/{prefix}")


def test_logins_are_those_of_docker(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry(tmp_path / "storage", tmp_path / "registry", user=("ops", "a-secret-word")) as site:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(AccessDenied, match="docker login"):
            pushed(bundle, site.host)
        login = base64.b64encode(b"ops:a-secret-word").decode()
        (tmp_path / "config.json").write_text(json.dumps({"auths": {site.host: {"auth": login}}}))
        assert pushed(bundle, site.host).sent > WEIGHTS


def test_what_is_damaged_gets_no_tag(bundle: Path, sample: Sample, site: Registry, prefix: str, tmp_path: Path) -> None:
    kit, _ = extract(bundle, tmp_path, progress=Silent())
    layer = kit / "images/blobs/sha256" / sample.images["engine"].layers[-1].digest.hex
    for victim in (kit / "models/chat/model.safetensors", layer):
        right = victim.read_bytes()
        victim.write_bytes(right[:-1] + bytes([right[-1] ^ 1]))
        with pytest.raises(BundleDamaged):
            pushed(kit, f"{site.host}/{prefix}")
        victim.write_bytes(right)
    for paper in ("bundle.json", "sbom.cdx.json"):
        right = (kit / paper).read_bytes()
        (kit / paper).write_bytes(right.replace(b"v1.0.0", b"v6.6.6") + b"\n")
        with pytest.raises(BundleDamaged, match="is not the file of the sums"):
            pushed(kit, f"{site.host}/{prefix}")
        (kit / paper).unlink()
        with pytest.raises((BundleDamaged, BundleUnreadable)):
            pushed(kit, f"{site.host}/{prefix}")
        (kit / paper).write_bytes(right)
    victim.unlink()
    with pytest.raises(BundleDamaged, match="is not there"):
        pushed(kit, f"{site.host}/{prefix}")
    with pytest.raises(subprocess.CalledProcessError):
        raw(site, f"{prefix}/images/engine:v1.0.0")


@pytest.mark.parametrize("name", ["registry", "UPPER.example/a b", "r.example:99999", "r.example/Caps", "http://r.example/x"])
def test_what_is_no_registry(bundle: Path, name: str) -> None:
    with pytest.raises(SpecError):
        pushed(bundle, name)


def test_a_password_is_not_shown(bundle: Path) -> None:
    for place in ("admin:s3same@registry:5000/ai", "admin:s3/same@registry.example/ai", "s3same-token@r.example"):
        with pytest.raises(SpecError, match="docker login") as caught:
            pushed(bundle, place)
        assert "s3" not in str(caught.value)
    assert "s3same-token" not in shown("a line of a log with s3same-token in it")


def test_a_lock_is_no_bundle(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "kit.lock.json").write_text(sample.lock().text())
    with pytest.raises(BundleUnreadable):
        pushed(tmp_path / "kit.lock.json", "127.0.0.1:9")


def test_layers_are_small_files_then_shards(sample: Sample) -> None:
    sample = make_sample(sample.folder)
    shards = {f"model-{number}.safetensors": bytes([number]) * (17 << 20) for number in range(4)}
    sample.model("large", {"config.json": b"{}", **shards})
    layers = layers_of("large", sample.models["large"], group=40 << 20)
    assert [round(layer.size / (17 << 20)) for layer in layers] == [0, 2, 2]
    assert VERSION == "v1.0.0"
