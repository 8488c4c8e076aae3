"""What vLLM refuses for other reasons than memory, and what a GPU or driver cannot do.

Rules: one line a reason, in words that name the number to change; nothing is refused on a guess: what is not known (a GPU
without a compute capability, an image without a CUDA version) is not judged. Read from vLLM 0.32:

- heads % TP = 0 (``config/model.py`` verify_with_parallel_config); KV heads % TP = 0 or TP % KV heads = 0 (model files);
- layers >= PP (``distributed/utils.py`` get_pp_indices);
- CUDA kernels are built for compute capability 7.5 and later (vllm-openai images), bfloat16 needs 8.0
  (``platforms/cuda.py`` supported_dtypes), an fp8 KV cache 8.9, quantised weights what
  ``layers/quantization/*.py`` get_min_capability says;
- max_model_len above what the model was made for (``config/model.py`` _get_and_verify_max_len), unless rope is scaled by hand;
- an image with CUDA 13 needs driver 580, with CUDA 12 driver 525 (NVIDIA's compatibility table, minor versions included).
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from .demand import Facts
from .gpus import Gpu
from .records import MODELS_JSON, Mistake, Model, Settings
from .serve import merged

OLDEST = (7, 5)
# get_min_capability; fp8 and MXFP4 fall back to weight-only kernels on cards without the type.
QUANTIZATION = {"awq": (7, 5), "gptq": (6, 0), "fp8": (7, 5), "compressed-tensors": (7, 0), "mxfp4": (8, 0), "modelopt": (8, 0)}
DRIVERS = {13: 580, 12: 525, 11: 450}


def refusals(model: Model, settings: Settings, facts: Facts, gpus: Tuple[Gpu, ...], cuda: Optional[int]) -> List[Mistake]:
    """Why vLLM would not start ``model`` on ``gpus``, memory aside. ``cuda``: major version of the image."""
    arguments, arch, tp = merged(settings, model), facts.arch, model.tensor_parallel_size
    field = f"models.{model.key}"
    found: List[Mistake] = []
    if arch.heads and arch.heads % tp:
        what = f"{tp} does not divide its {arch.heads} attention heads"
        near = ", ".join(str(size) for size in (1, 2, 4, 8) if arch.heads % size == 0)
        found.append(Mistake(MODELS_JSON, f"{field}.tensor_parallel_size", what, f"use one of {near}"))
    elif arch.kv_heads and arch.kv_heads % tp and tp % arch.kv_heads:
        what = f"{tp} GPUs cannot share its {arch.kv_heads} KV heads evenly"
        found.append(
            Mistake(MODELS_JSON, f"{field}.tensor_parallel_size", what, f"use a divisor or multiple of {arch.kv_heads}")
        )
    stages = arguments.get("pipeline-parallel-size", 1)
    if isinstance(stages, int) and arch.layers and stages > len(arch.layers):
        what = f"{stages} stages for {len(arch.layers)} layers"
        found.append(Mistake(MODELS_JSON, f"{field}.engine_args.pipeline-parallel-size", what, "use fewer"))
    if arch.longest and model.max_model_len > arch.longest and not _stretched(arguments):
        what = f"{model.max_model_len} is more than the {arch.longest} tokens that the model was made for"
        found.append(Mistake(MODELS_JSON, f"{field}.max_model_len", what, f"use at most {arch.longest}"))
    for gpu in gpus:
        found += _card(model, arguments, facts, gpu, cuda)
        if found:
            break
    return found


def _card(model: Model, arguments: Mapping[str, Any], facts: Facts, gpu: Gpu, cuda: Optional[int]) -> List[Mistake]:
    field, found = f"models.{model.key}", []
    if gpu.driver is not None and cuda in DRIVERS and gpu.driver < DRIVERS[cuda]:
        what = f"GPU {gpu.id} has driver {gpu.driver}, the engine image's CUDA {cuda} needs {DRIVERS[cuda]}"
        found.append(Mistake("engine image", "", what, "update the driver, or build with an image of an older CUDA"))
    if gpu.capability is None:
        return found
    have = f"GPU {gpu.id} ({gpu.name}) has compute capability {gpu.capability[0]}.{gpu.capability[1]}"
    quantization = str(arguments.get("quantization") or facts.arch.quantization)
    needed = QUANTIZATION.get(quantization, OLDEST)
    if gpu.capability < OLDEST:
        found.append(Mistake(MODELS_JSON, field, f"{have}, vLLM's kernels start at 7.5", "use a newer GPU"))
    elif gpu.capability < needed:
        what = f"{have}, {quantization} weights need {needed[0]}.{needed[1]}"
        found.append(Mistake(MODELS_JSON, field, what, "use a newer GPU, or other weights"))
    dtype = facts.arch.dtype if model.dtype == "auto" else model.dtype
    if gpu.capability < (8, 0) and dtype == "bfloat16" and model.dtype != "auto":
        found.append(Mistake(MODELS_JSON, f"{field}.dtype", f"{have}, bfloat16 needs 8.0", "use float16"))
    if gpu.capability < (8, 9) and str(arguments.get("kv-cache-dtype", "")).startswith("fp8"):
        found.append(
            Mistake(MODELS_JSON, f"{field}.engine_args", f"{have}, an fp8 KV cache needs 8.9", "leave kv_cache_dtype out")
        )
    return found


def _stretched(arguments: Mapping[str, Any]) -> bool:
    return bool(arguments.get("hf-overrides") or arguments.get("rope-scaling"))
