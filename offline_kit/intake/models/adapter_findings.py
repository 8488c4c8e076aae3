"""Whether what an engine's arguments name besides its model is in the kit: drafters, adapters, tokenizers, templates, parsers.

Rules: no engine reaches a hub, so a name of one is refused; what else is named outside of /models can only be in the engine
image, which is warned of; an adapter's rank has to be one that the engine reserves for. A chat template is the text itself
where it holds a brace or a line break (vLLM: ``chat_utils.py`` load_chat_template).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from offline_kit.intake.models.engine_findings import Finding
from offline_kit.runtime.gpu_plan.arguments import as_object
from offline_kit.runtime.settings.model import lora_modules
from offline_kit.spec.lock import Lock, LockedModel

_RANK = 16  # vLLM's max_lora_rank where none is given
_FILES = ("chat_template", "tool_parser_plugin", "reasoning_parser_plugin")


def of_named(key: str, args: Mapping[str, Any], lock: Lock, served: LockedModel) -> Iterator[Finding]:
    """What the service ``key`` of the model ``served`` names and does not find, or cannot use."""
    adapters = lora_modules(args.get("lora_modules"))
    yield from _unnamed(f"{key}: engine_args.lora_modules", args.get("lora_modules"))
    for argument, place in [*_models(args), *(("lora_modules", path) for _, path in adapters if path)]:
        if _model_at(place, lock) is None:
            remedy = "add it to 'models' of the manifest under a key of its own, and name it /models/KEY here"
            yield Finding(True, f"{key}: engine_args.{argument}", f"'{place}' is not in the kit", remedy)
    yield from _files(key, args, lock)
    if adapters and not args.get("enable_lora"):
        remedy = 'say "enable_lora": true in its engine_args'
        yield Finding(False, f"{key}: engine_args.lora_modules", "names adapters, and enable_lora is not set", remedy)
    for name, path in adapters:
        model = _model_at(path, lock)
        if model is not None:
            yield from _adapter(f"{key}: engine_args.lora_modules: {name}", path, model, args)
            yield from _base(f"{key}: engine_args.lora_modules: {name}", path, model, served)


def draft_of(args: Mapping[str, Any], lock: Lock) -> LockedModel | None:
    """The model of the kit that drafts for this service."""
    return next((_model_at(place, lock) for argument, place in _models(args) if argument == "speculative_config"), None)


def _unnamed(where: str, modules: object) -> Iterator[Finding]:
    """Entries in which vLLM's reader finds no name or no path, and ends."""
    for module in modules if isinstance(modules, list) else [modules] if modules is not None else []:
        if not any(name and path for name, path in lora_modules(module)):
            remedy = 'write "NAME=/models/KEY", or {"name": "NAME", "path": "/models/KEY"}'
            yield Finding(True, where, f"{ascii(module)[:80]} does not name an adapter and its path", remedy)


def _models(args: Mapping[str, Any]) -> Iterator[tuple[str, object]]:
    draft = as_object(args.get("speculative_config"))
    if draft.get("model"):
        yield "speculative_config", draft["model"]
    for argument in ("tokenizer", "hf_config_path", "generation_config"):
        if args.get(argument) and args[argument] not in ("auto", "vllm"):
            yield argument, args[argument]


def _files(key: str, args: Mapping[str, Any], lock: Lock) -> Iterator[Finding]:
    """Files that arguments name; the engine starts in the root folder."""
    for argument in _FILES:
        place = args.get(argument)
        if not isinstance(place, str) or set(place) & set("{}\n") or not ("/" in place or "." in place):
            continue
        path = PurePosixPath("/", place)
        model = _model_at(path, lock)
        where = f"{key}: engine_args.{argument}"
        if path.parts[:2] != ("/", "models"):
            remedy = f"unless the image has it, add it to the model ('add' in the manifest) and write /models/KEY/{path.name}"
            yield Finding(False, where, f"'{place}' is not in the kit: the engine image must have it", remedy)
        elif model is None or "/".join(path.parts[3:]) not in {file.path for file in model.files}:
            remedy = "correct it, look at 'include' and 'exclude', or add the file to the model ('add' in the manifest)"
            yield Finding(True, where, f"there is no file '{place}' in the kit", remedy)


def _model_at(place: object, lock: Lock) -> LockedModel | None:
    parts = str(place).split("/")
    return lock.models.get(parts[2]) if parts[:2] == ["", "models"] and len(parts) > 2 else None


def _adapter(where: str, path: str, model: LockedModel, args: Mapping[str, Any]) -> Iterator[Finding]:
    """The folder holds an adapter that this engine can take."""
    inside = "/".join(path.split("/")[3:]).strip("/")
    names = {file.path for file in model.files}
    missing = [name for name in ("adapter_config.json",) if f"{inside}/{name}".lstrip("/") not in names]
    if not any(f"{inside}/adapter_model{suffix}".lstrip("/") in names for suffix in (".safetensors", ".bin", ".pt")):
        missing.append("adapter_model.safetensors")
    if missing:
        yield Finding(True, where, f"'{path}' is no adapter: {', '.join(missing)} missing", "correct the path, or 'exclude'")
    rank = model.needs.adapter_rank if model.needs and not inside else None
    most = args.get("max_lora_rank", _RANK)
    if rank and isinstance(most, int) and rank > most:
        remedy = f'say "max_lora_rank": {_next_rank(rank)} in its engine_args'
        yield Finding(True, where, f"has rank {rank}, the engine reserves for {most}", remedy)


def _base(where: str, path: str, adapter: LockedModel, served: LockedModel) -> Iterator[Finding]:
    """The adapter was made for the model that is served: by the last parts of their names, for owners differ."""
    base = adapter.needs.adapter_base if adapter.needs and not "/".join(path.split("/")[3:]).strip("/") else None
    names = [text.rstrip("/").rpartition("/")[2].lower() for text in (base or "", served.source)]
    if all(names) and served.commit and names[0] != names[1]:
        what = f"was made for {base}, and is served with {served.source}"
        yield Finding(False, where, what, "carry the model that it was made for, or try it before it travels")


def _next_rank(rank: int) -> int:
    """The smallest of the ranks that vLLM knows which holds this one (``config/lora.py``)."""
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), rank)
