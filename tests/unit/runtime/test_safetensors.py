"""One reader of safetensors headers: what is whole, what is not, and the same verdict from lock, fetch, verify and plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from offline_kit.bundle.read.observed import FileObserver, KeepPolicy
from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch
from offline_kit.intake.models import check_weights, plan_facts
from offline_kit.intake.store.store import Store
from offline_kit.intake.transfer.http_client import HttpClient, TransferOptions
from offline_kit.runtime.gpu_plan import tensor_table
from offline_kit.runtime.gpu_plan.safetensors import LIMIT, fault, head_length, parse
from offline_kit.spec.lock import LockedFile
from tests.support.bundle_sample import safetensors

CONFIG = json.dumps({"model_type": "llama", "num_hidden_layers": 1}).encode()


def made(header: Any, data: int = 0) -> bytes:
    """A file with this header (an object, or the text itself) and ``data`` bytes behind it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(data)


def tensor(kind: Any, shape: Any, *offsets: Any) -> dict[str, Any]:
    return {"dtype": kind, "shape": shape, "data_offsets": list(offsets)}


WHOLE = safetensors(100)
GOOD = {
    "one tensor": WHOLE,
    "in any order": made(
        {"__metadata__": {"format": "pt"}, "b": tensor("BF16", [2, 3], 8, 20), "a": tensor("F32", [2], 0, 8),
         "s": tensor("F64", [], 20, 28)}, 28),
    "none": made({}),
    "a type that is not known": made({"new": tensor("F12_FUTURE", [3], 0, 5)}, 5),
    "half bytes": made({"half": tensor("F4", [4], 0, 2)}, 2),
    "an empty tensor": made({"a": tensor("F32", [0, 5], 0, 0), "b": tensor("U8", [1], 0, 1)}, 1),
    "a later float": made({"a": tensor("F8_E4M3FNUZ", [3], 0, 3)}, 3),
}  # fmt: skip
HOSTILE = {
    "empty file": b"",
    "seven bytes": WHOLE[:7],
    "a prefix alone": WHOLE[:8],
    "cut in the header": WHOLE[:40],
    "cut in the tensors": WHOLE[:-1],
    "something behind": WHOLE + b"x",
    "length of 2^64-1": b"\xff" * 200,
    "length beyond the limit": (LIMIT + 1).to_bytes(8, "little") + b"{}",
    "length beyond the file": (300).to_bytes(8, "little") + b"{}",
    "no JSON": made(b""),
    "a list": made(b"[]"),
    "null": made(b"null"),
    "not UTF-8": made(b'{"\xff": 1}'),
    "UTF-16": made('{"a": 1}'.encode("utf-16")),
    "a mark of byte order": made(b"\xef\xbb\xbf{}"),
    "deep nesting": made(b"[" * 100_000),
    "deep objects": made(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "an integer of 5,000 digits": made(b'{"a": {"dtype": "U8", "shape": [' + b"9" * 5000 + b'], "data_offsets": [0, 1]}}', 1),
    "a tensor that is a number": made(b'{"a": 1}'),
    "a name twice": made(b'{"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}, "a": {}}', 1),
    "a field twice": made(b'{"a": {"dtype": "U8", "shape": [1], "shape": [1], "data_offsets": [0, 1]}}', 1),
    "a lone surrogate": made(b'{"\\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}', 1),
    "a shape too large": made({"a": tensor("U8", [2], 0, 1)}, 1),
    "a negative side": made({"a": tensor("U8", [-1], 0, 1)}, 1),
    "a side that is true": made({"a": tensor("U8", [True], 0, 1)}, 1),
    "a side that is a float": made({"a": tensor("U8", [1.0], 0, 1)}, 1),
    "a side that is NaN": made(b'{"a": {"dtype": "U8", "shape": [NaN], "data_offsets": [0, 1]}}', 1),
    "sides whose product overflows": made({"a": tensor("F32", [1 << 62, 1 << 62], 0, 1)}, 1),
    "ten thousand sides": made({"a": tensor("F32", [1 << 62] * 10_000, 0, 1)}, 1),
    "offsets as floats": made({"a": tensor("U8", [1], 0.0, 1.0)}, 1),
    "offsets as text": made({"a": tensor("U8", [1], "0", "1")}, 1),
    "one offset": made({"a": tensor("U8", [1], 0)}, 1),
    "three offsets": made({"a": tensor("U8", [1], 0, 1, 1)}, 1),
    "an end before its start": made({"a": tensor("NEW", [1], 1, 0)}, 1),
    "a hole in front": made({"a": tensor("U8", [1], 1, 2)}, 2),
    "an overlap": made({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 0, 1)}, 1),
    "a hole between": made({"a": tensor("U8", [1], 0, 1), "b": tensor("U8", [1], 2, 3)}, 3),
    "no offsets": made({"a": {"dtype": "U8", "shape": [1]}}, 1),
    "a type that is a number": made({"a": tensor(8, [1], 0, 1)}, 1),
    "a git-LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n",
}


def head(data: bytes) -> bytes:
    return data[: head_length(data[:8])]


def refused_by_lock(folder: Path, files: list[LockedFile]) -> bool:
    with HttpClient(TransferOptions()) as client:
        read = plan_facts.FromDisk(lambda file: folder / file.path)
        try:
            facts = plan_facts.facts(files, read, Store(folder / ".store"), client, 1)
        except DigestMismatch as error:
            return "model.safetensors" in str(error)
    return facts is None


def refused_by_fetch(folder: Path, files: list[LockedFile]) -> bool:
    try:
        check_weights.check_model(files, lambda file: folder / file.path, "chat")
    except DigestMismatch:
        return True
    return False


def refused_by_verify(data: bytes) -> bool:
    observer = FileObserver("models/chat/model.safetensors", len(data), None, KeepPolicy())
    observer.feed(memoryview(data))
    return observer.seen().fault is not None


def verdicts(folder: Path, data: bytes) -> dict[str, bool]:
    """Who refuses the file."""
    contents = {"config.json": CONFIG, "model.safetensors": data}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = [LockedFile(path=name, size=len(text), sha256=Digest.of(text)) for name, text in contents.items()]
    return {
        "lock": refused_by_lock(folder, files),
        "fetch": refused_by_fetch(folder, files),
        "verify": refused_by_verify(data),
        "plan": [row["dtype"] for row in tensor_table.of_folder(folder)] == ["whole-file"],
    }


@pytest.mark.parametrize("name", GOOD)
def test_whole_for_everybody(name: str, tmp_path: Path) -> None:
    assert fault(head(GOOD[name]), len(GOOD[name])) is None
    assert not any(verdicts(tmp_path, GOOD[name]).values())


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_by_everybody(name: str, tmp_path: Path) -> None:
    assert str(fault(head(HOSTILE[name]), len(HOSTILE[name]))).startswith("not a whole safetensors file: ")
    assert verdicts(tmp_path, HOSTILE[name]) == dict.fromkeys(("lock", "fetch", "verify", "plan"), True)


def test_what_is_said() -> None:
    assert set(parse(head(GOOD["in any order"]), len(GOOD["in any order"]))) == {"a", "b", "s"}
    assert "git lfs pull" in str(fault(HOSTILE["a git-LFS pointer"], 200))
    assert "was not read whole" in str(fault(WHOLE[:20], len(WHOLE)))
    assert head_length(b"\xff" * 8) == LIMIT + 8
