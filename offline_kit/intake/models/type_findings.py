"""What a model's configuration, and the type of its service, ask for that is not there.

Rules: said from what was read when the model was locked (``ModelNeeds``); vLLM's rules are those of 0.33.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from offline_kit.intake.models.engine_findings import OTHER_FORM, Finding
from offline_kit.intake.models.service import Service
from offline_kit.spec.lock import LockedModel
from offline_kit.spec.lock_facts import ModelNeeds

_PROCESSORS = ("preprocessor_config.json", "processor_config.json", "params.json")
_CLASSIFIERS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ClassificationModel",
    "RewardModel",
    "ForRewardModeling",
)
_ENCODERS = (
    "Bert",
    "Roberta",
    "XLMRoberta",
    "DistilBert",
    "ModernBert",
    "NomicBert",
    "DebertaV2",
    "Electra",
    "MPNet",
    "Albert",
)
_PAIRS = ("CLIPModel", "SiglipModel", "Siglip2Model")  # texts and images as vectors
_FOREIGN = ("mlx", "exl2", "exl3", "eetq", "quip", "vptq")  # quantised for other engines
# vllm/model_executor/layers/quantization: what config.json may name.
_QUANTISATIONS = frozenset(
    [
        "awq",
        "awq_marlin",
        "gptq",
        "gptq_marlin",
        "gptq_marlin_24",
        "gptq_bitblas",
        "bitblas",
        "fp8",
        "ptpc_fp8",
        "fbgemm_fp8",
        "fp_quant",
        "deepspeedfp",
        "tpu_int8",
        "modelopt",
        "modelopt_fp4",
        "modelopt_mxfp8",
        "modelopt_mixed",
        "compressed-tensors",
        "compressed_tensors",
        "bitsandbytes",
        "hqq",
        "experts_int8",
        "ipex",
        "quark",
        "moe_wna16",
        "torchao",
        "auto-round",
        "rtn",
        "inc",
        "mxfp4",
        "gpt_oss_mxfp4",
        "mxfp8",
        "petit_nvfp4",
        "cpu_awq",
        "cpu_gptq",
        "gguf",
        "marlin",
        "intel-neural-compressor",
        "intel/auto-round",
        "online",
        "humming",
    ]
)
HARMONY = "o200k_base.tiktoken"
# openai_harmony's own table of vocabularies (it refuses any other digest): where it fetches this one.
_HARMONY_REMEDY = (
    "carry it with the model, in the manifest: add: {o200k_base.tiktoken: {source: "
    "'https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken', "
    "sha256: 446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d}}"
)
_QWEN3_RERANKER = (
    '{"hf_overrides": {"architectures": ["Qwen3ForSequenceClassification"], "classifier_from_token": ["no", "yes"], '
    '"is_original_qwen3_reranker": true}}'
)
_TRANSLATORS = ("T5", "MT5", "UMT5", "LongT5", "SwitchTransformers", "Pegasus", "M2M100", "Blenderbot", "ProphetNet")
_INTERACTIONS = ("Col", "HF_ColBERT", "JinaForRanking")  # late interaction: they score pairs in their own way


def of_configuration(service: Service, model: LockedModel, needs: ModelNeeds) -> Iterator[Finding]:
    """What the model's own small files say that no service of it can do."""
    where, names, heads = f"{service.key} ({model.source})", [file.path for file in model.files], needs.architectures
    for name in needs.unreadable:
        yield Finding(
            name in ("config.json", "tokenizer.json"),
            where,
            f"{name} is not JSON",
            "download or copy it again, or use another revision",
        )
    if needs.max_length and service.max_model_len > needs.max_length:
        what = f"takes {needs.max_length} tokens (sentence-transformers), max_model_len is {service.max_model_len}"
        yield Finding(True, where, what, f"use {needs.max_length} or less")
    if needs.quantization in _FOREIGN:
        remedy = "take the model that it was made from, or its AWQ, GPTQ or FP8 form"
        yield Finding(True, where, f"is quantised for another engine ({needs.quantization})", remedy)
    elif needs.quantization and needs.quantization.lower() not in _QUANTISATIONS:
        what = f"is quantised by a method that vLLM does not name ({needs.quantization[:40]!r} in config.json)"
        yield Finding(False, where, what, OTHER_FORM)
    if not heads and not needs.model_type and "config.json" in names and "config.json" not in needs.unreadable:
        remedy = "use the config.json of the model that it was trained from"
        yield Finding(False, where, "its config.json names no architecture and no model_type", remedy)
    elif heads and not needs.model_type and "config.json" in names and not needs.code:
        remedy = "add the model_type of the model that it was trained from, as its config.json has it"
        yield Finding(False, where, "its config.json names no model_type: the engine does not know how to read it", remedy)
    if needs.vision and not any(name in _PROCESSORS for name in names):
        yield Finding(
            False,
            where,
            "takes images or sound and has no preprocessor_config.json",
            "add it, or check 'include' and 'exclude'",
        )
    if needs.model_type == "gpt_oss" and HARMONY not in names:
        what = f"needs the vocabulary {HARMONY}, which an engine fetches when it starts"
        yield Finding(False, where, what, _HARMONY_REMEDY)


def of_type(service: Service, model: LockedModel, needs: ModelNeeds) -> Iterator[Finding]:
    """What a service of this type needs besides."""
    where, names, heads = f"{service.key} ({model.source})", [file.path for file in model.files], needs.architectures
    yield from _not_for_chat(service, where, heads)
    if service.type == "chat" and heads and all(map(_writes_nothing, heads)) and "hf_overrides" not in service.args:
        remedy = 'serve it as "embedding" or "rerank", or carry a model that writes text'
        yield Finding(True, where, f"reads text and writes none ({heads[0]})", remedy)
    elif service.type == "chat" and not needs.chat_template and "chat_template" not in service.args and heads:
        remedy = "use its instruct form, or name a template in the manifest: chat_template: {source: file://PATH, sha256: ...}"
        yield Finding(False, where, "has no chat template: chat completions are refused (completions are answered)", remedy)
    if service.type == "embedding" and not _pools(names, heads) and "pooler_config" not in service.args and heads:
        remedy = 'add modules.json and 1_Pooling/config.json, or say engine_args: {"pooler_config": {"pooling_type": ...}}'
        yield Finding(False, where, "has no pooling configuration: vLLM takes the default of its architecture", remedy)
    if service.type == "rerank" and heads and "hf_overrides" not in service.args:
        yield from _reranker(where, model.source, heads)


def _reranker(where: str, source: str, heads: Sequence[str]) -> Iterator[Finding]:
    """A model behind rerank that does not score pairs as it is."""
    if "rerank" in source.lower() and heads[0] == "Qwen3ForCausalLM":
        what = "is a reranker in the form of a language model (Qwen3ForCausalLM): vLLM has to be told which words score"
        yield Finding(True, where, what, f"say engine_args: {_QWEN3_RERANKER}")
    elif not any(map(_scores, heads)):
        remedy = "use a cross-encoder (an architecture ...ForSequenceClassification), or know that scores are similarities"
        yield Finding(False, where, f"is a bi-encoder ({heads[0]}), without a head that scores pairs", remedy)


def _not_for_chat(service: Service, where: str, heads: Sequence[str]) -> Iterator[Finding]:
    """Models that write text, and not as an answer to a conversation."""
    if service.type != "chat" or not heads or "hf_overrides" in service.args:
        return
    if heads[0].startswith("Whisper"):
        what, remedy = (
            f"writes down speech and answers no chat ({heads[0]})",
            "carry a model of text; chat and completions refuse it",
        )
    elif heads[0].endswith("ForConditionalGeneration") and heads[0].startswith(_TRANSLATORS):
        what, remedy = (
            f"has an encoder and a decoder, which current vLLM does not serve ({heads[0]})",
            "carry a model of the kind ...ForCausalLM",
        )
    else:
        return
    yield Finding(False, where, what, remedy)


def _pools(names: Sequence[str], heads: Sequence[str]) -> bool:
    return any(name.endswith("modules.json") for name in names) or any(
        "Embedding" in head or "TextEncoding" in head for head in heads
    )


def _writes_nothing(head: str) -> bool:
    """An encoder, or a head that classifies: vLLM refuses to generate with it."""
    return head.endswith(("ForMaskedLM", *_CLASSIFIERS)) or head in _PAIRS or any(head == f"{name}Model" for name in _ENCODERS)


def _scores(head: str) -> bool:
    return head.endswith(_CLASSIFIERS) or head.startswith(_INTERACTIONS)
