"""What a model asks of its engine, read from its small files when it is locked.

Rules: no weights are read; what is absent or cannot be read says nothing (``findings`` decides what that means); a git-LFS
pointer in place of a file is refused at once, for nobody wants to carry it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from offline_kit.common.errors import DigestMismatch
from offline_kit.common.json_text import parse_json
from offline_kit.spec.lock import LockedFile
from offline_kit.spec.lock_facts import ModelNeeds
from offline_kit.spec.parsers import marks_in

Read = Callable[[LockedFile, int, int], bytes]
_LONGEST = 16 << 20  # bytes of a JSON file that is read
_POINTER, _POINTER_SIZES = b"version https://git-lfs.github.com/spec/", range(100, 400)
_SMALL = ("config.json", "tokenizer_config.json", "generation_config.json")
_SENTENCES = tuple(f"sentence_{kind}_config.json" for kind in ("bert", "roberta", "distilbert", "camembert", "albert"))
_SENTENCES += ("sentence_xlm-roberta_config.json", "sentence_xlnet_config.json")
_UNREADABLE: Mapping[str, Any] = {}  # told from other empty ones by identity
_LONGEST_CODE = 1 << 20
_RELATIVE = re.compile(rb"^[ \t]*from[ \t]+\.([A-Za-z_]\w{0,99})[ \t]+import\b", re.M)
_TEMPLATES = ("chat_template.jinja", "chat_template.json", "tekken.json")  # tekken.json: mistral-common has the template


def read_needs(files: Sequence[LockedFile], read: Read, model: str, remedy: str) -> ModelNeeds:
    """The needs of the model with these files. Raises DigestMismatch (a git-LFS pointer; ``remedy`` against it)."""
    by_path = {file.path: file for file in files}
    sizes = {path: file.size for path, file in by_path.items()}
    refuse_pointers(sizes, lambda path: read(by_path[path], 0, sizes[path]), model, remedy)
    contents = {name: _json(by_path, name, read) for name in (*_SMALL, "adapter_config.json")}
    config, tokenizer, adapter = contents["config.json"], contents["tokenizer_config.json"], contents["adapter_config.json"]
    rank = adapter.get("r")
    code = [*_code(config), *_code(tokenizer)]
    return ModelNeeds(
        architectures=_texts(config.get("architectures")),
        model_type=_text(config.get("model_type")),
        transformers_version=_text(config.get("transformers_version")),
        code=tuple(sorted({*code, *_imported(code, by_path, read)})),
        chat_template=bool(tokenizer.get("chat_template")) or any(name in by_path for name in _TEMPLATES),
        template_marks=marks_in(_templates(tokenizer, by_path, read)),
        vision=any(isinstance(config.get(name), dict) for name in ("vision_config", "audio_config")),
        adapter_base=_text(adapter.get("base_model_name_or_path")) if "adapter_config.json" in by_path else None,
        adapter_rank=rank if isinstance(rank, int) else None,
        quantization=_quantization(config),
        max_length=_max_length(by_path, read),
        unreadable=(*(name for name, content in contents.items() if content is _UNREADABLE), *_no_objects(by_path, read)),
    )


def refuse_pointers(sizes: Mapping[str, int], read: Callable[[str], bytes], model: str, remedy: str) -> None:
    """Raises DigestMismatch where one of the files (path -> bytes) is a git-LFS pointer; ``remedy`` against it."""
    found = [path for path, size in sizes.items() if size in _POINTER_SIZES and read(path).startswith(_POINTER)]
    if found:
        shown = ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")
        raise DigestMismatch(f"a git-LFS pointer instead of the file: {shown}", where=model, remedy=remedy)


def _json(by_path: Mapping[str, LockedFile], name: str, read: Read) -> Mapping[str, Any]:
    """The object in the file; nothing where it is absent or too long, _UNREADABLE where it is none."""
    file = by_path.get(name)
    if file is None or file.size > _LONGEST:
        return {}
    try:
        content = parse_json(read(file, 0, file.size), _LONGEST)
    except ValueError:
        return _UNREADABLE
    return content if isinstance(content, dict) else _UNREADABLE


def _no_objects(by_path: Mapping[str, LockedFile], read: Read) -> list[str]:
    """Tokenizers that do not begin and end as a JSON object does: a page of a login or of an error, or half a file.

    They are too long to be read.
    """
    files = [by_path[name] for name in ("tokenizer.json", "tekken.json") if name in by_path and by_path[name].size]
    return [file.path for file in files if not _is_object(file, read)]


def _is_object(file: LockedFile, read: Read) -> bool:
    begins = read(file, 0, min(file.size, 64)).lstrip().startswith(b"{")
    return begins and read(file, max(file.size - 64, 0), file.size).rstrip().endswith(b"}")


def _max_length(by_path: Mapping[str, LockedFile], read: Read) -> int | None:
    """``max_seq_length`` of the first such file that has one (transformers_utils/config.py
    get_sentence_transformer_tokenizer_config)."""
    for name in _SENTENCES:
        length = _json(by_path, name, read).get("max_seq_length")
        if isinstance(length, int) and not isinstance(length, bool) and length > 0:
            return length
    return None


def _templates(tokenizer: Mapping[str, Any], by_path: Mapping[str, LockedFile], read: Read) -> Iterator[str]:
    """The texts of its chat templates, wherever they stand."""
    file = by_path.get("chat_template.jinja")
    if file is not None and file.size <= _LONGEST:
        yield read(file, 0, file.size).decode("utf-8", "replace")
    for template in (tokenizer.get("chat_template"), _json(by_path, "chat_template.json", read).get("chat_template")):
        for item in template if isinstance(template, list) else [template]:
            yield _text(item.get("template") if isinstance(item, dict) else item)


def _quantization(config: Mapping[str, Any]) -> str:
    """How the weights are quantised; MLX says so under a key of its own."""
    quantization = config.get("quantization_config")
    if isinstance(quantization, dict):
        return _text(quantization.get("quant_method"))
    own = config.get("quantization")
    return "mlx" if isinstance(own, dict) and "group_size" in own else ""


def _code(config: Mapping[str, Any]) -> list[str]:
    """The classes that ``auto_map`` names, a pair of tokenizers included."""
    found = []
    entries = config.get("auto_map")
    for value in entries.values() if isinstance(entries, dict) else ():
        found += [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str)]
    return found


def _imported(code: Sequence[str], by_path: Mapping[str, LockedFile], read: Read) -> set[str]:
    """Modules beside it that the model's code imports, and those that these do, as ``MODULE.*``: transformers wants all."""
    found: set[str] = set()
    waiting = [item.rpartition(".")[0] for item in code if "--" not in item]
    while waiting:
        file = by_path.get(f"{waiting.pop()}.py")
        if file is None or file.size > _LONGEST_CODE:
            continue
        new = {name.decode() for name in _RELATIVE.findall(read(file, 0, file.size))}
        waiting += [name for name in new if f"{name}.*" not in found]
        found |= {f"{name}.*" for name in new}
    return found


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
