"""What vLLM refuses because of the model: numbers that do not divide, lengths that it was not made for.

Rules: one line a reason, in words that name the number to change. Read from vLLM 0.32: heads % TP = 0 (``config/model.py``
verify_with_parallel_config); KV heads % TP = 0 or TP % KV heads = 0 (model files); layers >= PP (``distributed/utils.py``
get_pp_indices); ranks of decode context parallelism that are no part of TP, or more than KV heads are replicated
(``config/parallel.py``, ``config/model.py``); max_model_len above what the model was made for (``context_length``), unless rope
is scaled by hand; a batch smaller than max_num_seqs, or, where prompts are not cut, than max_model_len
(``config/scheduler.py`` verify_max_model_len); a KV dtype that only sparse MLA has (``v1/attention/backends/mla``);
mamba_cache_mode "all", which 0.32 dropped (``config/cache.py`` MambaCacheMode); a max_lora_rank that is none of those for which
kernels are made (``config/lora.py`` MaxLoRARanks).
"""

from __future__ import annotations

from typing import Any, Iterator, Mapping

from ...settings.model import MODELS_JSON, Mistake, Model
from ..architecture import Architecture
from ..arguments import Arguments

LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def model_limits(model: Model, arch: Architecture, args: Arguments) -> Iterator[Mistake]:
    """What of the model's own numbers speaks against starting it."""
    field, stages = f"models.{model.key}", args.pp
    yield from _heads(model, arch)
    if arch.layers and stages > len(arch.layers):
        what = f"{stages} stages for {len(arch.layers)} layers"
        yield Mistake(MODELS_JSON, f"{field}.engine_args.pipeline-parallel-size", what, "use fewer")
    yield from _context_ranks(model, arch, args)
    yield from _cache_arguments(field, arch, args)
    yield from _batch(field, model, arch, args)
    if args.on("enable-lora") and (rank := args.integer("max-lora-rank", 16)) not in LORA_RANKS:
        known = ", ".join(str(size) for size in LORA_RANKS)
        yield Mistake(MODELS_JSON, f"{field}.engine_args.max-lora-rank", f"vLLM has none of {rank}", f"use one of {known}")
    longest = arch.rope_scaling.longest(arch.longest, args.vllm)
    if longest and model.max_model_len > longest and not _is_scaled_by_arguments(args.given):
        what = f"{model.max_model_len} is more than the {longest} tokens that the model was made for"
        yield Mistake(MODELS_JSON, f"{field}.max_model_len", what, f"use at most {longest}")


def _heads(model: Model, arch: Architecture) -> Iterator[Mistake]:
    tp, field = model.tensor_parallel_size, f"models.{model.key}.tensor_parallel_size"
    if arch.heads and arch.heads % tp:
        near = ", ".join(str(size) for size in (1, 2, 4, 8) if arch.heads % size == 0)
        yield Mistake(MODELS_JSON, field, f"{tp} does not divide its {arch.heads} attention heads", f"use one of {near}")
    elif not arch.latent and arch.kv_heads and arch.kv_heads % tp and tp % arch.kv_heads:
        what = f"{tp} GPUs cannot share its {arch.kv_heads} KV heads evenly"
        yield Mistake(MODELS_JSON, field, what, f"use a divisor or multiple of {arch.kv_heads}")


def _context_ranks(model: Model, arch: Architecture, args: Arguments) -> Iterator[Mistake]:
    ranks, tp = args.integer("decode-context-parallel-size", 1), args.tp
    field = f"models.{model.key}.engine_args.decode-context-parallel-size"
    if tp % ranks:
        yield Mistake(MODELS_JSON, field, f"{ranks} does not divide tensor_parallel_size ({tp})", "leave it out")
    elif ranks > 1 and not arch.latent and arch.kv_heads and ranks > tp // arch.kv_heads:
        what = f"{ranks} is more than {tp} GPUs hold copies of its {arch.kv_heads} KV heads"
        yield Mistake(MODELS_JSON, field, what, "leave it out, or use more GPUs (tensor_parallel_size)")


def _cache_arguments(field: str, arch: Architecture, args: Arguments) -> Iterator[Mistake]:
    if args.kv_dtype == "fp8_ds_mla" and not arch.latent:
        what = "fp8_ds_mla holds the rows of sparse MLA (DeepSeek-V3.2, GLM-5), and this model has none"
        yield Mistake(MODELS_JSON, f"{field}.engine_args.kv-cache-dtype", what, "use fp8, or leave it out")
    if args.given.get("mamba-cache-mode") == "all" and args.vllm.known and args.vllm.version >= (0, 32):
        what = f"vLLM {args.vllm} has no mamba_cache_mode 'all' (align and none)"
        yield Mistake(MODELS_JSON, f"{field}.engine_args.mamba-cache-mode", what, "leave it out")


def _batch(field: str, model: Model, arch: Architecture, args: Arguments) -> Iterator[Mistake]:
    # A number that is not told follows the other (engine/arg_utils.py _set_default_max_num_seqs_and_batched_tokens_args).
    tokens = args.integer("max-num-batched-tokens", 0)
    if not tokens:
        return
    where, sequences = f"{field}.engine_args.max-num-batched-tokens", args.integer("max-num-seqs", 0)
    whole = arch.encoder or args.given.get("enable-chunked-prefill") is False
    if tokens < sequences:
        yield Mistake(MODELS_JSON, where, f"{tokens} is less than max_num_seqs ({sequences})", f"use at least {sequences}")
    elif whole and tokens < model.max_model_len:
        what = f"{tokens} is less than max_model_len ({model.max_model_len}), and this engine takes a prompt whole"
        yield Mistake(MODELS_JSON, where, what, f"use at least {model.max_model_len}")


def _is_scaled_by_arguments(given: Mapping[str, Any]) -> bool:
    return bool(given.get("hf-overrides") or given.get("rope-scaling"))
