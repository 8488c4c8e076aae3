"""What an engine image lacks, for itself and for a service.

Rules: said only of what was read; a package that was not seen is absent only where every layer was read.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from offline_kit.spec.lock_facts import EngineFacts, ModelNeeds

# vllm/config/model.py, _SUFFIX_TO_DEFAULTS: a model of one suffix is converted from that of another.
_SUFFIXES = (
    *("ForCausalLM", "ForConditionalGeneration", "ChatModel", "LMHeadModel", "ForTextEncoding", "EmbeddingModel"),
    *("ForSequenceClassification", "ForTokenClassification", "ForAudioClassification", "ForImageClassification"),
    *("ForVideoClassification", "ClassificationModel", "ForRewardModeling", "RewardModel", "Model"),
)
OTHER_FORM = "try it before it travels, or take its AWQ, GPTQ, FP8 or compressed-tensors form"
# config/model.py and layers/quantization/inc: what config.json says -> what vLLM makes of it.
_QUANTISATIONS = {"compressed_tensors": "compressed-tensors", "auto-round": "inc", "intel/auto-round": "inc"}
_ONCE = (
    "bitsandbytes",
    "gguf",
    "hqq",
    "marlin",
    "gptq_marlin_24",
    "bitblas",
    "gptq_bitblas",
    "deepspeedfp",
    "tpu_int8",
    "ipex",
)
_ON_DEMAND = ("fbgemm_fp8", "fp_quant")  # DEPRECATED_QUANTIZATION_METHODS
_KERNELS = ("flashinfer-cubin", "flashinfer-jit-cache")


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against serving; ``refused``: no engine can start with it."""

    refused: bool
    where: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} -> {self.remedy}"


def of_image(engine: EngineFacts | None, accelerator: str) -> Iterator[Finding]:
    """What is wrong with the image whatever it serves."""
    if engine is None:
        return
    if "vllm" not in engine.packages:
        if engine.whole:
            yield Finding(False, "images.engine", "holds no vLLM", "name an image of vLLM as 'engine'")
        return
    flashinfer = engine.packages.get("flashinfer-python")
    if accelerator != "nvidia" or flashinfer is None:
        return
    present = {name: _plain(engine.packages[name]) for name in _KERNELS if name in engine.packages}
    for name, version in present.items():
        if version != _plain(flashinfer):
            what = (
                f"has {name} {version} beside flashinfer-python {flashinfer}: its kernels are ignored and fetched at the start"
            )
            yield Finding(False, "images.engine", what, "install the same version of both in the image")
    if engine.whole and "flashinfer-cubin" not in present:
        what = f"has flashinfer-python {flashinfer} and no flashinfer-cubin: kernels may be fetched at the first start"
        remedy = "run 'flashinfer download-cubin' when the image is made, or choose another attention backend in engine_args"
        yield Finding(False, "images.engine", what, remedy)


def of_service(key: str, args: Mapping[str, Any], needs: ModelNeeds | None, engine: EngineFacts | None) -> Iterator[Finding]:
    """What this engine cannot do for the service ``key``."""
    if engine is None:
        return
    version = engine.packages.get("vllm", "")
    for argument, known in (("tool_call_parser", engine.tool_parsers), ("reasoning_parser", engine.reasoning_parsers)):
        if args.get(argument) and known and args[argument] not in known:
            near = difflib.get_close_matches(str(args[argument]), known, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
            yield Finding(True, f"{key}: engine_args.{argument}", f"vLLM {version} has no '{args[argument]}'", remedy)
    if needs is None:
        return
    own = bool(needs.code) or "model_impl" in args or "hf_overrides" in args
    if (
        needs.architectures
        and engine.architectures
        and not any(knows(engine, name) for name in needs.architectures)
        and not own
    ):
        near = difflib.get_close_matches(needs.architectures[0], engine.architectures, n=1)
        remedy = "use a newer engine image" + (f", or a model of {near[0]}, the nearest that it knows" if near else "")
        remedy += '; where Transformers has the model, say engine_args: {"model_impl": "transformers"}'
        what = f"vLLM {version} of the engine image does not know the architecture {needs.architectures[0]}"
        yield Finding(True, key, what, remedy)
    familiar = not engine.architectures or any(knows(engine, name) for name in needs.architectures)
    if needs.code and not args.get("trust_remote_code") and not familiar:
        remedy = 'read that code, then say engine_args: {"trust_remote_code": true}'
        yield Finding(False, key, f"vLLM {version} does not know {_first(needs)}, and may not run the model's own code", remedy)
    yield from _quantization(key, args, needs, engine)
    transformers = engine.packages.get("transformers", "")
    if transformers and _release(needs.transformers_version) > _release(transformers):
        what = f"was saved by transformers {needs.transformers_version}, the engine image has {transformers}"
        yield Finding(False, key, what, "try it before it travels, or use a newer engine image")


def _quantization(key: str, args: Mapping[str, Any], needs: ModelNeeds, engine: EngineFacts) -> Iterator[Finding]:
    """Weights in a form that this vLLM no longer, or not yet, loads ("Unknown quantization method", config/model.py)."""
    method = needs.quantization.lower()
    if not engine.quantizations or not method or "quantization" in args:
        return
    if _QUANTISATIONS.get(method, method) in engine.quantizations:
        return
    what = f"vLLM {engine.packages.get('vllm', '')} of the engine image does not load weights quantised as {method}"
    if method in _ON_DEMAND:
        if not args.get("allow_deprecated_quantization"):
            yield Finding(True, key, f"{what} unless it is told to", 'say engine_args: {"allow_deprecated_quantization": true}')
    elif method in _ONCE:
        yield Finding(True, key, what, "use an older engine image, or take its AWQ, GPTQ, FP8 or compressed-tensors form")


def of_forms(key: str, names: Collection[str], args: Mapping[str, Any], engine: EngineFacts | None) -> Iterator[Finding]:
    """Files that this vLLM reads with a package which the image does not hold."""
    if engine is None or not engine.whole:
        return
    version = engine.packages.get("vllm", "")
    core = not engine.quantizations or "gguf" in engine.quantizations
    if args.get("load_format") == "gguf" and not core and "vllm-gguf-plugin" not in engine.packages:
        what = f"vLLM {version} reads GGUF with vllm-gguf-plugin alone, which the engine image does not hold"
        yield Finding(True, key, what, "install it in the image, or take the repository that the file was made from")
    if "params.json" in names and "config.json" not in names and "mistral-common" not in engine.packages:
        what = "is in Mistral's own form (params.json), and the engine image does not hold mistral-common"
        yield Finding(True, key, what, "install it in the image, or carry the form with config.json")


def of_draft(key: str, draft: ModelNeeds, engine: EngineFacts | None) -> Iterator[Finding]:
    """A drafter of an architecture that this vLLM does not name."""
    if engine is None or not engine.architectures or not draft.architectures:
        return
    name = draft.architectures[0]
    # What a drafter is called in its repository, vLLM calls by its method (transformers_utils/configs/eagle.py).
    if not any(knows(engine, candidate) for candidate in (name, f"Eagle{name}", f"Eagle3{name}")):
        what = f"the drafter's architecture {name} is not one that vLLM {engine.packages.get('vllm', '')} names"
        yield Finding(False, f"{key}: engine_args.speculative_config", what, "start it before it travels, or draft with ngram")


def knows(engine: EngineFacts, architecture: str) -> bool:
    """Whether vLLM's registry has the architecture, or one that it is converted from."""
    if architecture in engine.architectures:
        return True
    suffix = next((item for item in _SUFFIXES if architecture.endswith(item)), None)
    if suffix is None:
        return False
    stem = architecture[: -len(suffix)]
    return any(stem + other in engine.architectures for other in _SUFFIXES)


def _first(needs: ModelNeeds) -> str:
    return needs.architectures[0] if needs.architectures else needs.model_type or "its architecture"


def _plain(version: str) -> str:
    """Without the local part: cubins of 0.6.11+cu130 are those of 0.6.11."""
    return version.partition("+")[0]


def _release(version: str) -> tuple[int, ...]:
    """Major and minor number; patch releases read each other's files."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
