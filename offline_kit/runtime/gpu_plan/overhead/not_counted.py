"""What a plan says that it does not count: settings that move memory and that no formula here covers.

Rules: a setting is either computed or named here, never passed over; a note says what to do about it where something can be
done.
"""

from __future__ import annotations

from typing import Any, Callable, Iterator, List, Sequence, Tuple

from ..architecture import Architecture
from ..arguments import Arguments, as_object
from ..tensor_table import Row
from ..weight_memory import DTYPE_BYTES, ONLINE
from .drafts import draft_folder, speculation

# argument -> (whether its value moves memory, what is said). Those that are computed are not here.
_NAMED: Tuple[Tuple[str, Callable[[Any], bool], str], ...] = (
    ("kv-offloading-size", bool, "the host's memory for offloaded KV blocks"),
    ("kv-transfer-config", bool, "buffers of the KV connector"),
    ("enable-dbo", bool, "the second half of a batch that dual batch overlap keeps"),
    ("enable-eplb", bool, "copies of experts that load balancing makes"),
    ("prefill-context-parallel-size", lambda value: value != 1, "prefill context parallelism"),
    ("mm-encoder-attn-backend", bool, "another attention backend of the tower"),
    ("load-format", lambda value: value in ("dummy", "runai_streamer", "tensorizer", "gguf"), "the loader's own buffers"),
    ("model-loader-extra-config", bool, "the loader's own buffers"),
    ("kv-cache-dtype-skip-layers", bool, "layers that keep another KV dtype"),
    ("additional-config", bool, "what additional_config changes"),
    ("hf-overrides", bool, "what hf_overrides changes, the length apart"),
)

KNOWN_KV = ("fp8", "int8", "int4_per_token_head", "nvfp4")  # engine_memory.kv_size


def notes(arch: Architecture, tensors: Sequence[Row], args: Arguments, *, exact: bool, draft: bool) -> List[str]:
    """What is not counted for one engine, a sentence each."""
    return [
        *_weights(tensors, exact=exact),
        *_dtypes(arch, args),
        *_drafts(args, known=draft),
        *_parallel(args),
        *_graphs(args),
        *_vision(arch, args),
        *_named(args),
    ]


def _weights(tensors: Sequence[Row], *, exact: bool) -> Iterator[str]:
    if not exact:
        yield "its weights are no safetensors: their bytes are those of the file"
    if not tensors:
        yield "nothing is known of its weights: they are counted as 0"


def _dtypes(arch: Architecture, args: Arguments) -> Iterator[str]:
    online = str(args.given.get("quantization") or "")
    if online and not arch.quantization and online not in ONLINE:
        yield f"what quantization: {online} makes of the weights is not known here: they are counted as published"
    if args.kv_dtype != "auto" and not args.kv_dtype.startswith(KNOWN_KV) and args.kv_dtype not in DTYPE_BYTES:
        yield f"the KV dtype {args.kv_dtype} is not known here: it is counted as the model's own"


def _drafts(args: Arguments, *, known: bool) -> Iterator[str]:
    if draft_folder(args.given) and not known:
        yield "the draft model of speculative_config is not counted: leave room for its weights and KV cache"
    elif draft_folder(args.given):
        yield "of the draft model its weights and KV cache are counted, its activations and graphs are not"
    if speculation(args.given) and args.pp > 1:
        yield "the KV cache of what drafts is not counted on a pipeline"


def _parallel(args: Arguments) -> Iterator[str]:
    if args.pp > 1:
        yield "layers are counted as vLLM spreads them over a pipeline: what VLLM_PP_LAYER_PARTITION changes is not"
    if args.dp > 1:
        yield "with data_parallel_size the buffers of its all-to-all are not counted"


def _graphs(args: Arguments) -> Iterator[str]:
    config = as_object(args.given.get("compilation-config"))
    if config.get("pass_config") or config.get("compile_sizes"):
        yield "the passes and sizes of compilation_config are not counted"


def _vision(arch: Architecture, args: Arguments) -> Iterator[str]:
    if arch.vision is None or args.pooling or not args.takes_images:
        return
    limits = as_object(args.given.get("limit-mm-per-prompt"))
    if any(isinstance(limit, dict) for limit in limits.values()):
        yield "sizes in limit_mm_per_prompt are not counted: one image of the largest size is"
    kwargs = as_object(args.given.get("mm-processor-kwargs"))
    if set(kwargs) - {"max_pixels", "min_pixels", "size"}:
        yield "mm_processor_kwargs are not counted but for max_pixels and size"
    if args.on("skip-mm-profiling"):
        yield "skip_mm_profiling leaves what looking at an image takes out of vLLM's own count: it is counted here"


def _named(args: Arguments) -> Iterator[str]:
    for name, moves, what in _NAMED:
        if name in args.given and moves(args.given[name]):
            yield f"not counted: {what} ({name.replace('-', '_')})"
