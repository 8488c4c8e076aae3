"""Scanners of a manifest over the payload: a real ClamAV with a database of the test's own, and programs that fail."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from offline_kit.bundle import unpack
from tests.integration.intake.test_pickles import GOOD, torch_archive
from tests.support import intake_samples as parts
from tests.testbed.servers.registry import Registry

# In two halves: what looks for it shall not find it here.
EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$" + rb"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
CLEAN = {"config.json": json.dumps({"architectures": ["BertModel"], "model_type": "bert"}).encode(), "tokenizer.json": b"{}"}
CLEAN["pytorch_model.bin"] = torch_archive(GOOD)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "storage", tmp_path) as running:
        for key in ("engine", "gateway"):
            parts.push(running.url, key, "v1", parts.image("gzip", content=key))
        yield running


@pytest.fixture
def clamav(tmp_path: Path) -> Path:
    """A signature database that knows EICAR alone, by its bytes, at any place."""
    folder = tmp_path / "database"
    folder.mkdir()
    (folder / "test.ndb").write_text(f"Test.Eicar:0:*:{EICAR.hex()}\n")
    return folder


def clamscan(database: Path, placeholder: str = "{path}", **more: Any) -> dict[str, Any]:
    return {
        "name": "clamav",
        "command": ["clamscan", "--recursive", "--infected", "--no-summary", f"--database={database}", placeholder],
        "engine": ["clamscan", "--version"],
        **more,
    }


class Project:
    """A manifest of one model in a local folder, with the scanners that it is given."""

    def __init__(self, work: Path, registry: Registry, offline_kit: Any, model: dict[str, bytes]) -> None:
        self.work, self._kit = work, offline_kit
        entry = {"name": "m", "path": "/models/m", "type": "embedding", "port": 8001, "gpu_memory_utilization": 0.5}
        models = {"models": {"m": {**entry, "max_model_len": 128, "tensor_parallel_size": 1, "dtype": "auto"}}}
        parts.write(work / "m", {**CLEAN, **model})
        parts.write(work, {"models.json": json.dumps(models).encode(), "engine.yaml": b"{}", "licence.txt": b"as it is\n"})
        self.manifest = {
            "apiVersion": "offline-kit/v1", "name": "kit", "accelerator": "cpu",
            "images": {key: {"source": f"docker://{registry.host}/{key}:v1"} for key in ("engine", "gateway")},
            "models": {"m": {"source": "dir://m", "allow_pickle": True}},
            "files": {"licence.txt": {"source": "file://licence.txt", "sha256": parts.digest(b"as it is\n")}},
            "services": "models.json", "engine_config": "engine.yaml",
        }  # fmt: skip

    def build(self, *scanners: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        (self.work / "kit.yaml").write_text(json.dumps({**self.manifest, "scan": list(scanners)}))
        arguments = ("--manifest", self.work / "kit.yaml", "--output", self.work / "out", "--store", self.work / "store")
        done: subprocess.CompletedProcess[str] = self._kit("build", "--version", "v1", *arguments)
        assert not list((self.work / "store").glob("scan-*"))
        assert bool(list((self.work / "out").glob("*.tar.gz"))) == (done.returncode == 0)
        return done

    @property
    def bundle(self) -> Path:
        return self.work / "out/kit-v1.tar.gz"


@pytest.fixture
def project(tmp_path: Path, registry: Registry, offline_kit: Any) -> Any:
    return lambda **model: Project(tmp_path / "p", registry, offline_kit, {k.replace("__", "."): v for k, v in model.items()})


@pytest.mark.parametrize("placeholder", ["{path}", "{file}"])
def test_clamav_says_clean_and_the_bundle_carries_it(
    project: Any, clamav: Path, placeholder: str, offline_kit: Any, tmp_path: Path
) -> None:
    kit = project()
    done = kit.build(clamscan(clamav, placeholder, largest=4000))
    assert done.returncode == 0, done.stderr
    record = json.loads(offline_kit("inspect", "--scan", kit.bundle).stdout)
    weights, large = record["files"]["models/m/pytorch_model.bin"], record["files"]["models/m/config.json"]
    assert weights == {"clamav": "not scanned: larger than 4000 bytes", "picklescan": "clean"} and large == {"clamav": "clean"}
    assert record["files"]["files/licence.txt"] == {"clamav": "clean"} and record["scanners"]["clamav"].startswith("ClamAV 1.")
    payload = {
        line[66:] for line in _sums(offline_kit, kit.bundle, tmp_path) if line[66:].startswith(("images/b", "models", "files/"))
    }
    assert set(record["files"]) == payload and {name for name in payload if name.startswith("images/")}
    told = offline_kit("inspect", kit.bundle).stdout
    assert (
        "scanned by clamav: " in told and " clean" in told and "(ClamAV 1." in told and "scanned by picklescan: 1 clean" in told
    )
    assert offline_kit("verify", kit.bundle).returncode == 0
    for name, code in (("clamav", 0), ("other", 23)):
        (tmp_path / "policy.yaml").write_text(f"scanners: [{name}]\n")
        done = offline_kit("verify", kit.bundle, "--policy", tmp_path / "policy.yaml")
        assert done.returncode == code and ("'scanners' demands other" in done.stderr) == (code == 23), done.stderr
    (tmp_path / "alone").mkdir()
    alone = [sys.executable, str(Path(unpack.__file__)), str(kit.bundle), str(tmp_path / "alone")]
    assert subprocess.run(alone, check=False).returncode == 0


def _sums(offline_kit: Any, bundle: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "unpacked").mkdir()
    assert offline_kit("unpack", bundle, tmp_path / "unpacked").returncode == 0
    return (tmp_path / "unpacked/kit-v1/SHA256SUMS").read_text().splitlines()


@pytest.mark.parametrize("placeholder", ["{path}", "{file}"])
def test_eicar_in_a_model_is_refused_by_name(project: Any, clamav: Path, placeholder: str) -> None:
    done = project(vocab__txt=b"a\n" + EICAR).build(clamscan(clamav, placeholder))
    assert done.returncode == 23 and "scan: clamav: found models/m/vocab.txt: Test.Eicar.UNOFFICIAL FOUND" in done.stderr
    assert len(done.stderr.strip().splitlines()[-1]) < 400 and "config.json" not in done.stderr.splitlines()[-1]


def test_eicar_in_a_layer_is_refused_by_name(project: Any, clamav: Path, registry: Registry) -> None:
    parts.push(registry.url, "engine", "v1", parts.image("gzip", files={"opt/run.sh": EICAR}))
    done = project().build(clamscan(clamav))
    assert done.returncode == 23 and "found images/engine/layer-00.tar.gz: Test.Eicar" in done.stderr


@pytest.mark.parametrize("placeholder", ["{path}", "{file}"])
def test_eicar_in_files_is_refused_by_name(project: Any, clamav: Path, placeholder: str) -> None:
    """A further file, whose sha256 is the one that the manifest demands, and beside it one that is clean."""
    kit = project()
    (kit.work / "tool.bin").write_bytes(EICAR)
    kit.manifest["files"]["tools/tool.bin"] = {"source": "file://tool.bin", "sha256": parts.digest(EICAR)}
    done = kit.build(clamscan(clamav, placeholder))
    assert done.returncode == 23 and "scan: clamav: found files/tools/tool.bin: Test.Eicar.UNOFFICIAL" in done.stderr
    assert "licence.txt" not in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("scanner", "told"),
    [
        ({"command": ["/nowhere/scanner", "{path}"]}, "scan: x: /nowhere/scanner cannot be run: No such file or directory"),
        ({"command": ["sh", "-c", "echo no licence; exit 7", "sh", "{path}"]}, "scan: x: ended with 7, which"),
        ({"command": ["sh", "-c", "kill -9 $$", "sh", "{file}"]}, "scan: x: was killed by signal 9"),
        ({"command": ["sleep", "60{path}"], "finding": [9]}, "scan: x: ended with 1, which"),
        ({"command": ["sh", "-c", "sleep 60 & sleep 61", "sh", "{path}"], "timeout": 1}, "scan: x: did not end within 1 s"),
        ({"command": ["true", "{path}"], "engine": ["false"]}, "scan: x: false ended with 1"),
    ],
)
def test_a_scanner_that_fails_refuses_the_bundle_in_one_line(project: Any, scanner: dict[str, Any], told: str) -> None:
    done = project().build({"name": "x", **scanner})
    last = [line for line in done.stderr.splitlines() if line.startswith("offline-kit: ")]
    assert done.returncode == 24 and len(last) == 1 and told in last[0] and "Traceback" not in done.stderr


def test_what_a_scanner_sees(project: Any, tmp_path: Path) -> None:
    """Real files under their names, of which none is a link; no token of this run; output without end does no harm."""
    kit = project()
    look = (
        "import os, sys, pathlib; root = pathlib.Path(sys.argv[1])\n"
        "names = sorted(p for p in root.rglob('*') if not p.is_dir())\n"
        "assert not any(p.is_symlink() for p in names) and 'HF_TOKEN' not in os.environ\n"
        f"pathlib.Path({str(tmp_path / 'seen')!r}).write_text('\\n'.join(str(p.relative_to(root)) for p in names))\n"
        "[print('x' * 1000) for _ in range(20_000)]"
    )
    done = kit.build({"name": "look", "command": [sys.executable, "-c", look, "{path}"]})
    assert done.returncode == 0, done.stderr
    names = (tmp_path / "seen").read_text().split()
    assert {"files/licence.txt", "models/m/config.json", "images/engine/layer-00.tar.gz", "images/gateway/config.json"} <= set(
        names
    )
    assert (kit.work / "m/config.json").stat().st_nlink == 1


def test_a_record_that_does_not_fit_is_found_by_verify(project: Any, offline_kit: Any, tmp_path: Path) -> None:
    kit = project()
    assert kit.build({"name": "x", "command": ["true", "{path}"]}).returncode == 0
    _sums(offline_kit, kit.bundle, tmp_path)
    folder = tmp_path / "unpacked/kit-v1"
    path = folder / "evidence/scan.json"
    whole = json.loads(path.read_text())
    for change, told in (
        ({"lock": "sha256:" + "0" * 64}, "was made for another lock.json"),
        ({"files": {**whole["files"], "models/m/other": {"x": "clean"}}}, "names models/m/other, which lock.json does not"),
        ({"files": {name: {} for name in whole["files"]}}, "x says nothing of "),
        ({"files": {name: {"x": "clean", "y": "clean"} for name in whole["files"]}}, "has verdicts of y"),
    ):
        path.write_text(json.dumps({**whole, **change}, indent=2, sort_keys=True) + "\n")
        done = offline_kit("verify", folder)
        assert done.returncode == 20 and told in done.stdout + done.stderr
    shutil.rmtree(folder)


@pytest.mark.parametrize("placeholder", ["{path}", "{file}"])
def test_an_interrupted_build_takes_its_scanner_with_it(project: Any, tmp_path: Path, placeholder: str) -> None:
    kit = project()
    mark = tmp_path / "pid"
    scanner = {"name": "x", "command": ["sh", "-c", f"echo $$ > {mark}; sleep 60", "sh", placeholder]}
    (kit.work / "kit.yaml").write_text(json.dumps({**kit.manifest, "scan": [scanner]}))
    program = Path(sys.executable).with_name("offline-kit")
    arguments = ["build", "--version", "v1", "--manifest", kit.work / "kit.yaml", "--output", kit.work / "out"]
    command = [str(word) for word in (program, *arguments, "--store", kit.work / "store")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        deadline = time.monotonic() + 60
        while not (mark.exists() and mark.read_text().strip()) and time.monotonic() < deadline:
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=30)
    assert running.returncode == 130 and "Traceback" not in told
    assert not Path("/proc", mark.read_text().strip()).exists()
    assert not list((kit.work / "store").glob("scan-*")) and not list((kit.work / "out").glob("*.tar.gz"))


def test_a_policy_demands_a_scanner_before_anything_is_fetched(project: Any) -> None:
    kit = project()
    kit.manifest["policy"] = {"scanners": ["clamav"]}
    done = kit.build({"name": "x", "command": ["true", "{path}"]})
    assert done.returncode == 23 and "name clamav under 'scan' of the manifest" in done.stderr and "fetched" not in done.stderr
