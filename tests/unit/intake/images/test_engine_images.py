"""Engine images with one fault each, as layers with the packages' own metadata: read, kept in a lock, and found out.

Rules: a layer is a tar as an image has it; what a row says comes from there or from the image's environment, nothing is handed
over on the way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import SpecError
from offline_kit.host.target_check import check_target
from offline_kit.host.validate import check_services
from offline_kit.intake.images import contents
from offline_kit.intake.images.engine_facts import engine_facts
from offline_kit.intake.models.findings import Service, find
from offline_kit.spec.engine_summary import describe, summary
from offline_kit.spec.lock import Blob, Lock, LockedImage, LockedModel
from offline_kit.spec.lock_facts import ModelFacts, ModelNeeds
from offline_kit.spec.manifest import Target
from tests.support import intake_samples as parts

ZERO = Digest("0" * 64)
SITE = "usr/local/lib/python3.12/dist-packages"
VERSIONS = {
    "vllm": "0.33.0",
    "torch": "2.14.0",
    "transformers": "5.17.0",
    "triton": "3.8.0",
    "kernels": "0.12.1",
    "nvidia-cuda-runtime": "13.0.96",
    "flashinfer-python": "0.7.2",
    "flashinfer-cubin": "0.7.2",
    "flashinfer-jit-cache": "0.7.2+cu130",
}
KNOWN = ("Qwen2ForCausalLM", "LlamaForCausalLM")
CONFIG = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 2, "hidden_size": 64}
CONFIG |= {"num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 64, "vocab_size": 512}
CONFIG |= {"max_position_embeddings": 4096, "torch_dtype": "bfloat16"}
ROW = {"name": "model.layers.*.w", "dtype": "BF16", "shape": [64, 64], "size": 8192, "count": 2, "layers": "0-1"}
ARCHITECTURES = "8.0 8.9 9.0a 10.0 12.0+PTX"
Changes = Mapping[str, str | None]


def packages(versions: Changes) -> dict[str, bytes]:
    """Metadata as pip leaves it; None: not installed."""
    found = {}
    for name, version in {**VERSIONS, **versions}.items():
        if version is not None:
            text = f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n\nabout it\n"
            found[f"{SITE}/{name.replace('-', '_')}-{version}.dist-info/METADATA"] = text.encode()
    return found


def vllm(architectures: tuple[str, ...]) -> dict[str, bytes]:
    rows = "".join(f'    "{name}": ("module", "{name}"),\n' for name in architectures)
    return {
        f"{SITE}/vllm/model_executor/models/registry.py": f"_A: dict = {{\n{rows}}}\n_VLLM_MODELS = {{**_A}}\n".encode(),
        f"{SITE}/vllm/tool_parsers/__init__.py": b'_TOOL_PARSERS_TO_REGISTER = {"hermes": ("f", "C"), "mistral": ("f", "C")}\n',
        f"{SITE}/vllm/reasoning/__init__.py": b'_REASONING_PARSERS_TO_REGISTER = {"qwen3": ("f", "C")}\n',
    }


def image(
    versions: Changes | None = None, known: tuple[str, ...] = KNOWN, cut: bool = False, env: dict[str, str] | None = None
) -> LockedImage:
    """The image of these packages as a lock keeps it, its layers read from their tars."""
    read = []
    for files in (packages(versions or {}), vllm(known)):
        scan, tar = contents.new_scan(), parts.tar({**files, "usr/bin/z": b"x" * 700})
        scan.feed(tar[: tar.index(b"usr/bin/z") + 600 if cut else None])
        read.append(json.loads(json.dumps(contents.read_layer(scan))))
    blob = Blob(digest=ZERO, size=1, media_type="x")
    return LockedImage(
        spec_digest=ZERO,
        source="docker://r/vllm:v1",
        reference="r/vllm:v1",
        manifest=blob,
        config=blob,
        layers=(),
        environment={"TORCH_CUDA_ARCH_LIST": ARCHITECTURES} if env is None else env,
        engine=engine_facts(contents.read_image(read)),
    )


def lock(engine: LockedImage) -> Lock:
    facts = ModelFacts.model_validate({"config": CONFIG, "tensors": [ROW]})
    needs = ModelNeeds(
        architectures=("Qwen2ForCausalLM",), model_type="qwen2", transformers_version="5.16.0", chat_template=True
    )
    files = [{"path": name, "size": 9, "sha256": "0" * 64} for name in ("config.json", "model.safetensors", "tokenizer.json")]
    model = LockedModel.model_validate({"wanted": ZERO, "source": "hf://o/m", "files": files, "facts": facts, "needs": needs})
    return Lock(
        name="t", platform="linux/amd64", accelerator="nvidia", images={"engine": engine}, models={"chat": model}, config={}
    )


def said(engine: LockedImage, target: dict[str, Any] | None = None, **args: Any) -> list[str]:
    """Every line that is said of this image before weights are fetched; refusals of the target come last."""
    made = lock(engine)
    found = [str(finding) for finding in find(made, [Service("chat", "chat", "chat", args)])]
    manifest = parts.manifest(models={"chat": {"source": "hf://o/m"}}).model_copy(
        update={"target": Target(**target) if target else None}
    )
    entry = {"name": "m", "path": "chat", "type": "chat", "port": 8001, "gpu_memory_utilization": 0.9, "max_model_len": 2048}
    models = json.dumps({"models": {"chat": {**entry, "tensor_parallel_size": 1, "dtype": "auto"}}}).encode()
    settings = check_services({"models.json": models, "vllm_config.yaml": b""}, ["chat"], "nvidia").settings
    try:
        return [*found, *check_target(manifest, made, settings)]
    except SpecError as error:
        return [*found, *(line for line in str(error).splitlines() if line.startswith("NO: "))]


L40S: dict[str, Any] = {"gpus": "NVIDIA L40S"}
RTX: dict[str, Any] = {"gpus": "NVIDIA GeForce RTX 4090"}
FAULTS: dict[str, tuple[LockedImage, dict[str, Any] | None, dict[str, Any], str]] = {
    "cubins of another version": (
        image({"flashinfer-cubin": "0.6.13"}),
        *(L40S, {}, "has flashinfer-cubin 0.6.13 beside flashinfer-python 0.7.2: its kernels are ignored and fetched"),
    ),
    "cache of another version": (
        image({"flashinfer-jit-cache": "0.7.1+cu130"}),
        *(L40S, {}, "has flashinfer-jit-cache 0.7.1 beside flashinfer-python 0.7.2"),
    ),
    "no cubins": (
        image({"flashinfer-cubin": None}),
        L40S,
        {},
        "no flashinfer-cubin: kernels may be fetched at the first start",
    ),
    "no vLLM of this architecture": (
        image({"vllm": "0.22.1"}, known=("LlamaForCausalLM",)),
        *(L40S, {}, "vLLM 0.22.1 of the engine image does not know the architecture Qwen2ForCausalLM"),
    ),
    "transformers older than the model's": (
        image({"transformers": "5.10.2"}),
        *(L40S, {}, "was saved by transformers 5.16.0, the engine image has 5.10.2"),
    ),
    "no vLLM": (image({"vllm": None}, known=()), L40S, {}, "images.engine: holds no vLLM -> name an image of vLLM as 'engine'"),
    "no such tool parser": (image(), L40S, {"tool_call_parser": "hermis"}, "has no 'hermis' -> did you mean 'hermes'?"),
    "no such reasoning parser": (image(), L40S, {"reasoning_parser": "qwen"}, "has no 'qwen' -> did you mean 'qwen3'?"),
    "CUDA too new for the driver": (
        image(),
        *({**RTX, "driver": 570}, {}, "has driver 570, the engine image's CUDA 13 needs 580 -> update the driver"),
    ),
    "CUDA too new, by its torch": (
        image({"nvidia-cuda-runtime": None, "torch": "2.14.0+cu130"}),
        *({**RTX, "driver": 570}, {}, "has driver 570, the engine image's CUDA 13 needs 580 -> update the driver"),
    ),
    "CUDA newer than a data centre's driver": (
        image(),
        *({**L40S, "driver": 570}, {}, "has driver 570, the engine image's CUDA 13 needs 580 -> update the driver"),
    ),
    "no kernels for the card": (
        image(env={"TORCH_CUDA_ARCH_LIST": "9.0 10.0"}),
        *(L40S, {}, "compute capability 8.9, the engine image's kernels are for 9.0, 10.0 -> use another GPU, or an engine"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_engine_image_with_one_fault_is_found_before_weights_are_fetched(fault: str) -> None:
    engine, target, args, text = FAULTS[fault]
    (line,) = said(engine, target, **args)
    assert text in line and " -> " in line


@pytest.mark.parametrize(
    ("engine", "target"),
    [
        (image(), {**L40S, "driver": 580}),
        (image(), {"gpus": "NVIDIA GeForce RTX 3090", "driver": 580}),  # kernels for 8.0 run on 8.6
        (image(), {"gpus": "NVIDIA H200"}),
        (image(), {"gpus": "NVIDIA GB10"}),  # 12.1: of the family of 12.0
        (image({"nvidia-cuda-runtime": "12.9.79"}), {**RTX, "driver": 535}),
        (image(env={"TORCH_CUDA_ARCH_LIST": "8.0+PTX"}), {"gpus": "NVIDIA B200"}),
        (image(env={"TORCH_CUDA_ARCH_LIST": "Hopper Blackwell"}), L40S),  # of a form that is not known nothing is said
        (image({"flashinfer-cubin": None}, cut=True), L40S),  # not read to its end: it may be there
        (image({name: None for name in VERSIONS if name.startswith("flashinfer")}), L40S),
    ],
)
def test_nothing_is_said_of_an_image_that_serves(engine: LockedImage, target: dict[str, Any]) -> None:
    assert said(engine, target) == []


def test_arch_specific_kernels_run_on_their_own_card_alone() -> None:
    hopper = image(env={"TORCH_CUDA_ARCH_LIST": "9.0a"})
    assert said(hopper, {"gpus": "NVIDIA H200"}) == []
    assert "kernels are for 9.0a" in said(hopper, {"gpus": "NVIDIA B200"})[0]


def test_an_image_is_told_in_a_line_and_whole() -> None:
    engine = image()
    assert summary(engine) == (
        "vLLM 0.33.0, CUDA 13.0.96, torch 2.14.0, transformers 5.17.0, triton 3.8.0, kernels 0.12.1, flashinfer 0.7.2 (cubins "
        "0.7.2, cache 0.7.2+cu130), kernels for 8.0 8.9 9.0a 10.0 12.0+PTX, 2 architectures, 2 tool-call and 1 reasoning "
        "parsers"
    )
    whole = describe(engine)
    assert whole is not None and whole["facts"]["packages"] == VERSIONS and whole["kernels"] == ARCHITECTURES.split()
    assert "(cubins none, cache 0.7.2+cu130)" in summary(image({"flashinfer-cubin": None}))
    assert "(cubins not seen, cache" in summary(image({"flashinfer-cubin": None}, cut=True))
    unread = engine.model_copy(update={"engine": None, "environment": {"CUDA_VERSION": "12.8.1"}})
    assert summary(unread) == "CUDA 12.8.1" and summary(None) == "" and describe(None) is None


def test_a_lock_with_these_facts_reads_as_it_was_written() -> None:
    made = lock(image())
    assert Lock.model_validate(json.loads(made.text())) == made
