"""Start logs of vLLM: what is read of them, and how the plan is held against them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import plan_logs
from offline_kit.host.log_comparison import compare, text
from offline_kit.host.start_log import decode_log, parse_log
from tests.conftest import Kit
from tests.support.plan_samples import CHAT, record
from tests.testbed.cache import REPOSITORY

CASES: dict[str, dict[str, Any]] = {case["id"]: case for case in plan_logs.cases()}
NEWER = """\
chat  | (APIServer pid=1) INFO 11-20 10:00:01 [api_server.py:90] vLLM API server version 0.27.1
chat  | \x1b[1;36m(EngineCore_DP0 pid=9)\x1b[0;0m INFO [core.py:140] Initializing a V1 LLM engine (v0.27.1) with config: \
model='/models/q', served_model_name=qwen, kv_cache_dtype=auto
chat  | (EngineCore_DP0 pid=9) INFO [gpu_model_runner.py:5472] Model loading took 15.27 GiB memory and 3.2 seconds
chat  | (EngineCore_DP0 pid=9) INFO [gpu_model_runner.py:6895] Estimated CUDA graph memory: 0.61 GiB total
chat  | (EngineCore_DP0 pid=9) INFO [gpu_worker.py:626] Available KV cache memory: 5.87 GiB
chat  | (EngineCore_DP0 pid=9) INFO [kv_cache_utils.py:2032] GPU KV cache size: 42,768 tokens, Maximum concurrency for 4,096 \
tokens per request: 10.44x
chat  | (EngineCore_DP0 pid=9) INFO [gpu_model_runner.py:7002] Graph capturing finished in 9 secs, took 0.45 GiB
chat  | (APIServer pid=1) INFO:     Application startup complete.
"""
OLDER = """\
INFO 04-20 core.py:61] Initializing a V1 LLM engine (v0.8.4) with config: model='x', served_model_name=x
(VllmWorker rank=0 pid=1) INFO gpu_model_runner.py:1291] Model loading took 14.2717 GiB and 4.1 seconds
(VllmWorker rank=1 pid=2) INFO gpu_model_runner.py:1291] Model loading took 14.2719 GiB and 4.1 seconds
ERROR ValueError: To serve at least one request with the models's max seq len (131072), (4.54 GiB KV cache is needed, which is \
larger than the available KV cache memory (1.71 GiB). Based on the available memory, ...
"""


def test_what_a_log_says() -> None:
    new = parse_log(NEWER)
    assert (new.version, new.name, new.weights, new.kv, new.tokens, new.concurrency) == (
        "0.27.1", "qwen", 15.27, 5.87, 42768, 10.44,
    )  # fmt: skip
    assert (new.graphs_estimate, new.graphs, new.started, new.refused) == (0.61, 0.45, True, "")
    old = parse_log(OLDER)
    assert (old.version, old.weights, old.kv, old.need, old.started) == ("0.8.4", 14.2719, 1.71, 4.54, False)
    assert old.refused.startswith("To serve at least one request")
    states = parse_log("ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (635). Each decode ...")
    assert (states.state_blocks, states.started) == (635, False)
    assert parse_log("INFO: nothing of the kind").is_empty and parse_log("").is_empty


def test_what_odd_logs_say() -> None:
    """vLLM logs a negative number before it refuses (gpu_worker.py, kv_cache_utils.py: "No available memory")."""
    lacking = parse_log("Available KV cache memory: -2.13 GiB\nValueError: No available memory for the cache blocks.")
    assert (lacking.kv, lacking.started) == (-2.13, False)
    assert parse_log("Model loading took \x1b[1;31m\x1b[K15.27\x1b[m\x1b[K GiB").weights == 15.27, "as grep colours it"
    assert parse_log(f"GPU KV cache size: {'9' * 5000} tokens, Available KV cache memory: {'9' * 400} GiB").is_empty
    built = "vLLM API server version 0.1.dev19754+g3a0914114\nModel loading took 28.5 GiB"
    assert parse_log(built).version == "0.1.dev19754", "vllm/vllm-openai:qwen38 (vllm-project/recipes#831)"
    assert parse_log(built.replace("0.1.dev19754", "0.29.1rc1.dev17")).version == "0.29.1rc1.dev17"


def test_of_a_container_that_was_started_again_the_last_start_counts() -> None:
    refused = NEWER.replace("5.87", "0.31").rpartition("chat  | (EngineCore_DP0 pid=9) INFO [kv_cache_utils")[0]
    refused += "ValueError: Free memory on device cuda:0 (1.0/23.5 GiB) is less than desired GPU memory utilization\n"
    assert parse_log(refused).started is False
    again = parse_log(refused + NEWER)
    assert (again.kv, again.started, again.refused, again.names) == (5.87, True, "", ("qwen",))
    assert parse_log(NEWER + "vLLM API server version 0.27.1\n").kv == 5.87, "the second API server of the same engine"
    other = NEWER.replace("served_model_name=qwen", "served_model_name=embed")
    assert parse_log(NEWER + other).names == ("embed", "qwen")


@pytest.mark.parametrize(
    ("name", "log", "wrong"),
    [
        ("q3-8b-awq-4090", "Model loading took 5.71 GiB memory and 1 seconds\nAvailable KV cache memory: 14.43 GiB\n"
         "GPU KV cache size: 105,056 tokens, Maximum concurrency for 4,096 tokens per request: 25.65x\n", []),
        ("q3.8-27b-pro-1024", "max_num_seqs (1024) exceeds available Mamba cache blocks (635)", []),
        ("q3-8b-awq-4090", "Model loading took 15.9 GiB memory and 1 seconds\nAvailable KV cache memory: 3.1 GiB\n"
         "GPU KV cache size: 105,056 tokens\n", ["weights", "KV cache memory", "KV tokens in that memory"]),
        ("q3-8b-awq-4090", "CUDA out of memory\nModel loading took 5.71 GiB memory", ["outcome"]),
    ],
)  # fmt: skip
def test_planned_against_logged(name: str, log: str, wrong: list[str]) -> None:
    lines = compare(plan_logs.plan(CASES[name]), plan_logs.KEY, parse_log(log))
    assert lines and [line.what for line in lines if not line.agrees] == wrong
    told = "\n".join(text(plan_logs.plan(CASES[name]), plan_logs.KEY, parse_log(log)))
    assert told.count("NOT AS PLANNED") == len(wrong) and all(line.logged in told for line in lines)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest whose model lies in a folder, with a sparse file of a tebibyte that nobody can hash before the test ends."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(record(CHAT)["config"]))
    size = 1 << 40
    head = json.dumps({"model.norm.weight": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(head).to_bytes(8, "little") + head)
        stream.truncate(8 + len(head) + size)
    entry = json.loads((REPOSITORY / "config/models.json").read_text())["models"]["chat"]
    (tmp_path / "models.json").write_text(json.dumps({"models": {"chat": {**entry, "name": "qwen"}}}))
    (tmp_path / "engine.yaml").write_text("max_num_seqs: 64\n")
    (tmp_path / "m.yaml").write_text(
        json.dumps(
            {
                "apiVersion": "offline-kit/v1", "name": "m", "services": "models.json", "engine_config": "engine.yaml",
                "models": {"chat": {"source": f"dir://{folder}"}},
                "images": {key: {"source": "docker://localhost:1/x:1"} for key in ("engine", "gateway")},
            }
        )
    )  # fmt: skip
    return tmp_path / "m.yaml"


def test_the_command_hashes_no_weights_and_compares(manifest: Path, tmp_path: Path, offline_kit: Kit) -> None:
    store = tmp_path / "store"
    shown = offline_kit("plan", manifest, "--gpu", "2x48GiB", "--json", "--store", store)
    told = json.loads(shown.stdout)
    assert shown.returncode == 3 and told["engines"]["chat"]["ranks"][0]["weights_stored"] == 1 << 40
    assert len(told["engines"]["chat"]["tokens"]) == 3 and told["vllm"] == {"version": "0.33", "known": False}

    (tmp_path / "chat.log").write_text(NEWER)
    compared = offline_kit("plan", manifest, "--gpu", "2x48GiB", "--compare", tmp_path / "chat.log", "--store", store)
    assert compared.returncode == 0 and "planned for 0.27" in compared.stdout
    assert "chat as it logged its start (vLLM 0.27.1" in compared.stdout and "15.27 GiB" in compared.stdout
    data = json.loads(
        offline_kit("plan", manifest, "--gpu", "2x48GiB", "--compare", tmp_path / "chat.log", "--json", "--store", store).stdout
    )
    assert {line["what"] for line in data["lines"]} >= {"weights", "KV cache memory", "KV tokens", "concurrency", "outcome"}


def test_a_log_that_cannot_be_compared(manifest: Path, tmp_path: Path, offline_kit: Kit) -> None:
    (tmp_path / "empty.log").write_text("Hello\n")
    words = ("plan", manifest, "--gpu", "2x48GiB", "--store", tmp_path / "store", "--compare")
    empty = offline_kit(*words, tmp_path / "empty.log")
    assert empty.returncode == 3 and "says nothing of an engine's start" in empty.stderr
    (tmp_path / "both.log").write_text(NEWER + NEWER.replace("served_model_name=qwen", "served_model_name=embed"))
    both = offline_kit(*words, tmp_path / "both.log")
    assert both.returncode == 3 and "several engines (embed, qwen)" in both.stderr
    missing = offline_kit(*words, tmp_path / "none.log")
    assert missing.returncode == 3 and "cannot be read" in missing.stderr and "Traceback" not in missing.stderr
    (tmp_path / "chat.log").write_text(NEWER)
    other = offline_kit(*words, tmp_path / "chat.log", "--engine", "none")
    assert other.returncode == 2 and "there is no model 'none'" in other.stderr


PARTS = """\
(APIServer pid=1) INFO 10-23 [api_server.py:1896] vLLM API server version 0.10.2
(Worker_TP1 pid=2) INFO 10-23 [gpu_model_runner.py:2392] Model loading took 74.2812 GiB and 215.969277 seconds
(Worker_TP0 pid=1) INFO 10-23 [gpu_worker.py:298] Available KV cache memory: 44.59 GiB
(EngineCore_DP0 pid=9) INFO 10-23 [kv_cache_utils.py:1028] GPU KV cache size: 973,760 tokens
(EngineCore_DP0 pid=9) INFO 10-23 [kv_cache_utils.py:1032] Maximum concurrency for 262,144 tokens per request: 14.77x
(Worker_TP1 pid=2) INFO 10-23 [gpu_worker.py:391] Free memory on device (139.21/139.81 GiB) on startup. Desired GPU memory \
utilization is (0.9, 125.83 GiB). Actual usage is 74.28 GiB for weight, 5.58 GiB for peak activation, 1.38 GiB for non-torch \
memory, and 2.37 GiB for CUDAGraph memory.
"""


def test_the_parts_that_a_log_names_are_held_against_theirs() -> None:
    log = parse_log(PARTS)
    assert (log.card, log.activations, log.libraries, log.weights) == (139.81, 5.58, 1.38, 74.2812)
    case = CASES["q3-next-80b-2xh200"]
    lines = compare(plan_logs.plan(case), plan_logs.KEY, log)
    named = {"weights", "card, as CUDA reports it", "activations", "memory outside of torch", "KV cache memory", "KV tokens"}
    assert {line.what for line in lines} >= named and all(line.agrees for line in lines)
    assert parse_log(PARTS.replace("1.38 GiB for non-torch", "-3.58 GiB for non-torch")).libraries == -3.58


V0 = """\
INFO 04-11 12:37:49 [llm_engine.py:242] Initializing a V0 LLM engine (v0.8.3) with config: model='x', served_model_name=x
INFO 04-11 12:38:09 [worker.py:267] model weights take 12.55GiB; non_torch_memory takes 0.16GiB; PyTorch activation peak \
memory takes 2.38GiB; the rest of the memory reserved for KV Cache is 56.18GiB.
INFO 04-11 12:38:09 [executor_base.py:111] # cuda blocks: 7191, # CPU blocks: 512
"""


def test_logs_of_the_engine_before_v1_are_known_as_such() -> None:
    assert parse_log(V0).v0 and not parse_log(NEWER).v0 and not parse_log(OLDER).v0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig"])
def test_a_log_may_be_in_utf_16(encoding: str) -> None:
    assert parse_log(decode_log(NEWER.encode(encoding))).kv == 5.87


@pytest.mark.parametrize("data", [NEWER.encode("utf-16-le"), b"\x7fELF\0\0\0"])
def test_what_is_no_text_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match="is no text in UTF-8"):
        decode_log(data)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (V0.encode(), "is the log of vLLM's V0 engine, which the plan does not know"),
        (NEWER.encode("utf-16-le"), "is no text in UTF-8, or in UTF-16 with its mark -> save it again as UTF-8"),
    ],
)
def test_one_line_for_a_log_that_cannot_be_compared(tmp_path: Path, offline_kit: Kit, data: bytes, said: str) -> None:
    log = tmp_path / "engine.log"
    log.write_bytes(data)
    done = offline_kit("plan", REPOSITORY / "manifests/knowflow.yaml", "--gpu", "2x80GiB", "--compare", log, cwd=tmp_path)
    assert done.returncode == 3 and done.stdout == "", done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("offline-kit: ")]
    assert said in line
