"""The testbed's own promises, on the real programs: what the other tests lean on."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from huggingface_hub import HfApi
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from tests.testbed import images, models
from tests.testbed.cache import REPOSITORY
from tests.testbed.dockerd import Dockerd
from tests.testbed.fixtures import Testbed
from tests.testbed.process import TestbedError, run
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry, clone

CHAT = "offline-kit/tiny-chat"
COMMON = ["--enforce-eager", "--max-num-seqs", "4", "--kv-cache-memory-bytes", "32M"]
NGINX = """
pid /tmp/nginx.pid;
events {}
http {
  client_body_temp_path /tmp/body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u;
  scgi_temp_path /tmp/s;
  server { listen 8000; location / { return 200 "fine"; } }
}
"""


@pytest.fixture
def weights(hub: Hub) -> str:
    """The address of a file of weights on the hub."""
    return f"{hub.url}/{CHAT}/resolve/main/model.safetensors"


def test_dockerd_pulls_from_the_registry_and_runs_a_container(dockerd: Dockerd, registry: Registry) -> None:
    image = f"{registry.host}/{images.TINY}"
    dockerd.docker("pull", image)
    assert dockerd.docker("run", "--rm", "--network", "none", image, "echo", "it runs") == "it runs"


def test_the_gateway_runs_as_nobody_on_a_read_only_root(airgap: Dockerd, testbed: Testbed, tmp_path: Path) -> None:
    with Registry(clone(testbed.storage, tmp_path / "s"), tmp_path / "r", prefix=airgap.nsenter) as registry:
        airgap.docker("pull", "--quiet", f"{registry.host}/{images.GATEWAY}")
    (tmp_path / "nginx.conf").write_text(NGINX)
    strict = ("--user", "10001", "--read-only", "--cap-drop", "ALL", "--tmpfs", "/tmp", "--publish", "127.0.0.1:8000:8000")
    mount = ("--volume", f"{tmp_path / 'nginx.conf'}:/etc/nginx/nginx.conf:ro")
    airgap.docker("run", "--detach", "--name", "gw", *strict, *mount, f"{registry.host}/{images.GATEWAY}")
    try:
        asked = airgap.run(
            ["curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:8000/"]
        )
        assert asked.stdout == "fine", asked.stderr + airgap.docker("logs", "gw")
    finally:
        airgap.docker("rm", "--force", "gw")


def test_the_cuda_dockerfile_only_labels_and_configures(dockerd: Dockerd, registry: Registry) -> None:
    base = f"{registry.host}/{images.TINY}"
    dockerd.docker("pull", "--quiet", base)
    options = ("--network", "host", "--build-arg", f"BASE={base}", "--file", str(REPOSITORY / "Dockerfile"))
    dockerd.docker("build", "--tag", "engine:cuda", *options, str(REPOSITORY))
    made = json.loads(dockerd.docker("inspect", "engine:cuda"))[0]["Config"]
    assert made["Labels"]["io.offline-kit.accelerator"] == "cuda"
    assert "HF_HUB_OFFLINE=1" in made["Env"]
    assert made["Entrypoint"] == ["vllm", "serve"]
    with pytest.raises(TestbedError, match="must be cuda or cpu"):
        dockerd.docker("build", *options, "--build-arg", "ACCELERATOR=tpu", str(REPOSITORY))


def test_a_pushed_image_comes_back_with_its_digest(dockerd: Dockerd, registry: Registry) -> None:
    dockerd.docker("pull", f"{registry.host}/{images.TINY}")
    dockerd.docker("tag", f"{registry.host}/{images.TINY}", f"{registry.host}/mine/copy:1")
    pushed = dockerd.docker("push", f"{registry.host}/mine/copy:1")
    answer = requests.get(
        f"{registry.url}/v2/mine/copy/manifests/1",
        timeout=5,
        headers={"Accept": "application/vnd.docker.distribution.manifest.v2+json"},
    )
    assert answer.headers["Docker-Content-Digest"] in pushed


def test_a_registry_with_a_user_refuses_everyone_else(testbed: Testbed, tmp_path: Path) -> None:
    with testbed.registry(tmp_path, user=("carrier", "s3cret")) as registry:
        assert requests.get(f"{registry.url}/v2/", timeout=5).status_code == 401
        assert requests.get(f"{registry.url}/v2/", timeout=5, auth=("carrier", "s3cret")).status_code == 200


def test_the_air_gapped_engine_reaches_nothing_outside(airgap: Dockerd, testbed: Testbed, registry: Registry) -> None:
    links = json.loads(run([*airgap.nsenter, "ip", "-json", "link"]))
    assert {link["ifname"] for link in links} <= {"lo", "docker0"} | {n for n in map(_name, links) if n.startswith("br-")}
    with pytest.raises(TestbedError, match="refused"):
        airgap.docker("pull", f"{registry.host}/{images.TINY}")


def test_stopping_leaves_no_process_mount_or_namespace(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("stop")
    with Dockerd(folder / "d", airgap=True) as dockerd:
        assert Path("/run/netns", str(dockerd.namespace)).exists()
    assert not Path("/run/netns", str(dockerd.namespace)).exists()
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    with Dockerd(folder / "d"):  # and the folder can be used again
        pass


def test_the_hub_answers_the_official_client(hub: Hub, testbed: Testbed, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.url)
    info = api.model_info(CHAT, files_metadata=True)
    assert info.sha == api.model_info(CHAT, revision=info.sha).sha
    assert {s.rfilename for s in info.siblings or []} == {p.name for p in (testbed.models / "tiny-chat").iterdir()}
    tree = {entry.path: entry for entry in api.list_repo_tree("offline-kit/tiny-embed", recursive=True)}
    assert "1_Pooling/config.json" in tree
    assert tree["model.safetensors"].lfs is not None  # type: ignore[union-attr]
    fetched = api.snapshot_download(CHAT, revision=info.sha, local_dir=tmp_path / "m", cache_dir=tmp_path / "c")
    for path in (testbed.models / "tiny-chat").iterdir():
        assert Path(fetched, path.name).read_bytes() == path.read_bytes()


def test_the_hub_refuses_as_the_real_one_does(hub: Hub, testbed: Testbed) -> None:
    hub.add("closed/model", testbed.models / "tiny-chat", gated=True)
    api = HfApi(endpoint=hub.url, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("no/such")
    with pytest.raises(RevisionNotFoundError):
        api.model_info(CHAT, revision="no-such")
    with pytest.raises(EntryNotFoundError):
        api.hf_hub_download(CHAT, "no-such.json")
    with pytest.raises(GatedRepoError):
        api.model_info("closed/model")
    assert HfApi(endpoint=hub.url, token="hf_testbed").model_info("closed/model").sha


def test_each_fault_does_what_it_says_and_is_used_up(hub: Hub, weights: str, testbed: Testbed) -> None:
    whole = (testbed.models / "tiny-chat/model.safetensors").read_bytes()
    hub.faults.add(Fault("flip", at=1000), Fault("cut", at=100), Fault("status", status=429, seconds=2), Fault("no-range"),
                   Fault("redirect", to="http://127.0.0.2:1"))  # fmt: skip
    flipped = requests.get(weights, timeout=5).content
    assert [i for i, (a, b) in enumerate(zip(flipped, whole, strict=True)) if a != b] == [1000]
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        requests.get(weights, timeout=5)
    busy = requests.get(weights, timeout=5)
    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "2")
    assert requests.get(weights, timeout=5, headers={"Range": "bytes=10-19"}).content == whole
    moved = requests.get(weights, timeout=5, allow_redirects=False)
    assert moved.headers["Location"].startswith("http://127.0.0.2:1/offline-kit/")
    part = requests.get(weights, timeout=5, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])
    assert requests.get(weights, timeout=5, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    assert hub.sent() == len(whole) * 3 - len(whole) + 100 + 10
    assert [access.fault for access in hub.log] == ["flip", "cut", "status", "no-range", "redirect", None, None]


def test_a_stall_lasts_as_long_as_it_says(hub: Hub, weights: str) -> None:
    hub.faults.add(Fault("stall", at=10, seconds=1))
    began = time.monotonic()
    assert requests.get(weights, timeout=5).status_code == 200
    assert time.monotonic() - began >= 1


def test_faults_can_be_set_from_another_process(hub: Hub, weights: str) -> None:
    requests.post(f"{hub.url}/__faults__", json=[{"kind": "status", "status": 503}], timeout=5)
    assert [requests.get(weights, timeout=5).status_code for _ in range(2)] == [503, 200]
    assert [entry["status"] for entry in requests.get(f"{hub.url}/__log__", timeout=5).json()] == [503, 200]


@pytest.fixture(scope="module")
def engine(dockerd: Dockerd, registry: Registry) -> Iterator[str]:
    """The name of the CPU engine image in the plain dockerd."""
    image = f"{registry.host}/{images.ENGINE}"
    dockerd.docker("pull", "--quiet", image)
    yield image
    dockerd.docker("rmi", "--force", image)


def test_real_vllm_answers_as_nobody_on_an_internal_network(dockerd: Dockerd, engine: str, testbed: Testbed) -> None:
    dockerd.docker("network", "create", "--internal", "quiet")
    try:
        dockerd.docker(
            "run", "--detach", "--name", "chat", "--network", "quiet", "--user", "10001", "--read-only", "--cap-drop", "ALL",
            "--tmpfs", "/tmp", "--memory", "1500m", "--volume", f"{testbed.models}:/models:ro",
            "--env", "VLLM_ENABLE_V1_MULTIPROCESSING=0", engine, "/models/tiny-chat", "--served-model-name", "chat",
            "--dtype", "bfloat16", "--max-model-len", "256", *COMMON,
        )  # fmt: skip
        address = dockerd.docker("inspect", "--format", "{{.NetworkSettings.Networks.quiet.IPAddress}}", "chat")
        _wait(f"http://{address}:8000/health", 180, lambda: dockerd.docker("logs", "--tail", "30", "chat"))
        question = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        reply = requests.post(f"http://{address}:8000/v1/chat/completions", json=question, timeout=60).json()
        assert reply["usage"]["completion_tokens"] >= 1
    finally:
        dockerd.docker("rm", "--force", "chat")
        dockerd.docker("network", "rm", "quiet")


def test_the_models_are_small_and_readable_by_all(testbed: Testbed) -> None:
    files = [path for path in testbed.models.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}
    assert {path.name for path in testbed.models.iterdir()} == set(models.NAMES)


def _name(link: dict[str, str]) -> str:
    return link["ifname"]


def _wait(url: str, seconds: float, explain: object) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"{url}: {error}\n{explain() if callable(explain) else ''}") from error
            time.sleep(0.5)
