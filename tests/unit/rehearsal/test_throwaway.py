"""The kit that is installed and thrown away: another name, free ports, and the kit that it was made of untouched."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from offline_kit.bundle.write.kit_folder import lay_kit
from offline_kit.host.validate import check_services
from offline_kit.rehearsal.throwaway import Throwaway, make_throwaway
from offline_kit.runtime import serve
from offline_kit.runtime.settings import load
from tests.support.bundle_sample import Sample, make_sample

MODEL = {
    "name": "c", "path": "/models/chat", "type": "chat", "port": 8001, "gpu_memory_utilization": 0.3, "max_model_len": 256,
    "tensor_parallel_size": 1, "dtype": "float32", "replicas": 2,
}  # fmt: skip


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    made = make_sample(tmp_path / "blobs")
    made.texts["config/models.json"] = json.dumps({"models": {"chat": MODEL}}).encode()
    return made


@pytest.fixture
def kit(sample: Sample, tmp_path: Path) -> Path:
    return lay_kit(sample.entries(), sample.path_of, tmp_path / "kit")


def throwaway(sample: Sample, kit: Path, tmp_path: Path, *, dummy: bool = False) -> Throwaway:
    config = {name: (kit / "config" / name).read_bytes() for name in ("models.json", "vllm_config.yaml")}
    (tmp_path / "work").mkdir()
    services = check_services(config, ["chat", "embedding"], "cpu")
    return make_throwaway(kit, sample.lock(), services, tmp_path / "work", tmp_path / "work/resolv.conf", dummy=dummy)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def wrong(kit: Path) -> list[str]:
    """Files that are not as SHA256SUMS says."""
    lines = [line.split("  ", 1) for line in (kit / "SHA256SUMS").read_text().splitlines()]
    return [name for digest, name in lines if hashlib.sha256((kit / name).read_bytes()).hexdigest() != digest]


def test_it_is_whole_under_another_name_and_the_kit_is_as_it_was(sample: Sample, kit: Path, tmp_path: Path) -> None:
    (kit / "config/vllm_config.yaml").write_text("max_num_seqs: 4\n")  # as the operator of an installed kit has it
    (kit / ".env").write_text("VLLM_API_KEY=secret\n")
    before = content(kit)
    made = throwaway(sample, kit, tmp_path)
    assert content(kit) == before and wrong(made.kit) == [] and not (made.kit / ".env").exists()
    assert f"KIT_NAME={made.project}\n" in (made.kit / "deploy/kit.env").read_text() and made.project.startswith("rehearsal-")
    assert (made.kit / "config/vllm_config.yaml").read_text() == "max_num_seqs: 4\n"
    weights = "models/chat/model.safetensors"
    assert (made.kit / weights).stat().st_ino == (kit / weights).stat().st_ino, "weights are not copied"
    ports = dict(line.split("=") for line in made.settings.read_text().splitlines())
    assert ports.pop("OFFLINE_KIT_BIND") == "127.0.0.1" and len(set(ports.values())) == len(ports) == 2


def test_with_dummy_weights_no_engine_reads_its_own(sample: Sample, kit: Path, tmp_path: Path) -> None:
    edited = {**MODEL, "engine_args": {"load-format": "safetensors", "max_num_seqs": 2}}
    (kit / "config/models.json").write_text(json.dumps({"models": {"chat": edited}}))
    before = content(kit)
    made = throwaway(sample, kit, tmp_path, dummy=True)
    assert content(kit) == before and wrong(made.kit) == []
    settings = load.load_settings((made.kit / "config/models.json").read_text(), "")
    command = serve.argv(settings, "chat")
    assert {"--load-format=dummy", "--max-num-seqs=2"} <= set(command) and "--load-format=safetensors" not in command


def test_every_engine_waits_for_its_capture(sample: Sample, kit: Path, tmp_path: Path) -> None:
    made = throwaway(sample, kit, tmp_path)
    services = json.loads((tmp_path / "work/override.json").read_text())["services"]
    assert set(services) == {"engine-chat", "engine-chat-2"}
    for service in services.values():
        assert service["entrypoint"][3].endswith("/rehearsal/gate.py")
        assert service["entrypoint"][4:] == ["python3", "-m", "runtime.serve", "chat"]
    program = (made.path / "docker").read_text()
    (made.path / "docker").write_text(program[: program.rindex("exec ")] + 'printf "%s\\n" "${words[@]}"\n')

    def given(*words: str) -> list[str]:
        return subprocess.run([made.path / "docker", *words], capture_output=True, text=True, check=True).stdout.splitlines()

    own = f"{made.kit}/.state/compose.yaml"
    more = ["-f", str(tmp_path / "work/override.json")]
    assert given("compose", "-f", own, "logs", "-f", "a b") == ["compose", "-f", own, *more, "logs", "-f", "a b"]
    assert given("ps", "--all") == ["ps", "--all"]
