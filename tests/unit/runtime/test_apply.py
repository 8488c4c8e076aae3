"""The operator's configuration to the files of .state/: what they hold, when they change, and what stops them."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from offline_kit.runtime import apply
from offline_kit.runtime.render.nginx import refusal_files
from tests.support.docker_stand_in import docker
from tests.testbed.cache import REPOSITORY
from tests.unit.runtime.test_config import KEY, entry

PACKAGE = Path(apply.__file__).parent
ENV = f"VLLM_API_KEY={KEY}\n"


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    """A kit with three models on one GPU."""
    for folder in ("config", "deploy", ".state", "models/chat", "models/embedding", "models/rerank"):
        (tmp_path / folder).mkdir(parents=True)
    shares = {"chat": 0.5, "embedding": 0.2, "rerank": 0.2}
    models = {
        key: entry(name=f"my-{key}", path=key, type=key, port=8001 + number, gpu_memory_utilization=share)
        for number, (key, share) in enumerate(shares.items())
    }
    write_models(tmp_path, models)
    (tmp_path / "config/vllm_config.yaml").write_text("max_num_seqs: 4\n")
    (tmp_path / ".env").write_text(ENV)
    (tmp_path / "runtime").symlink_to(PACKAGE)
    facts = "KIT_FORMAT=1\nKIT_NAME=my-kit\nKIT_VERSION=v1\nKIT_ACCELERATOR=nvidia\nKIT_IMAGES=engine,gateway\n"
    facts += "KIT_IMAGE_engine=localhost/offline-kit/engine:1\nKIT_IMAGE_gateway=localhost/offline-kit/gateway:2\n"
    (tmp_path / "deploy/kit.env").write_text(facts)
    return tmp_path


def write_models(kit: Path, models: dict[str, Any]) -> None:
    (kit / "config/models.json").write_text(json.dumps({"models": models}))


def models_of(kit: Path) -> dict[str, Any]:
    models: dict[str, Any] = json.loads((kit / "config/models.json").read_text())["models"]
    return models


def run(kit: Path, *, gpus: str = "", free: str = "", instead: str = "") -> subprocess.CompletedProcess[str]:
    """What the scripts do with the configuration, on a host with these GPUs; stdout: a line for each file that changed.

    ``instead``: see docker_stand_in.
    """
    home = kit.parent / f"{kit.name}-home"
    docker(home, instead)
    script = f"""
        . "{REPOSITORY}/scripts/lib/services/engine.sh" && open_kit "$0/x"
        gpu_memory() {{ [[ "$1" == memory.free ]] && REPLY={free!r} || REPLY={gpus!r}; }}
        indented() {{ :; }}
        service_apply && printf '%s' "$APPLIED"
        """
    env = {**os.environ, "PATH": f"{home}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script, str(kit)], env=env, capture_output=True, text=True, check=False)
    done.stdout += "\n" if done.stdout else ""
    return done


def compose(kit: Path) -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((kit / ".state/compose.yaml").read_text())["services"]
    return services


def test_what_is_written(kit: Path) -> None:
    done = run(kit)
    assert (done.returncode, done.stderr) == (0, "")
    changed = [line.removesuffix(" changed") for line in done.stdout.splitlines()]
    assert set(changed) == {
        *(".state/compose.yaml", ".state/start-order", ".state/ports", ".state/gateway/nginx.conf", ".state/gateway/keys.conf"),
        *(f".state/gateway/models/{name}.json" for name in ("all", "chat", "embedding", "rerank", "_health")),
        *(f".state/gateway/models/{name}" for name in refusal_files()),
    }
    assert (kit / ".state/start-order").read_text() == "engine-chat\nengine-embedding\nengine-rerank\ngateway\n"
    assert (kit / ".state/ports").read_text() == "8000 gateway\n8001 engine-chat\n8002 engine-embedding\n8003 engine-rerank\n"
    assert KEY in (kit / ".state/gateway/keys.conf").read_text()
    assert stat.S_IMODE((kit / ".state/gateway/keys.conf").stat().st_mode) == 0o600
    assert KEY not in (kit / ".state/compose.yaml").read_text() + (kit / ".state/gateway/nginx.conf").read_text()
    assert stat.S_IMODE((kit / ".state/cache/chat").stat().st_mode) == 0o700
    assert not list(kit.rglob("*.new")) and not list(kit.glob(".state/given*"))


def test_a_second_run_changes_nothing_and_an_edit_only_what_it_means(kit: Path) -> None:
    run(kit)
    before = {path: path.stat().st_mtime_ns for path in (kit / ".state").rglob("*")}
    assert run(kit).stdout == ""
    assert {path: path.stat().st_mtime_ns for path in (kit / ".state").rglob("*")} == before
    engines = compose(kit)
    write_models(kit, {**models_of(kit), "rerank": {**models_of(kit)["rerank"], "engine_args": {"seed": 1}}})
    assert run(kit).stdout == ".state/compose.yaml changed\n"
    assert [name for name, service in compose(kit).items() if service != engines[name]] == ["engine-rerank"]
    write_models(kit, {key: value for key, value in models_of(kit).items() if key != "rerank"})
    assert ".state/gateway/models/rerank.json changed" in run(kit).stdout
    assert not (kit / ".state/gateway/models/rerank.json").exists()


def test_services_are_locked_in(kit: Path) -> None:
    run(kit)
    services = compose(kit)
    user = f"{os.getuid()}:{os.getgid()}" if os.getuid() else "10001:10001"
    for service in services.values():
        assert (service["user"], service["read_only"], service["cap_drop"], service["pull_policy"]) == (
            user,
            True,
            ["ALL"],
            "never",
        )
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["pids_limit"] > 0 and service["ulimits"]["core"] == 0 and service["mem_limit"]
    assert services["gateway"]["mem_limit"] == "4g" and services["gateway"]["tmpfs"] == ["/tmp:mode=1777,size=2g"]
    engine = services["engine-embedding"]
    assert engine["networks"] == ["model-embedding"] and "ports" not in engine
    assert services["gateway"]["networks"] == ["internal", "model-chat", "model-embedding", "model-rerank", "edge"]
    assert [volume["target"] for volume in engine["volumes"] if not volume["read_only"]] == ["/var/lib/offline-kit/cache"]
    assert engine["depends_on"] == {"engine-chat": {"condition": "service_healthy"}}
    devices = engine["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "device_ids": ["0"], "capabilities": ["gpu"]}]
    assert services["gateway"]["ports"] == [f"0.0.0.0:{port}:{port}" for port in (8000, 8001, 8002, 8003)]


def test_dotenv_moves_ports_address_and_device(kit: Path) -> None:
    (kit / ".env").write_text(
        ENV + "VLLM_ROUTER_PORT=80\nVLLM_RERANK_PORT=8000\nOFFLINE_KIT_BIND=::1\nOFFLINE_KIT_DEVICE=cpu\n"
    )
    assert run(kit).returncode == 0
    services = compose(kit)
    assert services["gateway"]["ports"] == ["[::1]:80:8000", "[::1]:8001:8001", "[::1]:8002:8002", "[::1]:8000:8003"]
    assert "deploy" not in services["engine-chat"] and services["engine-chat"]["environment"]["OFFLINE_KIT_DEVICE"] == "cpu"
    assert (kit / ".state/start-order").read_text() == "engine-chat,engine-embedding,engine-rerank\ngateway\n"


def test_wide_engines_and_limits(kit: Path) -> None:
    models = models_of(kit)
    models["chat"].update(tensor_parallel_size=2, memory_limit="24g")
    write_models(kit, models)
    run(kit)
    chat = compose(kit)["engine-chat"]
    assert (chat["shm_size"], chat["mem_limit"]) == ("16gb", "24g")
    assert chat["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"] == ["0", "1"]


def test_mistakes_stop_before_anything_is_written(kit: Path) -> None:
    models = models_of(kit)
    models["chat"].update(gpu_memory_utilization=0.9, path="/models/missing")
    write_models(kit, models)
    (kit / ".env").write_text("VLLM_API_KEY=\n")
    done = run(kit)
    assert (done.returncode, done.stdout) == (3, "")
    assert "there is no model 'missing' in the kit" in done.stderr and "VLLM_API_KEY: is empty" in done.stderr
    models["chat"]["path"] = "chat"
    write_models(kit, models)
    (kit / ".env").write_text(ENV)
    done = run(kit)
    assert (done.returncode, done.stderr.count("config/models.json: ")) == (3, 1)
    assert "= 1.30 of GPU 0" in done.stderr
    assert not (kit / ".state/compose.yaml").exists()


def test_the_memory_of_the_gpus(kit: Path) -> None:
    with (kit / "models/chat/model.safetensors").open("wb") as stream:
        stream.truncate(20 << 30)
    assert run(kit, gpus="0=81559").returncode == 0
    done = run(kit, gpus="0=24564")
    assert done.returncode == 3
    assert "0.5 of GPU 0 (24,074 MiB usable) is 11.75 GiB, but 20.00 GiB weights + " in done.stderr
    assert "raise it to 0." in done.stderr
    assert run(kit, gpus="0=81559", free="0=9000").returncode == 3


def test_a_damaged_kit(kit: Path) -> None:
    facts = (kit / "deploy/kit.env").read_text()
    (kit / "deploy/kit.env").write_text(facts.replace("KIT_VERSION=v1\n", ""))
    done = run(kit)
    assert done.returncode == 3 and "deploy/kit.env: KIT_VERSION: is missing" in done.stderr
    (kit / "config/models.json").unlink()
    done = run(kit)
    assert done.returncode == 1 and "config/models.json: No such file" in done.stderr


@pytest.mark.root
def test_what_root_makes_belongs_to_the_services(kit: Path) -> None:
    run(kit)
    assert compose(kit)["gateway"]["user"] == "10001:10001"
    for path, owner in ((".state/gateway/keys.conf", 10001), (".state/cache/chat", 10001), (".state/compose.yaml", 0)):
        assert (kit / path).stat().st_uid == owner, path


def test_a_dollar_is_no_variable(kit: Path) -> None:
    models = models_of(kit)
    models["chat"]["engine_args"] = {"chat_template": "$HOME"}
    write_models(kit, models)
    assert run(kit).returncode == 0
    assert "$HOME" not in (kit / ".state/compose.yaml").read_text()
