"""models.json and vllm_config.yaml to the command line of an engine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from offline_kit.runtime import healthcheck, serve
from offline_kit.runtime.settings import load
from offline_kit.runtime.settings.model import Settings
from tests.unit.runtime.test_config import entry


def settings(yaml: str = "", **changes: Any) -> Settings:
    return load.load_settings(json.dumps({"models": {"m": entry(**changes)}}), yaml)


def test_a_chat_engine() -> None:
    assert serve.argv(settings("max_num_seqs: 4"), "m") == [
        *("vllm", "serve", "/models/chat", "--host", "0.0.0.0", "--port", "8000", "--served-model-name", "m"),
        *(
            "--dtype=auto",
            "--gpu-memory-utilization=0.5",
            "--max-model-len=128",
            "--max-num-seqs=4",
            "--tensor-parallel-size=1",
        ),
    ]


@pytest.mark.parametrize(("kind", "convert"), [("embedding", "embed"), ("rerank", "classify")])
def test_pooling_engines(kind: str, convert: str) -> None:
    words = serve.argv(settings(type=kind), "m")
    assert "--runner=pooling" in words and f"--convert={convert}" in words


def test_kinds_of_values() -> None:
    values = {
        "enable_x": True,
        "prefix-caching": False,
        "left": None,
        "names": ["a", 2],
        "none": [],
        "text": "-1 two",
        "object": {"b": 1, "a": [True]},
    }
    words = serve.argv(settings(engine_args=values), "m")
    assert "--enable-x" in words and "--no-prefix-caching" in words and "--text=-1 two" in words
    assert words[words.index("--names") + 1 :][:2] == ["a", "2"]
    assert words[words.index("--object") + 1] == '{"a": [true], "b": 1}'
    assert not [word for word in words if word.startswith(("--left", "--none"))]


def test_the_more_particular_wins() -> None:
    words = serve.argv(
        settings("dtype: half\nseed: 1\nconvert: none\n", type="rerank", engine_args={"seed": 2, "runner": "auto"}), "m"
    )
    assert {"--dtype=auto", "--seed=2", "--convert=none", "--runner=auto"} <= set(words)
    assert len([word for word in words if word.startswith("--seed")]) == 1


def test_the_environment_of_an_engine() -> None:
    base = {"PYTHONPATH": "/opt/offline-kit", "PATH": "/bin", "HF_HUB_OFFLINE": "0"}
    gpu, cpu = serve.environment(base, "nvidia"), serve.environment(base, "cpu")
    assert (gpu["HF_HUB_OFFLINE"], gpu["PATH"], gpu["USER"]) == ("1", "/bin", "engine")
    assert gpu["HOME"] == serve.CACHE and gpu["VLLM_CACHE_ROOT"].startswith(serve.CACHE)
    assert "PYTHONPATH" not in gpu and "VLLM_ENABLE_V1_MULTIPROCESSING" not in gpu
    assert cpu["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0" and "TORCH_COMPILE_DISABLE" not in cpu
    assert serve.environment(base, "cpu", compiler=False)["TORCH_COMPILE_DISABLE"] == "1"
    assert "TORCH_COMPILE_DISABLE" not in serve.environment(base, "nvidia", compiler=False)
    told = {"TORCH_COMPILE_DISABLE": "0"}
    assert serve.environment(told, "cpu", compiler=False)["TORCH_COMPILE_DISABLE"] == "0"
    assert serve.environment({"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}, "cpu")["VLLM_ENABLE_V1_MULTIPROCESSING"] == "1"


def test_a_vocabulary_beside_the_model_is_found_by_its_engine(tmp_path: Path) -> None:
    assert serve.vocabularies(str(tmp_path)) == {}
    (tmp_path / "o200k_base.tiktoken").write_text("IQ== 0")
    assert serve.vocabularies(str(tmp_path)) == {"TIKTOKEN_ENCODINGS_BASE": str(tmp_path)}


def test_what_the_image_prepared_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "image/modelinfos").mkdir(parents=True)
    (tmp_path / "image/modelinfos/a.json").write_text("a")
    (tmp_path / "image/modelinfos/b.json").write_text("b")
    (tmp_path / "cache/modelinfos").mkdir(parents=True)
    (tmp_path / "cache/modelinfos/b.json").write_text("newer")
    serve.seed(str(tmp_path / "image"), tmp_path / "cache")
    serve.seed(str(tmp_path / "nothing"), tmp_path / "cache")
    serve.seed(None, tmp_path / "cache")
    assert (tmp_path / "cache/modelinfos/a.json").read_text() == "a"
    assert (tmp_path / "cache/modelinfos/b.json").read_text() == "newer"


def _files(folder: Path, models: str, yaml: str = "") -> list[str]:
    (folder / "models.json").write_text(models)
    (folder / "vllm_config.yaml").write_text(yaml)
    return ["--config", str(folder)]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = _files(tmp_path, json.dumps({"models": {"m": entry()}}))
    assert serve.main(["m", "--print", *good]) == 0
    assert capsys.readouterr().out.startswith("vllm serve /models/chat --host 0.0.0.0")
    assert serve.main(["other", *good]) == 3
    assert "there is no 'other'" in capsys.readouterr().err
    # The one that vLLM itself would call a wrong repository id.
    assert serve.main(["m", *good]) == 3
    assert "models/chat: the folder of 'm' does not exist" in capsys.readouterr().err
    assert serve.main(["m", *_files(tmp_path, "{")]) == 3
    assert "line 1" in capsys.readouterr().err
    assert serve.main(["m", "--config", str(tmp_path / "none")]) == 3


def _serve_once(answer: bytes) -> int:
    """A port that answers once with these bytes."""
    server = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with server:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    port: int = server.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [(b"HTTP/1.1 200 OK\r\n\r\n", True), (b"HTTP/1.1 503 Down\r\n\r\n", False), (b"", False), (b"garbage that is long", False)],
)
def test_health(answer: bytes, healthy: bool) -> None:
    command = [sys.executable, "-I", "-S", healthcheck.__file__, "127.0.0.1", str(_serve_once(answer))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert (done.returncode == 0, done.stderr == "") == (healthy, healthy), done


def test_nobody_is_not_healthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in healthcheck.check("127.0.0.1", port, "/health")
