"""Runs inside the CPU engine image, which has torch, transformers and vLLM.

    python3 weights_in_engine.py make TOKENIZER FOLDER      writes an XLM-R encoder in FOLDER, its weights as a pickle alone
    python3 weights_in_engine.py compare PICKLED CONVERTED  what differs: tensors by torch, answers of transformers and vLLM

Rules: nothing of ours is imported; transformers reads the pickle, vLLM the safetensors.
"""

# mypy: disable-error-code="import-not-found, import-untyped"

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

TEXTS = ["The capital of France is Paris.", "Engines wait for one another.", "0 1 2 3"]


def make(tokenizer: Path, folder: Path) -> None:
    """As BAAI/bge-m3 lies on its hub: CLS pooling, normalization, one pytorch_model.bin."""
    import torch
    import transformers

    torch.manual_seed(23)
    config = transformers.XLMRobertaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, vocab_size=512,
        position_embedding_type="absolute", max_position_embeddings=258, type_vocab_size=1, initializer_range=0.2,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, dtype="float32",
    )  # fmt: skip
    model = transformers.XLMRobertaModel(config).eval()
    model.config.architectures = ["XLMRobertaModel"]
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    for path in tokenizer.glob("*token*"):
        shutil.copy(path, folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    rows = [
        {"idx": at, "name": str(at), "path": p, "type": f"sentence_transformers.models.{k}"} for at, (p, k) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 64, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def compare(pickled: Path, converted: Path) -> dict[str, Any]:
    """Names of tensors that differ, how many there are, and how far the answers are apart."""
    import safetensors.torch
    import torch
    import transformers
    from vllm import LLM

    before = torch.load(pickled / "pytorch_model.bin", weights_only=True)
    after = safetensors.torch.load_file(converted / "model.safetensors")
    differ = sorted(
        n for n in before.keys() | after.keys() if n not in before or n not in after or not _same(before[n], after[n])
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(pickled)
    state = transformers.XLMRobertaModel(transformers.AutoConfig.from_pretrained(pickled)).eval()
    state.load_state_dict(before)
    theirs = []
    with torch.no_grad():
        for text in TEXTS:
            hidden = state(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 0]
            theirs.append(torch.nn.functional.normalize(hidden, dim=0))
    engine = LLM(
        model=str(converted), runner="pooling", convert="embed", dtype="float32", max_model_len=128, max_num_seqs=4,
        enforce_eager=True, gpu_memory_utilization=0.1,
    )  # fmt: skip
    ours = [torch.tensor(answer.outputs.embedding) for answer in engine.embed(TEXTS)]
    apart = max(float((a - b).abs().max()) for a, b in zip(theirs, ours, strict=True))
    return {"tensors": len(after), "differ": differ, "apart": apart, "spread": float((theirs[0] - theirs[1]).abs().max())}


def _same(a: Any, b: Any) -> bool:
    return bool(a.dtype == b.dtype and a.shape == b.shape and (a == b).all())


if __name__ == "__main__":
    verb, first, second = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    if verb == "make":
        make(first, second)
    else:
        print(json.dumps(compare(first, second)))
