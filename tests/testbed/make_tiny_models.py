"""Writes three models with random weights, of well under a megabyte each, that a real vLLM serves on a CPU.

    python3 make_tiny_models.py FOLDER      ->  FOLDER/tiny-chat  FOLDER/tiny-embed  FOLDER/tiny-rerank

Runs inside the CPU engine image, which has torch, transformers and tokenizers; the host needs none of them.
Rules: (1) no network and the same bytes on every run: seeds are fixed, vocabularies come from the text below;
(2) they are laid out like real repositories, with tokenizer files and, for the embedding model, what
sentence-transformers adds; (3) heads are 32 wide, one of the sizes that vLLM's CPU attention knows; (4) every file
is readable by all, because engines do not run as root.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXT = [
    "A bundle is carried by hand to a host that has no network, and is checked there before anything starts.",
    "Which of these passages answers the question best? The one about Paris, the capital of France.",
    "system user assistant: hello, how may I help you today? Write one short sentence about the sea.",
    "Engines wait for one another; the gateway asks for a key and sends each request to one engine.",
    "0 1 2 3 4 5 6 7 8 9 ! ? . , ; : - + * / = ( ) [ ] { } < > \" ' @ # $ % & _ ~ ^ |",
]
HEAD_SIZE, HEADS, LAYERS = 32, 2, 2
WIDTH = HEAD_SIZE * HEADS
SIZES = {
    "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
}  # fmt: skip
CHAT_TEMPLATE = """\
{%- for message in messages -%}
<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt -%}
<|im_start|>assistant
{% endif -%}
"""


def write_chat(folder: Path) -> None:
    """A Qwen2 causal model with a byte-level BPE tokenizer and a chat template; 512 positions, bfloat16."""
    torch.manual_seed(20)
    end, start, stop = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_byte_pairs([end, start, stop]), eos_token=stop, pad_token=end, model_max_length=512,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    tokenizer.chat_template = CHAT_TEMPLATE
    config = transformers.Qwen2Config(
        **SIZES, vocab_size=512, num_key_value_heads=HEADS, max_position_embeddings=512, tie_word_embeddings=False,
        initializer_range=0.2, bos_token_id=0, pad_token_id=0, eos_token_id=tokenizer.eos_token_id, dtype="bfloat16",
    )  # fmt: skip
    _save(folder, transformers.Qwen2ForCausalLM(config).to(torch.bfloat16), tokenizer)


def write_embedding(folder: Path) -> None:
    """A BERT encoder with a WordPiece tokenizer, mean pooling and normalization; 256 positions, float32."""
    torch.manual_seed(21)
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}
    # not trained: the order in which WordPiece's trainer numbers what it finds differs from run to run
    letters = sorted({letter for letter in "".join(TEXT).lower() if letter != " "})
    found = sorted(set(re.findall("[a-z]{2,}", " ".join(TEXT).lower())))
    vocabulary = [*special.values(), *letters, *("##" + letter for letter in letters), *found]
    words = Tokenizer(models.WordPiece({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.decoder = decoders.WordPiece()
    _frame(words, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ("[CLS]", "[SEP]"))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=256, **special)
    config = transformers.BertConfig(**SIZES, vocab_size=384, max_position_embeddings=256, dtype="float32")
    _save(folder, transformers.BertModel(config), tokenizer)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    _json(folder / "modules.json", [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (path, kind) in enumerate(kinds)
    ])  # fmt: skip
    _json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": WIDTH, "pooling_mode_mean_tokens": True})
    _json(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})


def write_rerank(folder: Path) -> None:
    """An XLM-R cross-encoder with one label; 256 positions (its position numbers start at 2), float32."""
    torch.manual_seed(22)
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    pieces = _byte_pairs(list(special.values()))
    _frame(pieces, "<s> $A </s>", "<s> $A </s> </s> $B </s>", ("<s>", "</s>"))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=pieces, model_max_length=256, cls_token="<s>", sep_token="</s>", **special
    )
    config = transformers.XLMRobertaConfig(
        **SIZES, vocab_size=512, max_position_embeddings=258, type_vocab_size=1, num_labels=1, initializer_range=0.2,
        bos_token_id=0, pad_token_id=1, eos_token_id=2, dtype="float32",
    )  # fmt: skip
    _save(folder, transformers.XLMRobertaForSequenceClassification(config), tokenizer)


def _byte_pairs(special: list[str]) -> Tokenizer:
    pieces = Tokenizer(models.BPE())
    pieces.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pieces.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    pieces.train_from_iterator(TEXT * 8, trainer)
    return pieces


def _frame(tokenizer: Tokenizer, single: str, pair: str, marks: tuple[str, str]) -> None:
    numbers = [(mark, tokenizer.token_to_id(mark)) for mark in marks]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=numbers)


def _json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def _save(folder: Path, model: Any, tokenizer: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def main(target: Path) -> None:
    """Writes all three under `target`, which is made when absent."""
    for name, write in (("tiny-chat", write_chat), ("tiny-embed", write_embedding), ("tiny-rerank", write_rerank)):
        write(target / name)
    for path in [target, *target.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
