"""A LoRA adapter for SmolLM2-135M, of numbers that follow from a seed: it says other words, and always the same ones.

Rules: PEFT's form (adapter_config.json, adapter_model.safetensors); float32; written without torch, which the tests lack.
"""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path

HIDDEN, LAYERS, RANK, ALPHA = 576, 30, 8, 16
CONFIG = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "offline-kit/smollm2-135m-instruct",
    "r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0, "bias": "none", "target_modules": ["q_proj"],
}  # fmt: skip


def write_adapter(folder: Path, seed: int = 15) -> Path:
    """The folder, holding an adapter of every layer's query projection."""
    numbers = random.Random(seed)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for layer in range(LAYERS):
        for part, shape in (("A", (RANK, HIDDEN)), ("B", (HIDDEN, RANK))):
            values = array("f", (numbers.gauss(0, 0.15) for _ in range(shape[0] * shape[1])))
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * len(values)]}
            data += values.tobytes()
    text = json.dumps(header).encode()
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(CONFIG))
    (folder / "adapter_model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    return folder
