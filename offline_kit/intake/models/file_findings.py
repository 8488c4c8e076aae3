"""What the files of a model lack to be loaded by an engine.

Rules: said from names and sizes alone; the engine is given one folder and reads the weights that lie directly in it
(``model_executor/model_loader/weight_utils.py``: safetensors, else ``*.bin``, else ``*.pt``, without the states of a training).
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from offline_kit.common.units import size
from offline_kit.intake.models.engine_findings import Finding
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelNeeds

CORRECT = "correct 'source' or 'revision': the weights may lie in another repository; or check 'include' and 'exclude'"
_WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
_NO_WEIGHTS = (  # what looks like weights and is none
    *("adapter_model.*", "training_args.bin", "optimizer.*", "scheduler.*", "scaler.*", "rng_state*", "random_states*"),
    "openvino_*",
)
_OTHER_FORMS = {
    "GGUF": "*.gguf",
    "ONNX": "*.onnx",
    "TensorFlow": "*.h5",
    "TensorFlow Lite": "*.tflite",
    "Flax": "*.msgpack",
    "Rust": "*.ot",
    "OpenVINO": "openvino_*",
    "TensorRT": "*.engine",
    "NeMo": "*.nemo",
    "distributed checkpoint": "*.distcp",
}
# Any of these sets is a tokenizer.
_TOKENIZERS = (
    *(("tokenizer.json",), ("tokenizer.model",), ("tekken.json",), ("spiece.model",), ("sentencepiece.bpe.model",)),
    *(("vocab.txt",), ("vocab.json", "merges.txt"), ("tiktoken.model",), ("*.tiktoken",), ("tokenizer.model.v*",)),
)
_LEFTOVERS = (
    *("*.incomplete", "*.part", "*.partial", "*.crdownload", "*.download", "*.aria2", "*.tmp"),
    *(".DS_Store", "._*", "Thumbs.db", "desktop.ini"),
)
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})(\.[a-z]+)")


def of_files(where: str, files: Sequence[LockedFile], needs: ModelNeeds | None, args: Mapping[str, Any]) -> Iterator[Finding]:
    """Weights, configuration, tokenizer of the folder that the engine is given; ``files``: paths below it."""
    names = [file.path for file in files]
    if needs is not None and needs.adapter_base is not None and "config.json" not in names:
        base = needs.adapter_base or "its base"
        remedy = f"carry {base} as a model and name this one in its engine_args: enable_lora and lora_modules"
        yield Finding(True, where, f"is an adapter of {base}, not a model", remedy)
        return
    weights = [name for name in names if is_weights(name)]
    if not weights and args.get("load_format") in (None, "auto", "safetensors", "pt"):
        yield _no_weights(where, names)
        return
    yield from _shards(where, weights)
    yield from _empty(where, files)
    if not {"config.json", "params.json"} & set(names):
        remedy = "add the config.json of the model that it was trained from"
        yield Finding(False, where, "has no config.json: no engine knows what its weights are", remedy)
    elif not {"tokenizer", "skip_tokenizer_init"} & args.keys():
        yield from _tokenizer(where, names)
    yield from _leftovers(where, names)
    if "adapter_config.json" in names:
        what = "has an adapter beside its weights: the engine serves the weights alone"
        remedy = 'give the adapter a folder and a key of its own and name it in lora_modules, or exclude: ["adapter_*"]'
        yield Finding(False, where, what, remedy)
    yield from _carried_for_nothing(where, files, args)


def is_weights(name: str) -> bool:
    """Whether the engine would load weights from this file of its folder."""
    return "/" not in name and _like(name, _WEIGHTS) and not _like(name, _NO_WEIGHTS)


def _no_weights(where: str, names: Sequence[str]) -> Finding:
    """Why there are none: another form, another folder, or nothing at all."""
    folders = sorted({name.rpartition("/")[0] for name in names if is_weights(name.rpartition("/")[2]) and "/" in name})
    if "model_index.json" in names:
        return Finding(True, where, "is a pipeline of diffusers, which no vLLM service loads", "take a model of text")
    complete = [folder for folder in folders if f"{folder}/config.json" in names]
    if complete:
        remedy = f'say "path": "/models/KEY/{complete[0]}" in models.json, or make that folder the model\'s own'
        return Finding(True, where, f"holds weights in sub-folders only: {', '.join(complete[:3])}", remedy)
    for form, pattern in _OTHER_FORMS.items():
        if any(fnmatch.fnmatchcase(name.rpartition("/")[2], pattern) for name in names):
            what = f"holds {form} files only, and the engine is given a folder of safetensors"
            return Finding(True, where, what, "take the repository that it was made from, or convert it to safetensors")
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return Finding(True, where, f"holds no weights, only {shown}", CORRECT)


def _shards(where: str, weights: Iterable[str]) -> Iterator[Finding]:
    """Every number of a sharded set is there, index or not."""
    sets: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for name in weights:
        if match := _SHARD.fullmatch(name):
            sets[match[1], int(match[3]), match[4]].add(int(match[2]))
    for (stem, count, suffix), numbers in sets.items():
        # Some count from 0; a set is whole with as many files as its names say.
        if len(numbers) < count:
            missing = next(number for number in range(1, count + 1) if number not in numbers)
            what = f"has {len(numbers)} of {count} shards: {stem}-{missing:05}-of-{count:05}{suffix} is missing"
            yield Finding(True, where, what, CORRECT)


def _empty(where: str, files: Sequence[LockedFile]) -> Iterator[Finding]:
    patterns = ("config.json", "tokenizer_config.json", *_WEIGHTS, *(name for names in _TOKENIZERS for name in names))
    for file in files:
        if file.size == 0 and "/" not in file.path and _like(file.path, patterns):
            yield Finding(True, where, f"{file.path} is empty", "download or copy it again, or use another revision")


def _leftovers(where: str, names: Sequence[str]) -> Iterator[Finding]:
    """What a download that was broken off, or a desktop, left in the folder."""
    found = [name for name in names if _like(name.rpartition("/")[2], _LEFTOVERS)]
    if found:
        begun = f"carries what a download or a desktop left behind: {', '.join(found[:3])}{' ...' if len(found) > 3 else ''}"
        patterns = sorted({pattern for pattern in _LEFTOVERS for name in found if _like(name.rpartition("/")[2], (pattern,))})
        shown = ", ".join(f'"{pattern}"' for pattern in patterns)
        yield Finding(False, where, begun, f"end the download, remove them, or exclude: [{shown}]")


def _tokenizer(where: str, names: Sequence[str]) -> Iterator[Finding]:
    if any(all(any(fnmatch.fnmatchcase(name, part) for name in names) for part in parts) for parts in _TOKENIZERS):
        return
    remedy = "add the tokenizer's files (tokenizer.json, tokenizer_config.json) of the model that it was trained from"
    if half := [name for name in ("vocab.json", "merges.txt") if name in names]:
        yield Finding(False, where, f"has half a tokenizer, {half[0]} alone", remedy)
    else:
        yield Finding(False, where, "has no tokenizer: the engine looks for one on the network and ends", remedy)


def _carried_for_nothing(where: str, files: Sequence[LockedFile], args: Mapping[str, Any]) -> Iterator[Finding]:
    """The same weights in further forms: bytes that travel and that no engine of this service loads."""
    if not any(is_weights(file.path) and file.path.endswith(".safetensors") for file in files) or "load_format" in args:
        return
    idle: dict[str, int] = defaultdict(int)
    for file in files:
        folder, _, name = file.path.rpartition("/")
        if folder == "original" and _like(name, _WEIGHTS):
            idle["original/*"] += file.size
        elif not folder and is_weights(name) and not name.endswith(".safetensors"):
            idle[f"*{name[name.rindex('.') :]}"] += file.size
        elif pattern := next((item for item in _OTHER_FORMS.values() if fnmatch.fnmatchcase(name, item)), None):
            idle[pattern] += file.size
    if idle:
        patterns = ", ".join(f'"{pattern}"' for pattern in sorted(idle))
        what = f"carries {size(sum(idle.values()))} of other forms of its weights, which are not loaded beside safetensors"
        yield Finding(False, where, what, f"exclude: [{patterns}]")


def _like(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
