"""What keeps a model from being served, told before its weights are fetched.

Rules: a finding is refused where no engine can start with it, warned of where only somebody who knows the model can tell; each
has its remedy; nothing is said of what is not known (a lock of an earlier version, an engine image that was not read). Each
service is held against its model's files and needs, and against the engine image. vLLM's rules are those of 0.33:
``config/model.py`` (suffixes of architectures), ``transformers_utils/repo_utils.py`` (forms of weights).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from offline_kit.intake.models import adapter_findings, engine_findings, file_findings
from offline_kit.intake.models.engine_findings import Finding
from offline_kit.spec.lock import Lock, LockedFile, LockedModel, ModelNeeds

__all__ = ["Finding", "Service", "find"]

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
_TRANSLATORS = ("T5", "MT5", "UMT5", "LongT5", "SwitchTransformers", "Pegasus", "M2M100", "Blenderbot", "ProphetNet")
_INTERACTIONS = ("Col", "HF_ColBERT", "JinaForRanking")  # late interaction: they score pairs in their own way


@dataclass(frozen=True)
class Service:
    """One model as models.json serves it; ``args``: its engine arguments over the common ones, in snake case."""

    key: str
    folder: str
    type: str
    args: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The key of the model in the manifest; ``folder`` may lie below it."""
        return self.folder.partition("/")[0]

    def files(self, model: LockedModel) -> list[LockedFile]:
        """The files of the folder that the engine is given, by their paths below it."""
        inside = self.folder.partition("/")[2].rstrip("/")
        if not inside:
            return list(model.files)
        start = f"{inside}/"
        return [
            file.model_copy(update={"path": file.path[len(start) :]}) for file in model.files if file.path.startswith(start)
        ]

    def needs(self, model: LockedModel) -> ModelNeeds | None:
        """What the model asks for; not known of a folder below it."""
        return model.needs if "/" not in self.folder.rstrip("/") else None


def find(lock: Lock, services: Iterable[Service]) -> list[Finding]:
    """Everything that speaks against serving these services from this lock."""
    engine = lock.images["engine"].engine if "engine" in lock.images else None
    found = list(engine_findings.of_image(engine, lock.accelerator))
    served = list(services)
    for service in served:
        model = lock.models.get(service.model)
        if model is not None:
            needs = service.needs(model)
            where = f"{service.key} ({model.source})"
            found += file_findings.of_files(where, service.files(model), needs, service.args)
            found += engine_findings.of_service(service.key, service.args, needs, engine)
            found += adapter_findings.of_named(service.key, service.args, lock)
            if needs is not None:
                found += _code(service, model, needs)
                found += _of_type(service, model, needs)
    found += _unserved(lock, served)
    return found


def _code(service: Service, model: LockedModel, needs: ModelNeeds) -> Iterator[Finding]:
    """Code of the model's own: in another repository, missing, or not allowed to run."""
    where, names = f"{service.key} ({model.source})", {file.path for file in model.files}
    trusted = bool(service.args.get("trust_remote_code"))
    elsewhere = sorted({item.partition("--")[0] for item in needs.code if "--" in item})
    missing = sorted(
        {file for item in needs.code if "--" not in item and (file := f"{item.rpartition('.')[0]}.py") not in names}
    )
    if elsewhere:
        remedy = "copy that code beside the weights in a folder of your own and name it without 'OWNER/NAME--' in auto_map"
        yield Finding(trusted, where, f"takes its code from another repository, {', '.join(elsewhere)}", remedy)
    if missing:
        yield Finding(trusted, where, f"names code that is not there: {', '.join(missing)}", "add it, or check 'exclude'")


def _of_type(service: Service, model: LockedModel, needs: ModelNeeds) -> Iterator[Finding]:
    """What a service of this type needs besides."""
    where, names = f"{service.key} ({model.source})", [file.path for file in model.files]
    heads = needs.architectures
    for name in needs.unreadable:
        yield Finding(
            name in ("config.json", "tokenizer.json"),
            where,
            f"{name} is not JSON",
            "download or copy it again, or use another revision",
        )
    if needs.quantization in _FOREIGN:
        remedy = "take the model that it was made from, or its AWQ, GPTQ or FP8 form"
        yield Finding(True, where, f"is quantised for another engine ({needs.quantization})", remedy)
    elif needs.quantization and needs.quantization.lower() not in _QUANTISATIONS:
        what = f"is quantised by a method that vLLM does not name ({needs.quantization[:40]!r} in config.json)"
        yield Finding(False, where, what, "try it before it travels, or take its AWQ, GPTQ, FP8 or compressed-tensors form")
    yield from _not_for_chat(service, where, heads)
    if not heads and not needs.model_type and "config.json" in names and "config.json" not in needs.unreadable:
        remedy = "use the config.json of the model that it was trained from"
        yield Finding(False, where, "its config.json names no architecture and no model_type", remedy)
    elif heads and not needs.model_type and "config.json" in names and not needs.code:
        remedy = "add the model_type of the model that it was trained from, as its config.json has it"
        yield Finding(False, where, "its config.json names no model_type: the engine does not know how to read it", remedy)
    if service.type == "chat" and heads and all(map(_writes_nothing, heads)) and "hf_overrides" not in service.args:
        remedy = 'serve it as "embedding" or "rerank", or carry a model that writes text'
        yield Finding(True, where, f"reads text and writes none ({heads[0]})", remedy)
    elif service.type == "chat" and not needs.chat_template and "chat_template" not in service.args and heads:
        remedy = "use the instruct form of the model, or put its template into the folder as chat_template.jinja"
        yield Finding(False, where, "has no chat template: chat completions are refused (completions are answered)", remedy)
    if service.type == "embedding" and not _pools(names, heads) and "pooler_config" not in service.args and heads:
        remedy = 'add modules.json and 1_Pooling/config.json, or say engine_args: {"pooler_config": {"pooling_type": ...}}'
        yield Finding(False, where, "has no pooling configuration: vLLM takes the default of its architecture", remedy)
    if service.type == "rerank" and heads and "hf_overrides" not in service.args and not any(map(_scores, heads)):
        remedy = "use a cross-encoder (an architecture ...ForSequenceClassification), or know that scores are similarities"
        yield Finding(False, where, f"is a bi-encoder ({heads[0]}), without a head that scores pairs", remedy)
    if needs.vision and not any(name in _PROCESSORS for name in names):
        yield Finding(
            False, where, "sees images and has no preprocessor_config.json", "add it, or check 'include' and 'exclude'"
        )
    if needs.model_type == "gpt_oss":
        what = "wants the vocabulary o200k_base.tiktoken, which older engine images fetch at the first request"
        yield Finding(False, where, what, "ask once with the network cut before it travels; see docs/models.md")


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


def _unserved(lock: Lock, services: Sequence[Service]) -> Iterator[Finding]:
    """Models that travel and are neither served nor named by one that is."""
    named = " ".join(str(service.args) for service in services)
    for key in sorted(lock.models.keys() - {service.model for service in services}):
        if f"/models/{key}" not in named:
            entry = f'"{key}": {{"name": "{key}", "path": "/models/{key}", "type": "chat", "port": PORT, ...}}'
            remedy = f"add {entry} to models.json (docs/models.md has the fields), or take it out of the manifest"
            yield Finding(False, key, "is carried, and no entry of models.json serves it", remedy)


def _pools(names: Sequence[str], heads: Sequence[str]) -> bool:
    return any(name.endswith("modules.json") for name in names) or any(
        "Embedding" in head or "TextEncoding" in head for head in heads
    )


def _writes_nothing(head: str) -> bool:
    """An encoder, or a head that classifies: vLLM refuses to generate with it."""
    return head.endswith(("ForMaskedLM", *_CLASSIFIERS)) or head in _PAIRS or any(head == f"{name}Model" for name in _ENCODERS)


def _scores(head: str) -> bool:
    return head.endswith(_CLASSIFIERS) or head.startswith(_INTERACTIONS)
