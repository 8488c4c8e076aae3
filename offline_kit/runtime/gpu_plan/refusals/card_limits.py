"""What a GPU or its driver cannot do.

Rules: nothing is refused on a guess: what is not known (a GPU without a compute capability, an image without a CUDA version)
is not judged. Read from vLLM 0.32: CUDA kernels are built for compute capability 7.5 and later (vllm-openai images), bfloat16
needs 8.0 (``platforms/cuda.py`` supported_dtypes), quantised weights what ``layers/quantization/*.py`` get_min_capability
says; no backend of sparse MLA serves what is older than 9.0 (``platforms/cuda.py`` _get_backend_priorities,
supports_compute_capability of ``v1/attention/backends/mla/``); KV dtypes: see ``kv_dtypes``. An image with CUDA 13 needs driver
580, with CUDA 12 driver 525 (NVIDIA's compatibility table, minor versions included); for data-centre cards NVIDIA ships forward
compatibility, with which an older driver may do: that is a warning, and the CUDA test on the host decides. Kernels are those
that the image itself names (TORCH_CUDA_ARCH_LIST).
"""

from __future__ import annotations

import re
from typing import Iterator, Optional, Sequence, Tuple

from ...settings.model import MODELS_JSON, Mistake, Model
from ..architecture import Architecture
from ..arguments import Arguments
from ..gpus import Gpu
from .kv_dtypes import kv_dtype_limits

OLDEST = (7, 5)
SPARSE = (9, 0)
# get_min_capability; fp8 and MXFP4 fall back to weight-only kernels on cards without the type.
QUANTIZATION = {"awq": (7, 5), "gptq": (6, 0), "fp8": (7, 5), "compressed-tensors": (7, 0), "mxfp4": (8, 0), "modelopt": (8, 0)}
# An entry of TORCH_CUDA_ARCH_LIST; f: of one family, a: of one card.
_KERNEL = re.compile(r"([0-9]{1,2})\.([0-9])([af]?)(\+PTX)?")
DRIVERS = {13: 580, 12: 525, 11: 450}
# docs.nvidia.com/deploy/cuda-compatibility, forward compatibility: data-centre GPUs (and select RTX, which are not judged).
_DATA_CENTRE = re.compile(r"\b(?:Tesla|[ABHLTV][0-9]{1,3}[SG]?|GB[23]00|GH200)\b")


def card_limits(model: Model, arch: Architecture, args: Arguments, gpu: Gpu, cuda: Optional[int]) -> Iterator[Mistake]:
    """Why ``gpu`` cannot run ``model``."""
    if gpu.driver is not None and not is_data_centre(gpu):
        yield from driver_limits(gpu, cuda)
    if gpu.capability is None:
        return
    field, have = f"models.{model.key}", f"GPU {gpu.id} ({gpu.name}) has compute capability {_dotted(gpu.capability)}"
    quantization = str(args.given.get("quantization") or arch.quantization)
    needed = QUANTIZATION.get(quantization, OLDEST)
    if gpu.capability < OLDEST:
        yield Mistake(MODELS_JSON, field, f"{have}, vLLM's kernels start at 7.5", "use a newer GPU")
    elif gpu.capability < needed:
        what = f"{have}, {quantization} weights need {_dotted(needed)}"
        yield Mistake(MODELS_JSON, field, what, "use a newer GPU, or other weights")
    if gpu.capability < (8, 0) and model.dtype == "bfloat16":
        yield Mistake(MODELS_JSON, f"{field}.dtype", f"{have}, bfloat16 needs 8.0", "use float16")
    if arch.sparse and gpu.capability < SPARSE:
        what = f"{have}, sparse attention (DeepSeek-V3.2, GLM-5) needs {_dotted(SPARSE)}"
        yield Mistake(MODELS_JSON, field, what, "use a newer GPU, or another model")
    for what, remedy in kv_dtype_limits(arch, args, gpu.capability):
        yield Mistake(MODELS_JSON, f"{field}.engine_args", f"{have}, {what}", remedy)


def kernel_limits(model: Model, gpu: Gpu, kernels: Sequence[str]) -> Iterator[Mistake]:
    """A card for which the image has no kernels; those for 8.0 run on 8.6, those for 9.0a on 9.0 alone."""
    built = [_KERNEL.fullmatch(item) for item in kernels]
    if gpu.capability is None or not built or not all(built):
        return
    if not any(_runs_on(match, gpu.capability) for match in built if match):
        what = f"GPU {gpu.id} ({gpu.name}) has compute capability {_dotted(gpu.capability)}, the engine image's kernels"
        remedy = "use another GPU, or an engine image that was built for this one"
        yield Mistake(MODELS_JSON, f"models.{model.key}", f"{what} are for {', '.join(kernels)}", remedy)


def _runs_on(kernel: "re.Match[str]", capability: Tuple[int, int]) -> bool:
    built = int(kernel[1]), int(kernel[2])
    if kernel[4] and capability >= built:  # with its source (PTX), the driver makes kernels for newer cards
        return True
    return capability == built if kernel[3] == "a" else capability[0] == built[0] and capability >= built


def driver_limits(gpu: Gpu, cuda: Optional[int]) -> Iterator[Mistake]:
    """A driver that is older than the image's CUDA."""
    needed = DRIVERS.get(cuda or 0)
    if gpu.driver is not None and needed is not None and gpu.driver < needed:
        what = f"GPU {gpu.id} has driver {gpu.driver}, the engine image's CUDA {cuda} needs {needed}"
        yield Mistake("engine image", "", what, "update the driver, or build with an image of an older CUDA")


def is_data_centre(gpu: Gpu) -> bool:
    """Whether NVIDIA ships forward compatibility for it."""
    return "RTX" not in gpu.name and "GeForce" not in gpu.name and _DATA_CENTRE.search(gpu.name) is not None


def _dotted(capability: "tuple[int, int]") -> str:
    return f"{capability[0]}.{capability[1]}"
