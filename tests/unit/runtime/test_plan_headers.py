"""Facts read when a model is locked: by range from a hub that counts bytes, from disk, and from what is no header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch
from offline_kit.intake.models import plan_facts
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.intake.transfer.request import DownloadRequest
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelFacts
from tests.support import intake_samples as parts
from tests.testbed.servers.faults import Fault
from tests.testbed.servers.hub import Hub

CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 1, "transformers_version": "5"}).encode()
WIDE = {f"model.layers.{number}.{'x' * 200}.weight": bytes(4) for number in range(1000)}


def _files(folder: Path, contents: dict[str, bytes]) -> list[LockedFile]:
    parts.write(folder, contents)
    return [LockedFile(path=name, size=len(data), sha256=Digest.of(data)) for name, data in contents.items()]


def _from_disk(folder: Path, files: list[LockedFile], store: Store) -> ModelFacts | None:
    with HttpClient(TransferOptions()) as client:
        return plan_facts.facts(files, plan_facts.FromDisk(lambda file: folder / file.path), store, client, 2)


def test_config_and_table_are_kept_and_no_weights_are_read(tmp_path: Path) -> None:
    big = parts.safetensors({"model.layers.0.w.weight": bytes(1 << 20)})
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": big})
    store = Store(tmp_path / "s")
    known = _from_disk(tmp_path / "m", files, store)
    assert known is not None and known.config == {"model_type": "llama", "num_hidden_layers": 1}
    assert [(row.name, row.size, row.count, row.layers) for row in known.tensors] == [
        ("model.layers.*.w.weight", 1 << 20, 1, "0")
    ]
    (tmp_path / "m/model.safetensors").unlink()
    assert _from_disk(tmp_path / "m", files, store) == known, "a header is read once"


def test_what_is_not_whole_is_refused_and_what_has_no_header_is_a_whole_file(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"short", (1 << 60).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"[12]")):
        files = _files(tmp_path / f"m{number}", {"config.json": CONFIG, "model.safetensors": data})
        with pytest.raises(DigestMismatch, match=r"model\.safetensors: not a whole safetensors file"):
            _from_disk(tmp_path / f"m{number}", files, Store(tmp_path / "s"))
    pickle = _files(tmp_path / "p", {"config.json": CONFIG, "pytorch_model.bin": b"x" * 9})
    known = _from_disk(tmp_path / "p", pickle, Store(tmp_path / "s"))
    assert known is not None and known.tensors[0].size == 9
    assert _from_disk(tmp_path / "n", _files(tmp_path / "n", {"README.md": b"#"}), Store(tmp_path / "s")) is None
    broken = _files(tmp_path / "b", {"config.json": b"{"})
    assert _from_disk(tmp_path / "b", broken, Store(tmp_path / "s")) is None


def test_an_empty_file_of_a_hub_is_told_as_what_it_is(tmp_path: Path) -> None:
    """No range of it is asked for: a server would answer 416, and the network would be blamed."""
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": b""})
    store = Store(tmp_path / "s")
    store.put(CONFIG)
    with Hub() as hub, HttpClient(TransferOptions()) as client:
        hub.add("o/m", tmp_path / "m")
        read = plan_facts.FromWeb(
            lambda file: DownloadRequest(f"{hub.url}/o/m/resolve/main/{file.path}", file.path), store, client
        )
        with pytest.raises(DigestMismatch, match=r"model\.safetensors: not a whole safetensors file"):
            plan_facts.facts(files, read, store, client, 2)


@pytest.mark.parametrize("ignores", [False, True])
def test_a_long_header_comes_in_two_ranges(tmp_path: Path, ignores: bool) -> None:
    shard = parts.safetensors({**WIDE, "w": bytes(3 << 20)})
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": shard})
    store = Store(tmp_path / "s")
    store.put(CONFIG)
    with Hub() as hub, HttpClient(TransferOptions()) as client:
        hub.add("o/m", tmp_path / "m")
        if ignores:
            hub.faults.add(Fault("no-range", path="*.safetensors", times=-1))
        read = plan_facts.FromWeb(
            lambda file: DownloadRequest(f"{hub.url}/o/m/resolve/main/{file.path}", file.path), store, client
        )
        known = plan_facts.facts(files, read, store, client, 2)
        assert known is not None and {row.count for row in known.tensors} == {1000, 1}
        ranges = [access.range for access in hub.log if access.path.endswith(".safetensors")]
        assert len(ranges) == 2 and ranges[0] == f"bytes=0-{(128 << 10) - 1}"
        if not ignores:
            assert hub.sent("*.safetensors") < 512 << 10


def test_what_one_hub_says_of_a_digest_is_not_believed_of_another(tmp_path: Path) -> None:
    true, other = (parts.safetensors({name: bytes(4096)}) for name in ("true", "fake"))
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": true})
    (tmp_path / "f").mkdir()
    (tmp_path / "f/model.safetensors").write_bytes(other)  # of the same size, under the digest of the true one
    store = Store(tmp_path / "s")
    store.put(CONFIG)

    def names(hub: Hub, client: HttpClient) -> list[str]:
        read = plan_facts.FromWeb(
            lambda file: DownloadRequest(f"{hub.url}/o/m/resolve/main/{file.path}", file.path), store, client
        )
        known = plan_facts.facts(files, read, store, client, 1)
        assert known is not None
        return [row.name for row in known.tensors]

    with Hub() as liar, Hub() as hub, HttpClient(TransferOptions()) as client:
        liar.add("o/m", tmp_path / "f")
        hub.add("o/m", tmp_path / "m")
        assert names(liar, client) == ["fake"] and names(hub, client) == ["true"]
        asked = len(hub.log)
        assert names(hub, client) == ["true"] and len(hub.log) == asked, "a header is read once"
        store.put(true)
        assert names(liar, client) == ["true"], "bytes that were proven say more than anybody"
