"""Pickled weights are looked into: dangerous ones are refused by name before anything is packed, and nothing is run."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import PolicyRefused
from offline_kit.common.progress import Silent
from offline_kit.intake.models.scan_pickles import scan_file, scan_pickles
from offline_kit.intake.store.store import Store
from offline_kit.spec.lock import LockedFile
from tests.support import intake_samples as parts
from tests.testbed.servers.hub import Hub
from tests.testbed.servers.registry import Registry

MARK = Path("/tmp") / f"offline-kit-pickle-{os.getpid()}"


class Calls:
    """A pickle that calls ``function`` when it is loaded."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


EVIL = pickle.dumps(Calls(os.system, f"touch {MARK}"))
NESTED = pickle.dumps(OrderedDict(w=[1, {"x": Calls(eval, "1")}]))
GOOD = pickle.dumps(OrderedDict(w=[1, 2, 3]))
UNUSUAL = pickle.dumps(Calls(json.dumps, {}))


def torch_archive(content: bytes, name: str = "archive/data.pkl") -> bytes:
    """As torch.save writes it: a zip with the pickle and the numbers beside it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, content)
        archive.writestr("archive/data/0", bytes(4000))
    return out.getvalue()


def look(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    (folder / name).write_bytes(data)
    return scan_file(folder / name)


@pytest.mark.parametrize("wrap", [lambda data: data, torch_archive, lambda data: torch_archive(data, "x/other.bin")])
def test_what_would_be_called_is_named(tmp_path: Path, wrap: Any) -> None:
    for number, (content, name) in enumerate(((EVIL, "posix.system"), (NESTED, "eval"))):
        found = look(tmp_path, f"pytorch_model-{number}.bin", wrap(content))
        assert any(item.endswith(name) for item in found["dangerous"])
    assert look(tmp_path, "good.bin", wrap(GOOD)) == {"dangerous": [], "unusual": [], "unreadable": False}
    assert look(tmp_path, "unusual.bin", wrap(UNUSUAL))["unusual"] == ["json.dumps"]
    assert not MARK.exists()


def test_a_pickle_that_ends_early_does_not_pass(tmp_path: Path) -> None:
    evil = look(tmp_path, "cut.bin", EVIL[:-4])
    assert evil["dangerous"] or evil["unreadable"]
    assert look(tmp_path, "cut.pt", torch_archive(EVIL)[:60])["unreadable"]


def test_every_refusal_at_once_and_what_was_found_is_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    contents = {"a.bin": EVIL, "sub/b.PT": torch_archive(NESTED), "c.bin": GOOD, "d.txt": EVIL}
    parts.write(tmp_path / "m", contents)
    files = [LockedFile(path=path, size=len(data), sha256=Digest.of(data)) for path, data in contents.items()]
    for _ in range(2):
        with pytest.raises(PolicyRefused, match=r"m: a\.bin would call posix\.system; sub/b\.PT would call .*eval") as caught:
            scan_pickles(files, lambda file: tmp_path / "m" / file.path, "m", store, Silent())
        assert caught.value.exit_code == 23 and "c.bin" not in str(caught.value)
        (tmp_path / "m/a.bin").unlink(missing_ok=True)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "storage", tmp_path) as running:
        for key in ("engine", "gateway"):
            parts.push(running.url, key, "v1", parts.image("gzip", content=key))
        yield running


def test_a_build_is_refused_even_where_pickles_are_allowed(registry: Registry, offline_kit: Any, tmp_path: Path) -> None:
    config = {"architectures": ["BertModel"], "model_type": "bert"}
    files = {"config.json": json.dumps(config).encode(), "tokenizer.json": b"{}", "modules.json": b"[]"}
    entry = {"name": "m", "path": "/models/m", "type": "embedding", "port": 8001, "gpu_memory_utilization": 0.5}
    models = {"models": {"m": {**entry, "max_model_len": 128, "tensor_parallel_size": 1, "dtype": "auto"}}}
    with Hub() as hub:
        for name, content in (("evil", EVIL), ("good", GOOD)):
            hub.add(f"o/{name}", parts.write(tmp_path / name, {**files, "pytorch_model.bin": torch_archive(content)}))
            manifest = {
                "apiVersion": "offline-kit/v1",
                "name": "kit",
                "accelerator": "cpu",
                "images": {key: {"source": f"docker://{registry.host}/{key}:v1"} for key in ("engine", "gateway")},
                "models": {"m": {"source": f"hf://o/{name}", "endpoint": hub.url, "allow_pickle": True}},
                "services": "models.json",
                "engine_config": "engine.yaml",
            }
            work = parts.write(tmp_path / f"project-{name}", {"kit.yaml": json.dumps(manifest).encode(), "engine.yaml": b"{}"})
            (work / "models.json").write_text(json.dumps(models))
            arguments = ("build", "--version", "v1", "--manifest", work / "kit.yaml", "--output", work / "out")
            done: subprocess.CompletedProcess[str] = offline_kit(*arguments, "--store", work / "store")
            if name == "good":
                assert done.returncode == 0, done.stderr
            else:
                assert done.returncode == 23 and "pytorch_model.bin would call posix.system" in done.stderr
                assert not list((work / "out").glob("*.tar.gz"))
        policy = tmp_path / "policy.yaml"
        policy.write_text("pickles: false\nhubs: [hub.example]\n")
        done = offline_kit(*arguments, "--store", work / "store", "--policy", policy)
        assert done.returncode == 23 and "'pickles' is false" in done.stderr and "'hubs' allows hub.example" in done.stderr
    assert not MARK.exists()
