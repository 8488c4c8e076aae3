"""Engines whose weights are not known: no plan can say that they start.

Rules: a doubt, never a refusal; known are safetensors whose headers were read, in a form that vLLM loads as it is stored
(``layers/quantization/__init__.py`` QUANTIZATION_METHODS of 0.32) or makes of them as it loads.
"""

from __future__ import annotations

from typing import Iterator

from ...settings.model import MODELS_JSON, Mistake, Model
from ..arguments import Arguments
from ..engine_memory import Facts
from ..overhead.drafts import draft_folder
from ..tensor_table import WHOLE_FILE
from ..weight_memory import ONLINE

AS_STORED = (
    *("awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "fp8", "fbgemm_fp8", "compressed-tensors"),
    *("modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "quark", "mxfp4", "gpt_oss_mxfp4", "moe_wna16"),
    *("inc", "auto-round", "torchao", "bitsandbytes", "deepseek_v4_fp8", "humming", "experts_int8"),
)
REMEDY = "start it on such a card before it travels, or take a form with safetensors"


def unknown_weights(model: Model, known: Facts, args: Arguments) -> Iterator[Mistake]:
    """One line a reason why the weights of ``model`` are not known."""
    field, online = f"models.{model.key}.path", str(args.given.get("quantization") or "")
    if not known.tensors:
        what = "nothing is known of its weights (no headers of safetensors), they are counted as 0"
        yield Mistake(MODELS_JSON, field, what, REMEDY)
    elif any(row["dtype"] == WHOLE_FILE for row in known.tensors):
        what = "its weights are no safetensors: they are counted as the size of their files"
        yield Mistake(MODELS_JSON, field, what, REMEDY)
    elif known.arch.quantization and known.arch.quantization not in AS_STORED:
        what = f"what vLLM makes of weights that are quantised as {known.arch.quantization} is not known"
        yield Mistake(MODELS_JSON, field, what, REMEDY)
    elif online and not known.arch.quantization and online not in ONLINE:
        what = f"what quantization: {online} makes of the weights is not known: they are counted as published"
        yield Mistake(MODELS_JSON, f"models.{model.key}.engine_args.quantization", what, REMEDY)
    if (folder := draft_folder(args.given)) and known.draft is None:
        what = f"nothing is known of the draft '{folder}': its weights and KV cache are not counted"
        yield Mistake(MODELS_JSON, f"models.{model.key}.engine_args.speculative-config", what, "carry it as a model of the kit")
