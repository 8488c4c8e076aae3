"""The GPU plan side by side with hf-mem, on the fixtures of real architectures.

Run it as python -m benchmarks.plan > table.md.

Rules: both get the same headers and config.json, and hf-mem's own functions do its work, in a virtual environment of its own
(``--python``, else one is made with pip); the truth is, for weights, the published parameters as bytes, and for the KV cache of
one sequence of 32,768 tokens what vLLM's own classes said (tests/data/vllm-0.32.0-kv.json, which
tests/support/plan_in_engine.py wrote in the engine image, and tests compare with it); a row where the two differ says why.
Nothing is downloaded but hf-mem.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from offline_kit.runtime.gpu_plan import kv_cache, tensor_table
from offline_kit.runtime.gpu_plan.engine_memory import Facts
from offline_kit.runtime.gpu_plan.weight_memory import Loading, weights

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/data/architectures"
TRUTH = ROOT / "tests/data/vllm-0.32.0-kv.json"
LENGTH, IN_FLIGHT = 32768, 4096
THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
from hf_mem.safetensors.kv_cache import compute_safetensors_kv_cache_size, resolve_kv_cache_dtype
from hf_mem.safetensors.metadata import parse_safetensors_metadata
found = {}
for name, (config, header) in json.load(sys.stdin).items():
    metadata = parse_safetensors_metadata({"Transformer": header})
    try:
        # as hf_mem/run.py does: the language model's part, with the dtype of the whole
        inner = {k: config[k] for k in ("torch_dtype", "quantization_config") if k in config}
        inner |= config.get("text_config", config)
        dtype = resolve_kv_cache_dtype(inner, "auto", metadata, name)
        kv = compute_safetensors_kv_cache_size(inner, dtype, LENGTH)
    except (RuntimeError, KeyError) as error:
        kv = f"{type(error).__name__}"
    found[name] = [metadata.bytes_count, kv]
print(json.dumps(found))
"""
WHY = {
    "gemma-2-9b-it": "half of its layers keep a window of 4,096 tokens and what is in flight; hf-mem counts all to the end",
    "gemma-3-1b-it": "five layers of six keep a window of 512 tokens; hf-mem counts all to the end",
    "gemma-3-27b-it": "52 of 62 layers keep a window of 1,024 tokens, padded into groups of 10; hf-mem counts all to the end",
    "gpt-oss-20b": "12 layers keep a window of 128 tokens; hf-mem does not know the KV dtype of MXFP4",
    "gpt-oss-120b": "18 layers keep a window of 128 tokens; hf-mem does not know the KV dtype of MXFP4",
    "DeepSeek-V2-Lite-Chat": "one latent row of 576 values a token and layer; hf-mem counts 16 heads of 128 twice",
    "DeepSeek-V3": "one latent row of 576 values a token and layer in bfloat16; hf-mem counts 128 heads of 56 twice in fp8",
    "Jamba-v0.1": "4 attention layers and 28 states; the block grows until a page holds a state; hf-mem counts 32 layers",
    "mamba-130m-hf": "no attention: one state a sequence; hf-mem has no heads to count",
    "falcon-7b": "one KV head for all 71 (multi-query); hf-mem counts 71",
    "gpt2": "its configuration has other names and no dtype; hf-mem gives up",
    "Mistral-7B-v0.1": "one window for all layers; vLLM keeps what is in flight beside it",
    "Phi-3-mini-4k-instruct": "one window for all layers; vLLM keeps what is in flight beside it",
    "starcoder2-3b": "published in float32 and served in bfloat16; one window for all layers",
    "Meta-Llama-3.1-8B-Instruct-FP8": "compressed-tensors without a KV scheme: both take bfloat16",
}


def main() -> None:
    parser = argparse.ArgumentParser(description="The GPU plan and hf-mem, side by side.")
    parser.add_argument("--python", help="a Python that has hf-mem (default: one is made)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        print(table(ask(options.python or _own(Path(work)))))


def _own(work: Path) -> str:
    venv.create(work / "venv", with_pip=True)
    python = str(work / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "hf-mem"], check=True, stdout=sys.stderr)
    return python


def records() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))}


def ask(python: str) -> dict[str, tuple[int, int | str]]:
    """What hf-mem says: name -> bytes of weights, bytes of KV cache (or the error)."""
    question = {}
    for name, recorded in records().items():
        header = {
            f"{row['name']}#{number}": {"dtype": row["dtype"], "shape": row["shape"]}
            for row in recorded["tensors"]
            for number in range(row["count"])
        }
        question[name] = (recorded["config"], header)
    script = THEIRS.replace("LENGTH", str(LENGTH))
    done = subprocess.run([python, "-c", script], input=json.dumps(question), capture_output=True, text=True, check=True)
    return {name: (weight, kv) for name, (weight, kv) in json.loads(done.stdout).items()}


def table(theirs: dict[str, tuple[int, int | str]]) -> str:
    """Markdown: a row a model, and how often each is closer."""
    truth = json.loads(TRUTH.read_text())
    lines = [
        "| model | published, GB | hf-mem | ours | an engine holds | KV cache, MiB: vLLM | hf-mem | ours | why they differ |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    closer = {"ours": 0, "equal": 0, "hf-mem": 0}
    for name, recorded in records().items():
        facts = Facts.of(recorded)
        measured = truth[name]["1/auto"]
        real = measured["needed"][str(LENGTH)] if measured["groups"] else 0
        pool = kv_cache.pool(facts.arch, kv_cache.Options(in_flight=IN_FLIGHT))
        ours = pool.needed(LENGTH) - (pool.block_bytes[0] if pool.groups else 0)
        stored, kv = theirs[name]
        own = tensor_table.total(facts.tensors)
        loaded = weights(facts.tensors, facts.arch, Loading(2)).rank
        gap = abs(kv - real) if isinstance(kv, int) else None
        verdict = "ours" if gap is None or abs(ours - real) < gap else "equal" if abs(ours - real) == gap else "hf-mem"
        closer[verdict] += 1
        why = WHY.get(name, "") if verdict != "equal" else ""
        if facts.arch.encoder:
            why = "an encoder keeps no KV cache; hf-mem counts one when it is asked to"
        their = f"{kv / 2**20:,.0f}" if isinstance(kv, int) else kv
        lines.append(
            f"| {recorded['model']} | {own / 1e9:,.3f} | {stored / 1e9:,.3f} | {own / 1e9:,.3f} | {loaded / 1e9:,.3f} "
            f"| {real / 2**20:,.0f} | {their} | {ours / 2**20:,.0f} | {why} |"
        )
    counts = ", ".join(f"{key} {number}" for key, number in closer.items())
    return "\n".join([*lines, "", f"KV cache of one sequence of {LENGTH:,} tokens, closer to vLLM: {counts}."])


if __name__ == "__main__":
    main()
