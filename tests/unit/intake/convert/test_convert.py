"""Pickled weights become safetensors: the same numbers, the same bytes again, and in a process that can do nothing else."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch, KitError, PolicyRefused, SpecError
from offline_kit.common.progress import Silent
from offline_kit.intake.convert.convert import convert_model, make_results, missing_sources
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import LockedFile, LockedModel
from offline_kit.spec.lock_facts import ModelFacts
from tests.unit.intake.convert.torch_files import Saved, text, torch_file

SIX = struct.pack("<6f", *range(6))
TENSORS = {
    "z.weight": Saved(SIX, [2, 3]),
    "a.half": Saved(b"\x00\x3c\x00\x40", [2], storage="HalfStorage", item=2),
    "ids": Saved(struct.pack("<2q", 7, -1), [1, 2], storage="LongStorage", item=8),
    "turned": Saved(SIX, [3, 2], [1, 3]),
    "part": Saved(SIX, [2], [1], offset=3),
    "one": Saved(SIX[:4], []),
    "none": Saved(b"", [0, 4]),
}
EXPECTED = {
    "z.weight": SIX, "a.half": b"\x00\x3c\x00\x40", "ids": struct.pack("<2q", 7, -1), "one": SIX[:4], "none": b"",
    "turned": struct.pack("<6f", 0, 3, 1, 4, 2, 5), "part": struct.pack("<2f", 3, 4),
}  # fmt: skip


def model(folder: Path, files: dict[str, bytes]) -> LockedModel:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    locked = tuple(LockedFile(path=name, size=len(data), sha256=Digest.of(data)) for name, data in files.items())
    facts = ModelFacts(config={"model_type": "bert"}, tensors=())
    return LockedModel(spec_digest=Digest.of(b""), source="dir://m", files=locked, facts=facts)


def convert(folder: Path, files: dict[str, bytes], store: Store) -> LockedModel:
    return convert_model("m", model(folder, files), lambda file: folder / file.path, store, Silent())


def read(data: bytes) -> dict[str, tuple[str, list[int], bytes]]:
    length = int.from_bytes(data[:8], "little")
    header: dict[str, Any] = json.loads(data[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"} and length % 8 == 0
    body = data[8 + length :]
    return {n: (t["dtype"], t["shape"], body[t["data_offsets"][0] : t["data_offsets"][1]]) for n, t in header.items()}


def test_every_tensor_keeps_its_numbers(tmp_path: Path) -> None:
    files = {"config.json": b"{}", "pytorch_model.bin": torch_file(TENSORS)}
    made = convert(tmp_path / "m", files, Store(tmp_path / "s"))
    assert [file.path for file in made.files] == ["config.json", "model.safetensors"]
    (pair,) = made.converted
    assert pair.source.sha256 == Digest.of(files["pytorch_model.bin"]) and pair.result == made.files[1]
    found = read((tmp_path / "s/blobs/sha256" / pair.result.sha256.hex).read_bytes())
    assert {name: data for name, (_, _, data) in found.items()} == EXPECTED
    assert found["a.half"][:2] == ("F16", [2]) and found["ids"][:2] == ("I64", [1, 2]) and found["one"][:2] == ("F32", [])
    assert made.facts is not None and {row.dtype for row in made.facts.tensors} == {"F32", "F16", "I64"}
    assert not list((tmp_path / "s").glob("convert-*"))
    again = convert(
        tmp_path / "n", {**files, "pytorch_model.bin": torch_file(dict(reversed(TENSORS.items())))}, Store(tmp_path / "t")
    )
    assert again.converted[0].result == pair.result  # whatever the order in which they were saved


def test_shards_keep_their_index(tmp_path: Path) -> None:
    names = [f"pytorch_model-0000{number}-of-00002.bin" for number in (1, 2)]
    index = {"metadata": {"total_size": 48}, "weight_map": {"a": names[0], "b": names[1]}}
    files = {name: torch_file({key: Saved(SIX, [6])}) for key, name in zip("ab", names, strict=True)}
    made = convert(tmp_path / "m", {**files, "pytorch_model.bin.index.json": json.dumps(index).encode()}, Store(tmp_path / "s"))
    by_path = {file.path: tmp_path / "s/blobs/sha256" / file.sha256.hex for file in made.files}
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert sorted(by_path) == sorted([*shards, "model.safetensors.index.json"])
    told = json.loads(by_path["model.safetensors.index.json"].read_bytes())
    assert told == {"metadata": {"total_size": 48}, "weight_map": dict(zip("ab", shards, strict=True))}


def test_what_the_store_lost_is_made_again_and_must_be_the_locks(tmp_path: Path) -> None:
    store, folder = Store(tmp_path / "s"), tmp_path / "m"
    made = convert(folder, {"pytorch_model.bin": torch_file(TENSORS)}, store)
    assert missing_sources(made, store) == ()
    store.evict(made.files[0].sha256)
    assert missing_sources(made, store) == (made.converted[0].source,)
    make_results("m", made, lambda file: folder / file.path, store, Silent())
    assert store.has(made.files[0].sha256, made.files[0].size)
    other = made.files[0].model_copy(update={"sha256": Digest.of(b"other")})
    false = made.model_copy(update={"files": (other,), "converted": (made.converted[0].model_copy(update={"result": other}),)})
    with pytest.raises(DigestMismatch, match=r"m: pytorch_model.bin: becomes sha256:.* the lock says"):
        make_results("m", false, lambda file: folder / file.path, store, Silent())


class Calls:
    def __reduce__(self) -> Any:
        return (eval, ("1",))


UNKNOWN = text("x") + b"cargparse\nNamespace\n)R"
NOT_STORED = torch_file(TENSORS, compression=zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize(
    ("data", "kind", "told"),
    [
        (
            torch_file(TENSORS, text("x") + pickle.dumps(Calls(), 2)[2:-1]),
            PolicyRefused,
            "pytorch_model.bin would call __builtin__.eval",
        ),
        (torch_file(TENSORS, UNKNOWN), PolicyRefused, "names argparse.Namespace, which weights do not need"),
        (torch_file({}), SpecError, "holds no tensors by name"),
        (torch_file({"a": Saved(SIX, [7])}), SpecError, "larger than its numbers"),
        (torch_file({"a": Saved(SIX, [1 << 30], [0])}), SpecError, "far more than the file has"),
        (torch_file({"a": Saved(SIX, [2], [-1])}), SpecError, "a tensor of an unknown form"),
        (torch_file(TENSORS, text("x") + text("y")), SpecError, "'x' is no tensor"),
        (NOT_STORED, SpecError, "has another size or form than torch.save gives it"),
        (torch_file({"a": Saved(SIX, [2])})[:-40], KitError, "pytorch_model.bin"),
        (pickle.dumps({"a": 1}), SpecError, "is no archive of torch.save"),
    ],
)
def test_what_is_not_plain_weights_is_refused_by_name(tmp_path: Path, data: bytes, kind: type[KitError], told: str) -> None:
    with pytest.raises(kind) as caught:
        convert(tmp_path / "m", {"pytorch_model.bin": data}, Store(tmp_path / "s"))
    assert told in str(caught.value) and "m" in caught.value.where and len(str(caught.value).splitlines()) == 1
    assert not list((tmp_path / "s").glob("convert-*"))


PROBE = """
import os, socket, sys, resource
from offline_kit.intake.convert.lock_down import lock_down
found = []
def attempt(name, work):
    try:
        work()
    except (OSError, MemoryError, ValueError):
        return
    found.append(name)
kept = open(sys.argv[2], "wb", buffering=0)
lock_down(sys.argv[1], memory=1 << 30, file_size=1000, seconds=60)
attempt("file", lambda: os.open("/etc/passwd", os.O_RDONLY))
attempt("write", lambda: os.open("x", os.O_WRONLY | os.O_CREAT))
attempt("socket", lambda: socket.socket())
attempt("local socket", lambda: socket.socketpair())
attempt("pipe", lambda: os.pipe())
attempt("child", lambda: os.fork() or os._exit(0))
attempt("program", lambda: os.execv("/bin/true", ["true"]))
attempt("memory", lambda: bytearray(2 << 30))
attempt("more files", lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (10, 10)))
attempt("change root", lambda: os.chroot("/"))
attempt("kill", lambda: os.kill(1, 0))
attempt("long file", lambda: [kept.write(bytes(900)) for _ in range(3)])
os.write(1, repr(found).encode())
"""


def test_the_process_can_do_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    command = [sys.executable, "-I", "-c", f"import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n{PROBE}"]
    done = subprocess.run(
        [*command, str(tmp_path / "empty"), str(tmp_path / "out")], capture_output=True, text=True, check=False
    )
    # a program without libraries may be tried: it could open none, see no network and gain no right
    assert done.returncode == 0 and done.stdout in ("[]", "['program']"), (done.stdout, done.stderr)
