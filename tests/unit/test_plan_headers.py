"""Facts read when a model is locked: by range from a hub that counts bytes, from disk, and from what is no header."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from offline_kit.digest import Digest
from offline_kit.intake import headers
from offline_kit.intake.line import Line, Options
from offline_kit.intake.store import Store
from offline_kit.intake.transfer import Download
from offline_kit.spec.lock import LockedFile, ModelFacts
from tests import intake_parts as parts
from tests.testbed.faults import Fault
from tests.testbed.hub import Hub

CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 1, "transformers_version": "5"}).encode()
WIDE = {f"model.layers.{number}.{'x' * 200}.weight": bytes(4) for number in range(1000)}


def _files(folder: Path, contents: dict[str, bytes]) -> list[LockedFile]:
    parts.write(folder, contents)
    return [LockedFile(path=name, size=len(data), sha256=Digest.of(data)) for name, data in contents.items()]


def _from_disk(folder: Path, files: list[LockedFile], store: Store) -> ModelFacts | None:
    with Line(Options()) as line:
        return headers.facts(files, headers.from_disk(lambda file: folder / file.path), store, line, 2)


def test_config_and_table_are_kept_and_no_weights_are_read(tmp_path: Path) -> None:
    big = parts.safetensors({"model.layers.0.w.weight": bytes(1 << 20)})
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": big})
    store = Store(tmp_path / "s")
    held = _from_disk(tmp_path / "m", files, store)
    assert held is not None and held.config == {"model_type": "llama", "num_hidden_layers": 1}
    assert [(row.name, row.size, row.count, row.layers) for row in held.tensors] == [
        ("model.layers.*.w.weight", 1 << 20, 1, "0")
    ]
    (tmp_path / "m/model.safetensors").unlink()
    assert _from_disk(tmp_path / "m", files, store) == held, "a header is read once"


def test_what_is_no_header_is_a_whole_file(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"short", (1 << 60).to_bytes(8, "little"), (4).to_bytes(8, "little") + b"[12]")):
        files = _files(tmp_path / f"m{number}", {"config.json": CONFIG, "model.safetensors": data})
        held = _from_disk(tmp_path / f"m{number}", files, Store(tmp_path / "s"))
        assert held is not None and [(row.dtype, row.size) for row in held.tensors] == [("whole-file", len(data))]
    pickle = _files(tmp_path / "p", {"config.json": CONFIG, "pytorch_model.bin": b"x" * 9})
    held = _from_disk(tmp_path / "p", pickle, Store(tmp_path / "s"))
    assert held is not None and held.tensors[0].size == 9
    assert _from_disk(tmp_path / "n", _files(tmp_path / "n", {"README.md": b"#"}), Store(tmp_path / "s")) is None
    broken = _files(tmp_path / "b", {"config.json": b"{"})
    assert _from_disk(tmp_path / "b", broken, Store(tmp_path / "s")) is None


@pytest.mark.parametrize("ignores", [False, True])
def test_a_long_header_comes_in_two_ranges(tmp_path: Path, ignores: bool) -> None:
    shard = parts.safetensors({**WIDE, "w": bytes(3 << 20)})
    files = _files(tmp_path / "m", {"config.json": CONFIG, "model.safetensors": shard})
    store = Store(tmp_path / "s")
    store.put(CONFIG)
    with Hub() as hub, Line(Options()) as line:
        hub.add("o/m", tmp_path / "m")
        if ignores:
            hub.faults.add(Fault("no-range", path="*.safetensors", times=-1))
        read = headers.from_web(lambda file: Download(f"{hub.url}/o/m/resolve/main/{file.path}", file.path), store, line)
        held = headers.facts(files, read, store, line, 2)
        assert held is not None and {row.count for row in held.tensors} == {1000, 1}
        ranges = [access.range for access in hub.log if access.path.endswith(".safetensors")]
        assert len(ranges) == 2 and ranges[0] == f"bytes=0-{(128 << 10) - 1}"
        if not ignores:
            assert hub.sent("*.safetensors") < 512 << 10
