"""Models that nobody can serve, and engine images that cannot: each with one fault, found by its name, with a remedy.

One file, for it is a catalogue: a fault stands beside those that it could be taken for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from offline_kit.common.digest import Digest
from offline_kit.common.errors import DigestMismatch
from offline_kit.intake.models import plan_facts
from offline_kit.intake.models.findings import Finding, Service, empty_images, find
from offline_kit.intake.models.model_needs import read_needs
from offline_kit.spec.lock import Blob, Layer, Lock, LockedFile, LockedImage, LockedModel
from offline_kit.spec.lock_facts import EngineFacts
from tests.support import intake_samples as parts

ZERO = Digest("0" * 64)
CONFIG: dict[str, Any] = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "transformers_version": "4.57.1"}
TOKENIZER = {"tokenizer.json": b"{}", "tokenizer_config.json": b'{"chat_template": "x"}'}
WEIGHTS = {"model.safetensors": b"weights"}
KNOWN = (
    "Qwen2ForCausalLM",
    "BertModel",
    "SiglipModel",
    "XLMRobertaForSequenceClassification",
    "LlamaForCausalLM",
    "Gemma3ForConditionalGeneration",
)
KERNELS = {"flashinfer-python": "0.7.2", "flashinfer-cubin": "0.7.2", "flashinfer-jit-cache": "0.7.2+cu130"}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 17477929\n"
Files = Mapping[str, bytes]


def engine(whole: bool = True, without: tuple[str, ...] = (), **versions: str) -> EngineFacts:
    packages = {
        "vllm": "0.33.0",
        "transformers": "5.17.0",
        **KERNELS,
        **{name.replace("_", "-"): v for name, v in versions.items()},
    }
    for name in without:
        del packages[name]
    loaded = ("awq", "gptq", "fp8", "compressed-tensors", "inc", "mxfp4")
    parsers = ("hermes", "llama3_json")
    return EngineFacts(packages=packages, architectures=KNOWN, tool_parsers=parsers, quantizations=loaded, whole=whole)


def model(folder: Path, files: Files, remedy: str = "git lfs pull", source: str = "hf://o/m") -> LockedModel:
    parts.write(folder, files)
    listed = [LockedFile(path=path, size=len(data), sha256=Digest.of(data)) for path, data in sorted(files.items())]
    needs = read_needs(listed, plan_facts.FromDisk(lambda file: folder / file.path), "m", remedy)
    commit = "c" * 40 if source.startswith("hf") else None
    return LockedModel(spec_digest=ZERO, source=source, commit=commit, files=tuple(listed), needs=needs)


def whole(config: Mapping[str, Any] | None = None, without: tuple[str, ...] = (), more: Files | None = None) -> Files:
    files = {**WEIGHTS, **TOKENIZER, "config.json": json.dumps({**CONFIG, **(config or {})}).encode()}
    return {path: data for path, data in files.items() if path not in without} | dict(more or {})


def found(folder: Path, files: Files, kind: str = "chat", facts: EngineFacts | None = None, **args: Any) -> list[Finding]:
    blob = Blob(digest=ZERO, size=1, media_type="x")
    locked = LockedImage(
        spec_digest=ZERO, source="docker://e", reference=None, manifest=blob, config=blob, layers=(), engine=facts or engine()
    )
    models = {"chat": model(folder, files)}
    lock = Lock(name="t", platform="linux/amd64", accelerator="nvidia", images={"engine": locked}, models=models, config={})
    return find(lock, [Service("mine", "chat", kind, args, 512)])


def arch(name: str, **more: Any) -> dict[str, Any]:
    return {"architectures": [name], **more}


ELSEWHERE = {"auto_map": {"AutoConfig": "o/code--configuration_x.XConfig", "AutoModel": "o/code--modeling_x.X"}}
OWN = {"auto_map": {"AutoConfig": "configuration_x.XConfig"}}
TRUST = {"trust_remote_code": True}
DRAFT = {"speculative_config": {"model": "o/draft", "num_speculative_tokens": 3}}
LORA = {"enable_lora": True}
ADAPTER = {"a/adapter_config.json": b'{"r": 8}', "a/adapter_model.safetensors": b"w"}
SHARDS = {f"model-0000{number}-of-00003.safetensors": b"w" for number in (1, 3)}
NO_WEIGHTS = ("model.safetensors",)
BARE = {"tokenizer.json": b"{}", "tokenizer_config.json": b"{}"}
MODELS: dict[str, tuple[Files, str, dict[str, Any], bool, str]] = {
    "readme only": ({"README.md": b"moved"}, "chat", {}, True, "no weights, only README.md -> correct 'source'"),
    "no weights": (whole(without=("model.safetensors",)), "chat", {}, True, "holds no weights"),
    "GGUF only": ({"m-Q4.gguf": b"GGUF", "config.json": b'{"model_type": "llama"}'}, "chat", {}, True, "GGUF files only"),
    "adapter": (
        {**WEIGHTS, "adapter_config.json": b'{"base_model_name_or_path": "o/base"}'},
        *("chat", {}, True, "is an adapter of o/base, not a model -> carry o/base"),
    ),
    "no config.json": (whole(without=("config.json",)), "chat", {}, False, "has no config.json"),
    "no tokenizer": (whole(without=tuple(TOKENIZER)), "chat", {"chat_template": "x"}, False, "has no tokenizer"),
    "code elsewhere": (whole(ELSEWHERE), "chat", {}, False, "from another repository, o/code -> carry it: in the manifest"),
    "code elsewhere, run": (whole(ELSEWHERE), "chat", TRUST, True, "from another repository, o/code"),
    "code missing": (whole(OWN), "chat", {}, False, "names code that is not there: configuration_x.py"),
    "code missing, run": (whole(OWN), "chat", TRUST, True, "names code that is not there: configuration_x.py"),
    "code not trusted": (
        whole({**OWN, **arch("XForCausalLM")}, more={"configuration_x.py": b""}),
        *("chat", {}, False, "may not run the model's own code -> read that code"),
    ),
    "unknown architecture": (whole(arch("NewForCausalLM")), "chat", {}, True, "does not know the architecture NewForCausalLM"),
    "newer transformers": (whole({"transformers_version": "5.20.0"}), "chat", {}, False, "saved by transformers 5.20.0"),
    "no chat template": (whole(None, tuple(TOKENIZER), BARE), "chat", {}, False, "has no chat template"),
    "no pooling": (whole(arch("BertModel")), "embedding", {}, False, "has no pooling configuration"),
    "bi-encoder": (whole(arch("BertModel")), "rerank", {}, False, "is a bi-encoder (BertModel)"),
    "no processor": (
        whole(arch("Gemma3ForConditionalGeneration", vision_config={"hidden_size": 1})),
        *("chat", {}, False, "no preprocessor_config.json"),
    ),
    "no processor of sound": (
        whole(arch("Gemma3ForConditionalGeneration", audio_config={"hidden_size": 1})),
        *("chat", {}, False, "takes images or sound and has no preprocessor_config.json"),
    ),
    "drafter": (whole(), "chat", DRAFT, True, "speculative_config: 'o/draft' is not in the kit -> add it"),
    "adapter elsewhere": (
        whole(),
        "chat",
        {**LORA, "lora_modules": ["a=/data/a"]},
        True,
        "lora_modules: '/data/a' is not in the kit",
    ),
    "leftovers": (
        whole(more={"model-2.safetensors.incomplete": b"w", "sub/Thumbs.db": b"x"}),
        *("chat", {}, False, "left behind: model-2.safetensors.incomplete, sub/Thumbs.db -> end the download"),
    ),
    "adapter beside": (
        whole(more={"adapter_config.json": b'{"r": 8}', "adapter_model.safetensors": b"w"}),
        *("chat", {}, False, "has an adapter beside its weights: the engine serves the weights alone"),
    ),
    "unknown quantisation": (
        whole({"quantization_config": {"quant_method": "sparq3"}}),
        *("chat", {}, False, "by a method that vLLM does not name ('sparq3' in config.json)"),
    ),
    "adapter of no path": (
        whole(),
        *("chat", {**LORA, "lora_modules": ["sql"]}, True, "'sql' does not name an adapter and its path -> write"),
    ),
    "adapter of an empty path": (
        whole(),
        *("chat", {**LORA, "lora_modules": ["sql="]}, True, "'sql=' does not name an adapter and its path -> write"),
    ),
    "adapter without a name": (
        whole(),
        *("chat", {**LORA, "lora_modules": [{"path": "/models/chat"}]}, True, "does not name an adapter and its path -> write"),
    ),
    "import missing, run": (
        whole(OWN, more={"configuration_x.py": b"import os\nfrom .helpers import a\n"}),
        *("chat", TRUST, True, "names code that is not there: helpers.py"),
    ),
    "import of an import missing": (
        whole(
            OWN,
            more={"configuration_x.py": b"  from .a import a\n", "a.py": b"from .configuration_x import b\nfrom .c import d"},
        ),
        *("chat", TRUST, True, "names code that is not there: c.py"),
    ),
    "adapter not carried": (
        whole(),
        *("chat", {**LORA, "lora_modules": [{"name": "a", "path": "/models/a"}]}, True, "'/models/a' is not in the kit"),
    ),
    "tokenizer elsewhere": (
        whole(),
        "chat",
        {"tokenizer": "o/base"},
        True,
        "engine_args.tokenizer: 'o/base' is not in the kit",
    ),
    "tool parser": (whole(), "chat", {"tool_call_parser": "hermis"}, True, "has no 'hermis' -> did you mean 'hermes'?"),
    "ONNX only": (
        {"onnx/model.onnx": b"x", "config.json": b'{"model_type": "bert"}'},
        "embedding",
        {},
        True,
        "ONNX files only",
    ),
    "TensorFlow only": (whole(without=NO_WEIGHTS, more={"tf_model.h5": b"x"}), "chat", {}, True, "TensorFlow files only"),
    "states of a training only": (
        whole(without=NO_WEIGHTS, more={"optimizer.pt": b"x", "training_args.bin": b"x"}),
        *("chat", {}, True, "holds no weights"),
    ),
    "weights in a sub-folder": (
        {"README.md": b"x", "step-9/config.json": b"{}", "step-9/model.safetensors": b"w"},
        *("chat", {}, True, 'sub-folders only: step-9 -> say "path": "/models/KEY/step-9"'),
    ),
    "pipeline of images": (
        {"model_index.json": b"{}", "unet/config.json": b"{}", "unet/model.safetensors": b"w"},
        *("chat", {}, True, "is a pipeline of diffusers"),
    ),
    "shard missing, no index": (
        whole(without=NO_WEIGHTS, more=SHARDS),
        *("chat", {}, True, "has 2 of 3 shards: model-00002-of-00003.safetensors is missing"),
    ),
    "empty tokenizer": (whole(more={"tokenizer.json": b""}), "chat", {}, True, "tokenizer.json is empty -> download"),
    "half a tokenizer": (
        whole(without=("tokenizer.json",), more={"vocab.json": b"{}"}),
        *("chat", {}, False, "has half a tokenizer, vocab.json alone"),
    ),
    "configuration is a web page": (whole(more={"config.json": b"<html>"}), "chat", {}, True, "config.json is not JSON"),
    "tokenizer is a web page": (
        whole(more={"tokenizer.json": b"\n<!DOCTYPE html>"}),
        *("chat", {}, True, "tokenizer.json is not JSON -> download"),
    ),
    "no architecture": (whole(more={"config.json": b"{}"}), "chat", {}, False, "names no architecture and no model_type"),
    "no model_type": (whole({"model_type": None}), "chat", {}, False, "names no model_type: the engine does not know"),
    "texts and images as chat": (whole(arch("SiglipModel")), "chat", {}, True, "writes none (SiglipModel) -> serve it as"),
    "encoder as chat": (whole(arch("BertModel")), "chat", {}, True, "reads text and writes none (BertModel) -> serve it as"),
    "MLX": (whole({"quantization": {"group_size": 64, "bits": 4}}), "chat", {}, True, "for another engine (mlx)"),
    "EXL2": (whole({"quantization_config": {"quant_method": "exl2"}}), "chat", {}, True, "for another engine (exl2)"),
    "other forms besides": (
        whole(more={"m-Q4.gguf": b"GGUF", "original/consolidated.00.pth": b"x", "onnx/model.onnx": b"x"}),
        *("chat", {}, False, 'not loaded beside safetensors -> exclude: ["*.gguf", "*.onnx", "original/*"]'),
    ),
    "adapter without weights": (
        whole(more={"a/adapter_config.json": b"{}"}),
        *("chat", {**LORA, "lora_modules": ["a=/models/chat/a"]}, True, "is no adapter: adapter_model.safetensors missing"),
    ),
    "adapters switched off": (
        whole(more=ADAPTER),
        *("chat", {"lora_modules": ["a=/models/chat/a"]}, False, "enable_lora is not set"),
    ),
    "harmony": (
        whole({"model_type": "gpt_oss"}),
        *("chat", {}, False, "needs the vocabulary o200k_base.tiktoken, which an engine fetches when it starts -> carry it"),
    ),
    "texts cut shorter than asked for": (
        whole(arch("BertModel"), more={"modules.json": b"[]", "sentence_bert_config.json": b'{"max_seq_length": 256}'}),
        *("embedding", {}, True, "takes 256 tokens (sentence-transformers), max_model_len is 512 -> use 256 or less"),
    ),
    "half a file as tokenizer": (
        whole(more={"tokenizer.json": b'{"version": "1.0", "model": {"vocab": {"a'}),
        *("chat", {}, True, "tokenizer.json is not JSON -> download"),
    ),
    "no longer loaded": (
        whole({"quantization_config": {"quant_method": "bitsandbytes"}}),
        *("chat", {}, True, "does not load weights quantised as bitsandbytes -> use an older engine image"),
    ),
    "loaded on demand": (
        whole({"quantization_config": {"quant_method": "fbgemm_fp8"}}),
        *("chat", {}, True, 'as fbgemm_fp8 unless it is told to -> say engine_args: {"allow_deprecated_quantization": true}'),
    ),
    "GGUF without the plug-in": (
        whole(without=NO_WEIGHTS, more={"m.gguf": b"GGUF"}),
        *(
            "chat",
            {"load_format": "gguf"},
            True,
            "reads GGUF with vllm-gguf-plugin alone, which the engine image does not hold",
        ),
    ),
    "generation configuration is a web page": (
        whole(more={"generation_config.json": b"<html>"}),
        *("chat", {}, False, "generation_config.json is not JSON -> download or copy it again"),
    ),
}


CARRIED: dict[str, tuple[Files, str, str, str | None]] = {
    "carried": ({"configuration_x.py": b"", "modeling_x.py": b""}, "hf://o/code", "code", None),
    "a folder": ({"configuration_x.py": b"", "modeling_x.py": b""}, "dir:///x", "code", None),
    "below a folder": ({"sub/configuration_x.py": b"", "sub/modeling_x.py": b""}, "dir:///x", "code/sub", None),
    "half of it": (
        {"configuration_x.py": b""},
        *("hf://o/code", "code", "refused hf://o/code has no modeling_x.py, which the model names -> carry the revision"),
    ),
    "another": (
        {"configuration_x.py": b"", "modeling_x.py": b""},
        *("hf://p/fork", "code", "warned is hf://p/fork -> read that it is what o/code is, or carry hf://o/code"),
    ),
    "not carried": (
        {"x.py": b""},
        *(
            "hf://o/code",
            "gone",
            "refused '/models/gone' is not in the kit -> add it to the manifest: models: {gone: {source: ",
        ),
    ),
}


@pytest.mark.parametrize("how", CARRIED)
def test_code_of_another_repository_is_carried_as_one(tmp_path: Path, how: str) -> None:
    files, source, folder, text = CARRIED[how]
    models = {
        "chat": model(tmp_path / "chat", whole(ELSEWHERE)),
        "code": model(tmp_path / "code", files, source=source),
    }
    lock = Lock(name="t", platform="linux/amd64", accelerator="cpu", images={}, models=models, config={})
    service = Service("mine", "chat", "chat", TRUST, code={"o/code": f"{folder}"})
    said = [one for one in find(lock, [service]) if "is carried, and no entry" not in one.what]
    shown = ["refused " * one.refused + "warned " * (not one.refused) + f"{one.what} -> {one.remedy}" for one in said]
    assert shown == [] if text is None else len(shown) == 1 and shown[0].startswith(text), shown
    if text is None:
        assert find(lock, [service]) == [], "what is carried for its code is no model that nobody serves"
    plain = model(tmp_path / "plain", whole())
    (idle,) = find(
        lock.model_copy(update={"models": {**models, "chat": plain}}),
        [Service("m", "chat", "chat", {}, code={"o/code": "code"})],
    )
    assert not idle.refused and "is code that the model does not name" in str(idle)


@pytest.mark.parametrize("fault", MODELS)
def test_a_model_with_one_fault(tmp_path: Path, fault: str) -> None:
    files, kind, args, refused, text = MODELS[fault]
    (one,) = found(tmp_path, files, kind, **args)
    assert text in str(one) and one.refused == refused and " -> " in str(one)


@pytest.mark.parametrize(
    ("files", "kind", "args"),
    [
        (whole(), "chat", {"tool_call_parser": "hermes"}),
        (whole(arch("Qwen2ForSequenceClassification")), "rerank", {}),
        (whole(arch("BertModel"), more={"modules.json": b"[]"}), "embedding", {}),
        (whole(), "rerank", {"hf_overrides": {"architectures": ["Qwen2ForSequenceClassification"]}}),
        (whole(arch("NewForCausalLM")), "chat", {"model_impl": "transformers"}),
        (whole(without=("model.safetensors",)), "chat", {"load_format": "dummy"}),
        (whole(OWN, more={"configuration_x.py": b""}), "chat", TRUST),
        (whole(None, tuple(TOKENIZER), more={**BARE, "chat_template.jinja": b"x"}), "chat", {}),
        (whole(more=ADAPTER), "chat", {**LORA, "lora_modules": [{"name": "a", "path": "/models/chat/a"}]}),
        (whole(more=ADAPTER), "chat", {**LORA, "lora_modules": '{"name": "a", "path": "/models/chat/a"}'}),
        (whole(more={"2_Dense/model.safetensors": b"w", "2_Dense/config.json": b"{}"}), "chat", {}),
        (whole(without=("tokenizer.json",), more={"vocab.json": b"{}", "merges.txt": b"x"}), "chat", {}),
        (whole({"quantization_config": {"quant_method": "auto-round"}}), "chat", {}),
        (whole({"quantization_config": {"quant_method": "bitsandbytes"}}), "chat", {"quantization": "bitsandbytes"}),
        (whole({"model_type": "gpt_oss"}, more={"o200k_base.tiktoken": b"IQ== 0"}), "chat", {}),
        (
            whole(arch("BertModel"), more={"modules.json": b"[]", "sentence_bert_config.json": b'{"max_seq_length": 512}'}),
            *("embedding", {}),
        ),
    ],
)
def test_nothing_is_said_of_a_model_that_can_be_served(tmp_path: Path, files: Files, kind: str, args: dict[str, Any]) -> None:
    assert found(tmp_path, files, kind, **args) == []


@pytest.mark.parametrize(
    ("head", "text"),
    [
        ("T5ForConditionalGeneration", "which current vLLM does not serve (T5ForConditionalGeneration)"),
        ("MT5ForConditionalGeneration", "which current vLLM does not serve"),
        ("WhisperForConditionalGeneration", "writes down speech and answers no chat"),
    ],
)
def test_an_encoder_with_a_decoder_is_told_without_knowing_the_image(tmp_path: Path, head: str, text: str) -> None:
    (one,) = found(tmp_path, whole(arch(head)), facts=EngineFacts(packages={}, whole=False))
    assert text in str(one) and " -> " in str(one)


def test_forms_that_a_package_of_the_image_reads(tmp_path: Path) -> None:
    mistral = {"params.json": b"{}", "consolidated.safetensors": b"w", "tekken.json": b"{}"}
    (one,) = found(tmp_path / "without", mistral)
    assert one.refused and "is in Mistral's own form (params.json), and the engine image does not hold mistral-common" in str(
        one
    )
    assert found(tmp_path / "with", mistral, facts=engine(mistral_common="1.11.6")) == []
    gguf = whole(without=NO_WEIGHTS, more={"m.gguf": b"GGUF"})
    assert found(tmp_path / "plugin", gguf, facts=engine(vllm_gguf_plugin="0.0.2"), load_format="gguf") == []
    assert found(tmp_path / "unknown", gguf, facts=engine(False), load_format="gguf") == [], "not all of it was read"


def test_a_reranker_in_the_form_of_a_language_model_is_told_how_it_is_served(tmp_path: Path) -> None:
    files = whole(arch("Qwen3ForCausalLM"))
    knowing = engine().model_copy(update={"architectures": ("Qwen3ForCausalLM",)})
    blob = Blob(digest=ZERO, size=1, media_type="x")
    image = LockedImage(
        spec_digest=ZERO, source="docker://e", reference=None, manifest=blob, config=blob, layers=(), engine=knowing
    )
    models = {"chat": model(tmp_path, files, source="hf://Qwen/Qwen3-Reranker-0.6B")}
    lock = Lock(name="t", platform="linux/amd64", accelerator="nvidia", images={"engine": image}, models=models, config={})
    (one,) = find(lock, [Service("mine", "chat", "rerank", {})])
    assert one.refused and "vLLM has to be told which words score" in str(one)
    said = json.loads(one.remedy.partition("engine_args: ")[2])
    assert find(lock, [Service("mine", "chat", "rerank", said)]) == [], "the remedy is one"


def test_what_is_served_with_a_model_fits_it(tmp_path: Path) -> None:
    adapter = {"adapter_config.json": b'{"base_model_name_or_path": "o/Other-7B", "r": 8}', "adapter_model.safetensors": b"w"}
    blob = Blob(digest=ZERO, size=1, media_type="x")
    image = LockedImage(
        spec_digest=ZERO, source="docker://e", reference=None, manifest=blob, config=blob, layers=(), engine=engine()
    )
    models = {
        "chat": model(tmp_path / "chat", whole(), source="hf://o/Mine-7B"),
        "sql": model(tmp_path / "sql", adapter),
        "draft": model(tmp_path / "draft", whole(arch("NewDraftModel"))),
        "eagle": model(tmp_path / "eagle", whole(arch("Qwen2ForCausalLM"))),
    }
    lock = Lock(name="t", platform="linux/amd64", accelerator="nvidia", images={"engine": image}, models=models, config={})

    def said(**args: Any) -> list[str]:
        named = [Service(key, key, "chat", {"chat_template": "x", "model_impl": "x"}) for key in ("draft", "eagle")]
        found = find(lock, [Service("mine", "chat", "chat", args), *named])
        return [str(finding) for finding in found if finding.where.startswith("mine") and not finding.refused]

    assert said(enable_lora=True, lora_modules=["a=/models/sql"]) == [
        "mine: engine_args.lora_modules: a: was made for o/Other-7B, and is served with hf://o/Mine-7B -> carry the model that "
        "it was made for, or try it before it travels"
    ]
    same = {**models, "chat": model(tmp_path / "same", whole(), source="hf://unsloth/other-7b")}
    lock = lock.model_copy(update={"models": same})
    assert said(enable_lora=True, lora_modules=["a=/models/sql"]) == []
    (draft,) = said(speculative_config={"model": "/models/draft", "method": "eagle"})
    assert "the drafter's architecture NewDraftModel is not one that vLLM 0.33.0 names" in draft
    assert said(speculative_config={"model": "/models/eagle", "method": "eagle"}) == []


NAMED: dict[str, tuple[dict[str, Any], str | None]] = {
    "a template of the kit": ({"chat_template": "/models/chat/config.json"}, None),
    "the same, from the root folder": ({"chat_template": "models/chat/config.json"}, None),
    "a template as text": ({"chat_template": "{{ messages }}"}, None),
    "a template that is not there": (
        {"chat_template": "/models/chat/none.jinja"},
        "refused chat_template: there is no file '/models/chat/none.jinja' in the kit",
    ),
    "a template of the image": (
        {"chat_template": "examples/tool_chat_template_hermes.jinja"},
        "warned chat_template: 'examples/tool_chat_template_hermes.jinja' is not in the kit: the engine image must have it",
    ),
    "a parser that is not there": (
        {"tool_parser_plugin": "/models/other/p.py"},
        "refused tool_parser_plugin: there is no file",
    ),
    "a configuration of a hub": ({"hf_config_path": "o/m"}, "refused hf_config_path: 'o/m' is not in the kit"),
    "a way of generating of a hub": ({"generation_config": "o/m"}, "refused generation_config: 'o/m' is not in the kit"),
    "ways of generating": ({"generation_config": "vllm"}, None),
    "a drafter in JSON": (
        {"speculative_config": '{"model": "o/draft", "num_speculative_tokens": 3}'},
        "refused speculative_config: 'o/draft' is not in the kit",
    ),
}


@pytest.mark.parametrize("kind", NAMED)
def test_what_arguments_name_is_in_the_kit(tmp_path: Path, kind: str) -> None:
    args, text = NAMED[kind]
    said = [("refused " if one.refused else "warned ") + str(one) for one in found(tmp_path, whole(), **args)]
    said = [one.replace("mine: engine_args.", "").partition(" -> ")[0] for one in said]
    assert said == [] if text is None else len(said) == 1 and said[0].startswith(text)


ENGINES: dict[str, tuple[EngineFacts, str | None]] = {
    "whole": (engine(), None),
    "other cubins": (engine(flashinfer_cubin="0.6.13"), "has flashinfer-cubin 0.6.13 beside flashinfer-python 0.7.2"),
    "other cache": (engine(flashinfer_jit_cache="0.7.1+cu130"), "has flashinfer-jit-cache 0.7.1 beside"),
    "no cubins": (engine(without=("flashinfer-cubin",)), "no flashinfer-cubin: kernels may be fetched"),
    "cubins not looked for": (engine(False, ("flashinfer-cubin",)), None),
    "no flashinfer at all": (engine(without=tuple(KERNELS)), None),
    "no vLLM": (engine(without=("vllm",)), "holds no vLLM -> name an image of vLLM"),
    "vLLM not found yet": (engine(False, ("vllm",)), None),
    "old vLLM": (
        engine(vllm="0.22.1").model_copy(update={"architectures": ("LlamaForCausalLM",)}),
        "vLLM 0.22.1 of the engine image",
    ),
    "old transformers": (engine(transformers="4.50.0"), "the engine image has 4.50.0"),
}


@pytest.mark.parametrize("fault", ENGINES)
def test_an_engine_image_with_one_fault(tmp_path: Path, fault: str) -> None:
    facts, text = ENGINES[fault]
    said = [str(finding) for finding in found(tmp_path, whole(), facts=facts)]
    assert said == [] if text is None else len(said) == 1 and text in said[0]


def test_an_image_without_layers_is_told() -> None:
    blob = Blob(digest=ZERO, size=1, media_type="x")
    image = LockedImage(spec_digest=ZERO, source="docker://e", reference=None, manifest=blob, config=blob, layers=())
    layer = Layer(digest=ZERO, size=1, media_type="x", diff_id=ZERO)
    images = {"engine": image.model_copy(update={"layers": (layer,)}), "gateway": image}
    lock = Lock(name="t", platform="linux/amd64", accelerator="cpu", images=images, models={}, config={})
    (one,) = empty_images(lock)
    assert not one.refused and str(one).startswith("images.gateway (docker://e): has no layers, and so no program -> name the")


def test_a_pointer_of_git_lfs_is_refused_with_the_way_to_get_the_file(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch, match=r"pointer instead of the file: tokenizer\.json -> git lfs pull"):
        model(tmp_path, whole(more={"tokenizer.json": POINTER}))


def test_an_adapter_of_a_higher_rank_than_the_engine_reserves_for(tmp_path: Path) -> None:
    adapter = {"adapter_config.json": b'{"base_model_name_or_path": "o/m", "r": 48}', "adapter_model.safetensors": b"w"}
    models = {"chat": model(tmp_path / "chat", whole()), "sql": model(tmp_path / "sql", adapter)}
    lock = Lock(name="t", platform="linux/amd64", accelerator="cpu", images={}, models=models, config={})
    args: dict[str, Any] = {**LORA, "lora_modules": ["sql=/models/sql"]}
    (one,) = find(lock, [Service("mine", "chat", "chat", args)])
    assert "has rank 48, the engine reserves for 16" in str(one) and one.refused and '"max_lora_rank": 64' in one.remedy
    assert find(lock, [Service("mine", "chat", "chat", {**args, "max_lora_rank": 64})]) == []


def test_a_folder_below_the_model_is_judged_by_itself(tmp_path: Path) -> None:
    files = {f"step-9/{path}": data for path, data in whole().items()}
    lock = Lock(
        name="t", platform="linux/amd64", accelerator="cpu", images={}, models={"chat": model(tmp_path, files)}, config={}
    )
    assert find(lock, [Service("mine", "chat/step-9", "chat", {})]) == []
    (one,) = find(lock, [Service("mine", "chat/step-8", "chat", {})])
    assert "holds no weights" in str(one)


def test_a_model_that_nothing_serves_gets_the_entry_to_add(tmp_path: Path) -> None:
    lock = Lock(
        name="t", platform="linux/amd64", accelerator="cpu", images={}, models={"other": model(tmp_path, whole())}, config={}
    )
    (one,) = find(lock, [])
    assert not one.refused and 'add "other": {"name": "other", "path": "/models/other"' in one.remedy
    assert find(lock, [Service("mine", "gone", "chat", {"lora_modules": ["a=/models/other"]})]) == []
