"""Folders of models with a true header and configuration, whose weights are holes: any size, no bytes on the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CHAT = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 2, "vocab_size": 32000,
    "max_position_embeddings": 32768, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
}  # fmt: skip
ENCODER = {
    "architectures": ["BertModel"], "model_type": "bert", "hidden_size": 384, "intermediate_size": 1536,
    "num_hidden_layers": 6, "num_attention_heads": 12, "vocab_size": 30522, "max_position_embeddings": 512,
    "torch_dtype": "float32",
}  # fmt: skip


def make_model_folder(folder: Path, config: dict[str, Any], size: int) -> Path:
    """A folder with ``config`` and ``size`` bytes of weights in one tensor a layer."""
    folder.mkdir(parents=True)
    layers, width = config["num_hidden_layers"], 2 if config["torch_dtype"] == "bfloat16" else 4
    rows = size // layers // width // config["hidden_size"]
    each = rows * config["hidden_size"] * width
    prefix = "encoder.layer" if config["model_type"] == "bert" else "model.layers"
    header = {
        f"{prefix}.{number}.mlp.weight": {
            "dtype": "BF16" if width == 2 else "F32",
            "shape": [rows, config["hidden_size"]],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(layers)
    }
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + each * layers)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    return folder
